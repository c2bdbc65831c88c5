"""Who may open what: every address of the pages, for everybody."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, reverse
from tests.integration.instance.pages.conftest import ROLES, World, anonymous

from provider_federation.instance.disputes.models import Dispute
from provider_federation.instance.federation.models import FederationKey
from provider_federation.instance.invoicing.models import Invoice, StripeEvent
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.pages.urls import urlpatterns
from provider_federation.instance.people.models import Person
from provider_federation.kit import clock
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import new_seed, public_text

SEEN_BY_ALL = {
    "overview",
    "federation",
    "alerts",
    "leads",
    "lead",
    "customers",
    "invoices",
    "invoices_csv",
    "invoice",
    "usage",
    "account",
    "sign_out",
    "stripe_events",
    "disputes",
    "disputes_csv",
}
BILLING = {
    "dispute",
    "convert",
    "eligible",
    "not_eligible",
    "billing",
    "draft",
    "send",
    "void",
    "apply_events",
    "event_retry",
    "sweep",
}
OWNERS = {
    "people",
    "person_add",
    "person_role",
    "person_password",
    "person_activate",
    "person_deactivate",
    "federation_policy",
    "invite",
    "close_enrolment",
    "revoke_key",
    "reset_ratchet",
}
READ_ONLY = {
    "overview",
    "federation",
    "alerts",
    "leads",
    "lead",
    "customers",
    "invoices",
    "invoices_csv",
    "invoice",
    "usage",
    "billing",
    "people",
    "disputes",
    "disputes_csv",
    "stripe_events",
}
NAMES = sorted(str(pattern.name) for pattern in urlpatterns if isinstance(pattern, URLPattern))


def address(name: str, world: World) -> str:
    rows = {
        "lead": world.billable,
        "convert": world.fresh,
        "dispute": world.billable,
        "eligible": world.billable,
        "not_eligible": world.billable,
        "invoice": world.draft,
        "send": world.draft,
        "void": world.draft,
        "person_role": world.other,
        "person_password": world.other,
        "person_activate": world.other,
        "person_deactivate": world.other,
        "event_retry": world.parked,
    }
    query = "?key=old-portal" if name == "revoke_key" else ""
    return reverse(name, args=[rows[name].pk] if name in rows else []) + query


def state() -> tuple[object, ...]:
    return (
        list(Invoice.objects.order_by("pk").values_list("pk", "status", "sent_at")),
        list(Lead.objects.order_by("pk").values_list("pk", "status", "eligible", "converted_at")),
        list(StripeEvent.objects.order_by("pk").values_list("pk", "state", "attempts")),
        list(Dispute.objects.values_list("pk", "state")),
        list(Person.objects.order_by("pk").values_list("pk", "role", "is_active", "password")),
    )


def test_every_address_is_in_this_file() -> None:
    assert set(NAMES) == SEEN_BY_ALL | BILLING | OWNERS | {"sign_in"}


@pytest.mark.parametrize("name", NAMES)
def test_reading_by_role(name: str, world: World, clients: dict[str, Client]) -> None:
    FederationKey.objects.create(
        key_id="old-portal",
        source="enrolled",
        created_at=clock.now(),
        public_key=public_text(Key("old-portal", "ed25519", secret=new_seed())),
        scope="read",
    )
    target = address(name, world)
    if name == "sign_in":
        assert clients["nobody"].get(target).status_code == 200
        return
    refused = clients["nobody"].get(target)
    assert refused.status_code == 302
    assert refused["Location"].startswith("/sign-in?next=%2F")
    allowed = set(ROLES) if name in SEEN_BY_ALL else {"owner", "billing"} if name in BILLING else {"owner"}
    for role in ROLES:
        answer = clients[role].get(target)
        assert answer.status_code == (200 if role in allowed else 403), (name, role)
        assert answer["Cache-Control"] == "no-store"
        assert "<script" not in answer.content.decode().lower()
        assert "style=" not in answer.content.decode()


@pytest.mark.parametrize("name", sorted((BILLING | OWNERS) - READ_ONLY))
def test_writing_is_refused_without_the_role_and_without_the_token(
    name: str, world: World, clients: dict[str, Client], people: dict[str, Person]
) -> None:
    target, before = address(name, world), state()
    assert clients["nobody"].post(target).status_code == 302
    assert clients["viewer"].post(target).status_code == 403
    if name in OWNERS:
        assert clients["billing"].post(target).status_code == 403
    strict = anonymous(csrf=True)
    strict.force_login(people["owner"])
    page = strict.post(target)
    assert page.status_code == 403
    assert "Please load the page again" in page.content.decode()
    assert state() == before


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_a_page_that_only_shows_takes_no_post(name: str, world: World, owner: Client) -> None:
    answer = owner.post(address(name, world))
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_a_viewer_sees_no_action(world: World, clients: dict[str, Client]) -> None:
    for name in ("overview", "lead", "invoice", "invoices", "alerts", "leads", "stripe_events"):
        viewers, owners = (
            clients[role].get(address(name, world)).content.decode() for role in ("viewer", "owner")
        )
        for action in (
            "/send",
            "/void",
            "/convert",
            '/dispute"',
            "/retry",
            "/sweep",
            'eligible">',
            'href="/billing',
            'href="/people',
        ):
            assert action not in viewers, (name, action)
        assert 'href="/billing' in owners


@pytest.mark.parametrize(
    "target",
    [
        "/leads/999999",
        "/invoices/999999",
        "/invoices/0",
        "/invoices/99999999999999999999",
        "/people/999999/role",
        "/nothing",
        "/leads/1;x",
        "/invoices/%00",
    ],
)
def test_what_is_not_there_is_a_404_page(target: str, owner: Client) -> None:
    answer = owner.get(target)
    assert answer.status_code == 404
    assert "To the overview" in answer.content.decode()
    assert answer["Content-Security-Policy"].startswith("default-src 'self'")


@pytest.mark.parametrize(
    "target",
    [
        "/sign-in",
        "/",
        "/nothing",
        "/health/live",
        "/api/billing/list",
        "/api/nothing",
        "/static/instance/nothing.css",
    ],
)
def test_security_headers_are_everywhere(target: str, db: None) -> None:
    answer = anonymous().get(target)
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert "unsafe" not in answer["Content-Security-Policy"]


def test_cookies_are_out_of_reach_of_scripts(people: dict[str, Person]) -> None:
    client = anonymous()
    client.post("/sign-in", {"email": "owner@x.example", "password": "a long enough passphrase"})
    for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME):
        assert client.cookies[name]["httponly"]
        assert client.cookies[name]["samesite"] == "Lax"


def test_too_large_and_unreadable_are_pages(owner: Client) -> None:
    big = owner.post("/people/add", {"name": "x" * 1_100_000})
    assert (big.status_code, "too much at once" in big.content.decode()) == (413, True)
    many = owner.post("/people/add", {f"f{number}": "1" for number in range(1_100)})
    assert many.status_code == 413
    wrong_host = owner.get("/", headers={"host": "elsewhere.example"})
    assert wrong_host.status_code == 400
    assert "cannot be read" in wrong_host.content.decode()
    assert (
        owner.post(
            "/api/billing/invoices.create", b"{" + b" " * 1_100_000, content_type="application/json"
        ).json()["ok"]
        is False
    )


def test_a_fault_is_a_page_without_details(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from provider_federation.instance.pages import figures

    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(figures, "overview", broken)
    owner.raise_request_exception = False
    answer = owner.get("/")
    assert answer.status_code == 500
    assert "on our side" in answer.content.decode()
    assert "secret detail" not in answer.content.decode()


def test_nothing_of_a_key_is_shown_but_its_facts(clients: dict[str, Client], settings: object) -> None:
    from provider_federation.protocol.config import read_environment

    settings.FEDERATION = read_environment(
        {
            "PROVIDER_FEDERATION_ENABLED": "1",
            "PROVIDER_FEDERATION_SIG_SHA256": "1",
            "PROVIDER_FEDERATION_ENV": "development",
            "PROVIDER_KEYS_JSON": '{"key-of-ours": "0123456789abcdef-material-89abcdef"}',
            "PROVIDER_LEGACY_UNTIL": "2027-01-31",
        }
    )
    assert clock.now()
    shown = {role: clients[role].get("/federation").content.decode() for role in ROLES}
    assert "key-of-ours" in shown["owner"]
    assert "key-of-ours" not in shown["viewer"]
    assert "2027-02-01 00:00 UTC" in shown["viewer"]
    assert all("material" not in text for text in shown.values())


@pytest.mark.parametrize(
    ("target", "kind"), [("/sign-in", "text/html"), ("/api/billing/invoices.create", "application/json")]
)
def test_the_rim_answers_with_the_same_headers(server: Any, target: str, kind: str) -> None:
    answer = server.anonymous("POST", target, content=b"x" * 1_500_000)
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (413, kind)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert ("too much at once" in answer.text) == (kind == "text/html")


def test_a_refused_federation_request_has_them_too(server: Any) -> None:
    answer = server.anonymous("GET", "/api/billing/list", headers={"X-Provider-KeyId": "portal"})
    assert 400 <= answer.status_code < 500
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
