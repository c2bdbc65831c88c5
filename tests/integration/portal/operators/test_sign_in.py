"""Signing in through allauth as we set it up, and the JSON routes' authentication, by real requests."""

from __future__ import annotations

import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from django.test import Client

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.operators import services
from provider_federation.portal.operators.models import Operator

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
LOGIN, HOME, INSTANCES = "/accounts/login/", "/", "/api/provider/instances"


@pytest.fixture
def ada() -> Operator:
    cache.clear()
    return services.add_operator(email="ada@example.com", password=PASSWORD, role="admin", name="Ada")


def sign_in(
    client: Client, email: str = "ada@example.com", password: str = PASSWORD, host: str = "testserver", **more
):
    return client.post(LOGIN, {"login": email, "password": password, **more}, headers={"host": host})


def totp_now(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def test_a_stranger_is_sent_to_the_sign_in_and_back(client, ada):
    answer = client.get("/instances/?q=x")
    assert (answer.status_code, answer.headers["Location"]) == (
        302,
        "/accounts/login/?next=/instances/%3Fq%3Dx",
    )
    assert client.get(LOGIN).status_code == 200
    assert sign_in(client, next="/instances/?q=x").headers["Location"] == "/instances/?q=x"
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "%2f%2fevil.example",
        "\thttps://evil.example",
    ],
)
def test_next_leads_nowhere_else(client, ada, target):
    location = sign_in(client, next=target).headers["Location"]
    assert not location.startswith(("//", "http", "javascript", "\\"))
    assert "evil" not in location or location.startswith("%2f")


def test_a_wrong_password_and_an_unknown_address_look_the_same(client, ada):
    wrong, unknown = sign_in(client, password="nope nope nope"), sign_in(client, email="eve@example.com")
    assert wrong.status_code == unknown.status_code == 200
    said = [
        answer.content.decode().split('role="alert"')[1].split("</div>")[0] for answer in (wrong, unknown)
    ]
    assert said[0] == said[1]
    kinds = (
        AuditEvent.objects.filter(kind="operator.sign_in_failed")
        .order_by("number")
        .values_list("subject", flat=True)
    )
    assert list(kinds) == ["operator:ada@example.com", "operator:unknown"]


def test_an_inactive_operator_does_not_get_in(client, ada):
    Operator.objects.filter(pk=ada.pk).update(is_active=False)
    sign_in(client)
    assert client.get(HOME).status_code == 302


def test_guessing_is_slowed_down(client, ada):
    answers = [sign_in(client, password=f"wrong {at} wrong").content.decode() for at in range(8)]
    assert "Too many failed login attempts" in answers[-1]
    assert "Too many failed login attempts" in sign_in(client).content.decode()
    cache.clear()
    assert sign_in(client).status_code == 302


def test_another_port_in_the_host_header_is_no_fresh_start_for_guessing(client, ada):
    for port in range(1, 9):
        sign_in(client, password=f"wrong {port} wrong", host=f"testserver:{port}")
    assert "Too many failed login attempts" in sign_in(client, host="testserver:99").content.decode()


def test_the_session_is_a_new_one_after_signing_in(client, ada):
    client.get(LOGIN)
    session = client.session
    session["marker"] = "planted"
    session.save()
    planted = session.session_key
    sign_in(client)
    assert client.session.session_key != planted
    other = Client()
    other.cookies["portal"] = planted
    assert other.get(HOME).status_code == 302


@pytest.mark.parametrize(
    "path", ["/accounts/signup/", "/accounts/password/reset/", "/accounts/email/", "/accounts/social/"]
)
def test_what_we_do_not_offer_is_not_there(client, path):
    assert client.get(path).status_code == 404


def test_the_admin_sign_in_is_ours(client):
    assert client.get("/admin/login/?next=/").headers["Location"].startswith(LOGIN)


def test_signing_out_needs_a_post_and_ends_the_session(client, ada):
    sign_in(client)
    old = client.cookies["portal"].value
    assert client.get("/accounts/logout/").status_code == 200
    assert client.get(HOME).status_code == 200
    client.post("/accounts/logout/")
    other = Client()
    other.cookies["portal"] = old
    assert other.get(HOME).status_code == 302


def test_a_login_form_of_another_site_is_refused(ada):
    assert sign_in(Client(enforce_csrf_checks=True)).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        lambda ada: services.set_password(ada.pk, "another long password", actor="t"),
        lambda ada: services.change_operator(ada.pk, actor="t", role="support", name="Ada", is_active=True),
        lambda ada: services.change_operator(ada.pk, actor="t", role="admin", name="Ada", is_active=False),
    ],
)
def test_old_sessions_end_with_the_password_the_role_and_the_account(client, ada, change):
    services.add_operator(email="eve@example.com", password=PASSWORD, role="admin")
    sign_in(client)
    assert client.get(INSTANCES).status_code == 200
    change(ada)
    answer = client.get(INSTANCES)
    assert (answer.status_code, answer.json()["reason"]) == (401, "not_signed_in")


def test_changing_ones_own_password_keeps_this_session_and_ends_the_others(client, ada):
    other = Client()
    sign_in(client)
    sign_in(other)
    fields = {
        "oldpassword": PASSWORD,
        "password1": "another long password",
        "password2": "another long password",
    }
    assert client.post("/accounts/password/change/", fields).status_code == 302
    assert (client.get(HOME).status_code, other.get(HOME).status_code) == (200, 302)
    assert AuditEvent.objects.filter(
        kind="operator.password_changed", actor="operator:ada@example.com"
    ).exists()


def activate_totp(client: Client) -> str:
    asked = client.get("/accounts/2fa/totp/activate/")
    assert asked.headers["Location"].startswith("/accounts/reauthenticate/"), (
        "a stolen session adds no factor"
    )
    assert client.get(asked.headers["Location"]).status_code == 200
    assert client.post(asked.headers["Location"], {"password": PASSWORD}).status_code == 302
    page = client.get("/accounts/2fa/totp/activate/")
    assert page.status_code == 200
    assert "data:image/svg+xml" in page.content.decode()
    secret = page.context["form"].secret
    assert client.post("/accounts/2fa/totp/activate/", {"code": totp_now(secret)}).status_code == 302
    return secret


def test_two_factors(client, ada):
    sign_in(client)
    secret = activate_totp(client)
    assert secret not in json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert client.get("/accounts/2fa/recovery-codes/").status_code == 200
    assert client.get("/accounts/2fa/").status_code == 200
    cache.clear()  # the code that activated it counts as used until its time is over
    other = Client()
    assert sign_in(other).headers["Location"] == "/accounts/2fa/authenticate/"
    assert other.get(HOME).status_code == 302
    assert other.get("/accounts/2fa/authenticate/").status_code == 200
    assert other.post("/accounts/2fa/authenticate/", {"code": "000000"}).status_code == 200
    code = totp_now(secret)
    assert other.post("/accounts/2fa/authenticate/", {"code": code}).status_code == 302
    assert other.get(HOME).status_code == 200
    third = Client()
    sign_in(third)
    third.post("/accounts/2fa/authenticate/", {"code": code})
    assert third.get(HOME).status_code == 302, "a code works once"


def test_a_recovery_code_works_once(client, ada):
    sign_in(client)
    activate_totp(client)
    code = client.get("/accounts/2fa/recovery-codes/").context["unused_codes"][0]
    for status in (200, 302):
        other = Client()
        sign_in(other)
        other.post("/accounts/2fa/authenticate/", {"code": code})
        assert other.get(HOME).status_code == status


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_token_reads_what_its_role_may(client, ada):
    _, secret = services.create_token(name="one", role="support", actor="t")
    assert client.get(INSTANCES, headers=bearer(secret)).status_code == 200
    refused = client.post(INSTANCES, {}, content_type="application/json", headers=bearer(secret))
    assert refused.status_code in {400, 403}
    full = {
        "name": "a",
        "clientOrgId": "a",
        "baseUrl": "https://a.example",
        "key": {"id": "k", "secret": "s" * 40},
    }
    refused = client.post(INSTANCES, full, content_type="application/json", headers=bearer(secret))
    assert (refused.status_code, refused.json()["reason"], refused.json()["ok"]) == (403, "forbidden", False)


def test_a_bad_token_never_falls_through_to_the_cookie(client, ada):
    sign_in(client)
    for header in ("Bearer pft_" + "a" * 43, "Bearer", "Basic YTpi", "", "pft_x"):
        answer = client.get(INSTANCES, headers={"Authorization": header})
        assert (answer.status_code, answer.json()["reason"]) == (401, "not_signed_in")


def test_a_write_by_cookie_needs_the_csrf_token(ada):
    client = Client(enforce_csrf_checks=True)
    client.get(LOGIN)
    token = client.cookies["csrftoken"].value
    sign_in(client, csrfmiddlewaretoken=token)
    assert client.get(INSTANCES).status_code == 200
    answer = client.post(INSTANCES, {}, content_type="application/json")
    assert (answer.status_code, answer.json()["reason"]) == (403, "csrf_failed")


def test_anonymous_programs_are_told_to_sign_in(client):
    answer = client.get(INSTANCES)
    assert (answer.status_code, answer.json()["ok"], answer.json()["reason"]) == (401, False, "not_signed_in")
