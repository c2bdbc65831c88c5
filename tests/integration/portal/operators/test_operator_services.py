"""Operators and tokens: made, changed, judged; and what reaches the audit log."""

from __future__ import annotations

from datetime import timedelta

import pytest

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.operators import services
from provider_federation.portal.operators.models import ApiToken, Operator
from provider_federation.portal.operators.permissions import KNOWN, PERMISSIONS

pytestmark = pytest.mark.django_db
GOOD = "correct horse battery staple"


def make(role: str = "support", email: str = "ada@example.com") -> Operator:
    return services.add_operator(email=email, password=GOOD, role=role, name="Ada")


def code_of(function, *arguments, **named) -> str:
    with pytest.raises(Problem) as caught:
        function(*arguments, **named)
    return caught.value.code


def test_what_each_role_may_do():
    assert PERMISSIONS["admin"] == KNOWN
    assert PERMISSIONS["billing"] == {
        "billing.read",
        "billing.manage",
        "fleet.read",
        "fleet.act",
        "instances.read",
    }
    assert PERMISSIONS["support"] == {"billing.read", "fleet.read", "instances.read", "instances.check"}
    assert {"instances.manage", "operators.manage", "audit.read"} <= PERMISSIONS["admin"]


@pytest.mark.parametrize("role", ["admin", "billing", "support"])
@pytest.mark.parametrize("permission", sorted(KNOWN))
def test_allowed_follows_the_role(role, permission):
    assert services.allowed(make(role), permission) is (permission in PERMISSIONS[role])


def test_nobody_and_the_inactive_are_allowed_nothing():
    operator = make("admin")
    operator.is_active = False
    assert not any(
        services.allowed(who, permission) for permission in KNOWN for who in (None, operator, "admin")
    )
    assert (operator.is_staff, operator.is_superuser, operator.has_perm("x.y")) == (False, False, False)


def test_an_unknown_permission_is_a_bug():
    with pytest.raises(ValueError, match=r"instances\.mange"):
        services.allowed(None, "instances.mange")


def test_an_address_is_one_operator_whatever_its_case():
    assert make(email="Ada@Example.COM ").email == "ada@example.com"
    assert code_of(make, email="ADA@example.com") == "operator_exists"
    assert Operator.objects.get_by_natural_key("ADA@EXAMPLE.com").name == "Ada"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"role": "root"}, "role"),
        ({"password": "short"}, "password"),
        ({"password": "password1234"}, "password"),
        ({"password": "ada@example.com"}, "password"),
    ],
)
def test_a_bad_operator_is_refused_and_nothing_is_written(changes, field):
    given = {"email": "ada@example.com", "password": GOOD, "role": "support", **changes}
    with pytest.raises(Problem) as caught:
        services.add_operator(**given)
    assert (caught.value.status, caught.value.details["field"]) == (400, field)
    assert not Operator.objects.exists()


def test_the_password_is_kept_as_argon2_only():
    assert make().password.startswith("argon2$argon2id$")


@pytest.mark.parametrize(("role", "is_active"), [("billing", True), ("admin", False)])
def test_the_last_admin_stays(role, is_active):
    admin = make("admin")
    assert (
        code_of(services.change_operator, admin.pk, actor="t", role=role, name="A", is_active=is_active)
        == "last_admin"
    )
    make("admin", "eve@example.com")
    services.change_operator(admin.pk, actor="t", role=role, name="A", is_active=is_active)


def test_changes_are_audited_with_their_actor():
    operator = services.add_operator(email="bo@example.com", password=GOOD, actor="operator:ada@example.com")
    services.change_operator(
        operator.pk, actor="operator:ada@example.com", role="billing", name="Bo", is_active=True
    )
    services.change_operator(
        operator.pk, actor="operator:ada@example.com", role="billing", name="Bo", is_active=False
    )
    services.set_password(operator.pk, "another long password", actor="operator:ada@example.com")
    events = list(AuditEvent.objects.order_by("number").values_list("kind", "actor", "subject"))
    assert [kind for kind, _, _ in events] == [
        "operator.added",
        "operator.changed",
        "operator.deactivated",
        "operator.password_changed",
    ]
    assert {(actor, subject) for _, actor, subject in events} == {
        ("operator:ada@example.com", "operator:bo@example.com")
    }


@pytest.mark.parametrize(
    "function",
    [
        lambda: services.change_operator(999, actor="t", role="admin", name="", is_active=True),
        lambda: services.set_password(999, GOOD, actor="t"),
    ],
)
def test_an_unknown_operator_is_not_found(function):
    assert code_of(function) == "not_found"


def test_a_token_is_shown_once_and_kept_as_a_digest():
    token, secret = services.create_token(name="nightly", role="billing", actor="operator:ada@example.com")
    assert secret.startswith("pft_")
    assert len(secret) == 47
    stored = ApiToken.objects.values().get()
    assert secret not in str(stored)
    assert token.prefix == secret[:10]
    assert services.find_token(secret) == token
    assert services.actor_of(token) == "token:nightly"
    assert services.allowed(token, "billing.manage")
    assert not services.allowed(token, "operators.manage")


@pytest.mark.parametrize(
    "presented", ["", "pft_", "pft_" + "a" * 43, "sk_test_" + "a" * 43, "pft_" + "ä" * 43, "a" * 10_000]
)
def test_what_is_no_token_of_ours_finds_none(presented):
    services.create_token(name="nightly", role="billing", actor="t")
    assert services.find_token(presented) is None


def test_a_revoked_or_expired_token_is_none():
    revoked, secret = services.create_token(name="one", role="admin", actor="t")
    services.revoke_token(revoked.pk, actor="t")
    services.revoke_token(revoked.pk, actor="t")
    assert services.find_token(secret) is None
    expired, secret = services.create_token(
        name="two", role="admin", actor="t", expires_at=clock.now() + timedelta(hours=1)
    )
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=clock.now())
    assert services.find_token(secret) is None
    expired.refresh_from_db()
    assert (expired.state, services.allowed(expired, "billing.read")) == ("expired", False)
    assert [
        kind for kind in AuditEvent.objects.values_list("kind", flat=True) if kind == "token.revoked"
    ] == ["token.revoked"]


def test_bad_tokens_are_refused():
    services.create_token(name="one", role="admin", actor="t")
    assert code_of(services.create_token, name="one", role="admin", actor="t") == "token_exists"
    assert code_of(services.create_token, name="<b>", role="admin", actor="t") == "invalid_field"
    assert code_of(services.create_token, name="two", role="root", actor="t") == "invalid_field"
    assert (
        code_of(services.create_token, name="two", role="admin", actor="t", expires_at=clock.now())
        == "invalid_field"
    )


def test_the_use_of_a_token_is_noted_at_most_once_a_minute(django_assert_num_queries):
    token, secret = services.create_token(name="one", role="admin", actor="t")
    services.find_token(secret)
    token.refresh_from_db()
    assert token.last_used_at is not None
    with django_assert_num_queries(1):
        services.find_token(secret)
