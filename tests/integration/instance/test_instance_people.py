"""The client's own people: what each role may call, and that a write from a browser needs its CSRF token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.people.models import Person
from provider_federation.instance.people.services import add_person, set_password
from provider_federation.kit.problem import Problem

MakeLead = Callable[..., Lead]
PASSWORD = "a long enough passphrase"
DRAFT = "/api/billing/invoices.create"


@pytest.fixture
def people(db: None) -> dict[str, Person]:
    return {
        role: add_person(f"{role}@x.example", PASSWORD, role=role) for role in ("owner", "billing", "viewer")
    }


def signed_in(person: Person, *, csrf: bool = False) -> Client:
    client = Client(enforce_csrf_checks=csrf, headers={"host": "127.0.0.1"})
    client.force_login(person)
    return client


def test_what_each_role_may_call(people: dict[str, Person]) -> None:
    for role, manage in (("owner", 200), ("billing", 200), ("viewer", 403)):
        client = signed_in(people[role])
        for target, status in (
            ("/api/billing/preview", manage),
            ("/api/billing/list", 200),
            ("/api/provider/usage?period=2026-02", 200),
            ("/api/federation/changes", 200),
            ("/api/billing/get?id=1", 404),
        ):
            assert client.get(target).status_code == status, (role, target)
        answer = client.post(DRAFT, {}, content_type="application/json")
        assert answer.status_code == manage
        assert manage == 200 or answer.json()["reason"] == "forbidden"


def test_a_write_with_cookies_needs_the_csrf_token(people: dict[str, Person], make_lead: MakeLead) -> None:
    make_lead()
    client = signed_in(people["owner"], csrf=True)
    refused = client.post(DRAFT, {}, content_type="application/json")
    assert (refused.status_code, refused.json()["reason"]) == (403, "csrf_failed")
    assert not Invoice.objects.exists()
    from django.conf import settings

    client.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32
    assert (
        client.post(DRAFT, {}, content_type="application/json", headers={"X-CSRFToken": "a" * 32}).status_code
        == 200
    )


def test_an_inactive_person_and_a_changed_password_end_the_session(people: dict[str, Person]) -> None:
    client = signed_in(people["billing"])
    assert client.get("/api/billing/list").status_code == 200
    set_password("billing@x.example", PASSWORD + "!")
    assert client.get("/api/billing/list").status_code == 401
    other = signed_in(people["viewer"])
    Person.objects.filter(pk=people["viewer"].pk).update(is_active=False)
    assert other.get("/api/billing/list").status_code == 401


def test_accounts_are_by_email_in_any_case(people: dict[str, Person]) -> None:
    from django.contrib.auth import authenticate

    assert authenticate(username="Owner@X.example", password=PASSWORD) == people["owner"]
    assert authenticate(username="owner@x.example", password="wrong") is None
    assert people["owner"].password.startswith("argon2")
    for email, password, role, code in [
        ("OWNER@x.example", PASSWORD, "owner", "person_exists"),
        ("nope", PASSWORD, "owner", "invalid_field"),
        ("n@x.example", "short", "owner", "weak_password"),
        ("n@x.example", PASSWORD, "boss", "invalid_field"),
    ]:
        with pytest.raises(Problem) as refused:
            add_person(email, password, role=role)
        assert refused.value.code == code


def test_the_openapi_file_is_for_owners_outside_development(people: dict[str, Person], settings: Any) -> None:
    settings.DEVELOPMENT = False
    assert Client(headers={"host": "127.0.0.1"}).get("/api/openapi.json").status_code == 401
    assert signed_in(people["viewer"]).get("/api/openapi.json").status_code == 403
    assert signed_in(people["owner"]).get("/api/openapi.json").status_code == 200
