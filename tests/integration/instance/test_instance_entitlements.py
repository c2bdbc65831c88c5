"""What the portal says this instance may use: taken in any order, shown, and kept to without losing anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from provider_federation.instance.entitlements.models import Entitlement
from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.people.models import Person
from provider_federation.instance.people.services import add_person, set_active
from provider_federation.instance.usage.models import AiUsageEvent
from provider_federation.instance.usage.services import check_ai_credits, record_ai_usage, use_ai
from provider_federation.kit.problem import Problem

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/federation/entitlements"
PASSWORD = "a long enough passphrase"


def told(version: int = 1, **more: Any) -> dict[str, Any]:
    limits = {"leads": 1000, "users": 10, "aiCredits": 5000, **more.pop("limits", {})}
    return {
        "version": version,
        "plan": "PRO",
        "state": "full",
        "limits": limits,
        "support": "email",
        "validFrom": "2026-03-10T12:00:00Z",
        **more,
    }


@pytest.fixture
def entitle(db: None) -> Callable[..., Any]:
    """Without a request: the row as the portal's message leaves it."""
    from provider_federation.instance.entitlements.schemas import EntitlementIn
    from provider_federation.instance.entitlements.services import store_entitlement

    return lambda version=1, **more: store_entitlement(
        EntitlementIn.model_validate(told(version, **more)).told()
    )


def test_the_portals_word_replaces_the_settings(server: Any) -> None:
    before = server.get(URL).json()
    assert (before["version"], before["plan"], before["limits"]["leads"]) == (0, "BASE", 100)
    answer = server.post(URL, told(limits={"leads": None}))
    assert (answer.status_code, answer.json()["applied"], answer.json()["version"]) == (200, True, 1)
    assert server.get(URL).json()["plan"] == "PRO"
    limits = server.get("/api/provider/usage?period=2026-03").json()["limits"]
    assert limits["leads"]["limit"] is None
    assert (limits["users"]["limit"], limits["aiCredits"]["limit"]) == (10, 5000)


def test_an_older_version_changes_nothing_and_is_answered_so(server: Any) -> None:
    server.post(URL, told(3, plan="ELITE"))
    late = server.post(URL, told(2))
    assert (late.status_code, late.json()["applied"], late.json()["version"], late.json()["plan"]) == (
        200,
        False,
        3,
        "ELITE",
    )
    again = server.post(URL, told(3, plan="ELITE"))
    assert (again.status_code, again.json()["applied"]) == (200, False)
    other = server.post(URL, told(3, plan="PRO"))
    assert (other.status_code, other.json()["reason"]) == (409, "entitlement_conflict")
    assert server.get(URL).json()["plan"] == "ELITE"


def test_any_order_leaves_the_newest(entitle: Callable[..., None]) -> None:
    for seed in range(20):
        Entitlement.objects.all().delete()
        versions = [*range(1, 8), 3, 7]
        random.Random(seed).shuffle(versions)
        for version in versions:
            entitle(version, limits={"leads": version})
        assert (allowed_now().version, allowed_now().limits.leads) == (7, 7)


def test_nobody_but_the_provider_says_it(server: Any, db: None) -> None:
    assert server.anonymous("POST", URL, json=told()).status_code == 401
    assert server.post(URL, told(), key="reader").json()["reason"] == "scope_not_allowed"
    owner = Client(headers={"host": "127.0.0.1"})
    owner.force_login(add_person("owner@x.example", PASSWORD, role="owner"))
    refused = owner.post(URL, told(), content_type="application/json")
    assert (refused.status_code, refused.json()["reason"]) == (403, "forbidden")
    assert owner.get(URL).json()["version"] == 0
    assert Entitlement.objects.count() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0}, {"version": True}, {"version": "1"}, {"version": 2**63}, {"state": "gold"}, {"plan": "pro plan"},
        {"limits": {"leads": -1}}, {"limits": {"leads": "many"}}, {"limits": {"seats": 1}}, {"validFrom": "tomorrow"}, {"extra": 1},
    ],
)  # fmt: skip
def test_bad_words_are_refused(server: Any, change: dict[str, Any]) -> None:
    answer = server.post(URL, {**told(), **told(**change)})
    assert answer.status_code == 400, answer.text
    assert Entitlement.objects.count() == 0


def test_a_limit_that_is_left_out_is_not_unlimited(server: Any) -> None:
    body = told()
    del body["limits"]["users"]
    assert server.post(URL, body).status_code == 400


def test_one_more_person_than_the_plan_is_refused(entitle: Callable[..., None]) -> None:
    people = [add_person(f"p{number}@x.example", PASSWORD) for number in range(3)]
    add_person("before@x.example", PASSWORD)  # nothing was told yet: the settings' three are only shown
    entitle(limits={"users": 4})
    with pytest.raises(Problem) as refused:
        add_person("fifth@x.example", PASSWORD)
    assert (refused.value.status, refused.value.code) == (409, "plan_limit_reached")
    set_active(people[0].email, active=False)
    add_person("fifth@x.example", PASSWORD)
    with pytest.raises(Problem):
        set_active(people[0].email, active=True)
    entitle(2, limits={"users": 1})
    assert Person.objects.filter(is_active=True).count() == 4, "who is there stays"
    Person.objects.get(email="fifth@x.example").save()
    entitle(3, limits={"users": None})
    set_active(people[0].email, active=True)


def test_a_lead_over_the_plan_is_kept(entitle: Callable[..., None], make_lead: Callable[..., Lead]) -> None:
    entitle(limits={"leads": 1})
    for _ in range(3):
        make_lead()
    assert Lead.objects.count() == 3


def test_an_ai_call_over_the_plan_is_refused_before_it_and_recorded_if_it_was_made(
    entitle: Callable[..., None],
) -> None:
    check_ai_credits(1_000_000)  # nothing was told yet
    entitle(limits={"aiCredits": 5})
    record_ai_usage("draft", cost=Decimal("0.01"), calls=5)
    with pytest.raises(Problem) as refused:
        check_ai_credits()
    assert refused.value.code == "plan_limit_reached"
    with pytest.raises(Problem) as refused:
        use_ai("draft", cost=Decimal("0.01"))
    assert (refused.value.status, refused.value.details["limit"]) == (409, "aiCredits")
    assert AiUsageEvent.objects.count() == 1
    record_ai_usage("draft", cost=Decimal("0.01"), calls=2)
    assert sum(event.calls for event in AiUsageEvent.objects.all()) == 7
    entitle(2, limits={"aiCredits": None})
    use_ai("draft", cost=Decimal("0.01"))


def test_the_owner_sees_the_plan_and_the_restriction(entitle: Callable[..., None]) -> None:
    owner = Client(headers={"host": "127.0.0.1"})
    owner.force_login(add_person("owner@x.example", PASSWORD, role="owner"))
    assert "Not confirmed by the provider" in owner.get("/").content.decode()
    entitle()
    page = owner.get("/").content.decode()
    assert "Plan Pro" in page
    assert "restricted" not in page
    entitle(2, state="restricted", limits={"leads": 100, "users": 3, "aiCredits": 1000})
    page = owner.get("/").content.decode()
    assert "Your plan Pro is restricted" in page
    assert "Restricted" in owner.get("/usage").content.decode()
