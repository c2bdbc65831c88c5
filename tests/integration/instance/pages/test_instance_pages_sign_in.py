"""Signing in and out, the limit on guessing, and people's own and other people's accounts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.test import Client
from tests.integration.instance.pages.conftest import PASSWORD, anonymous

from provider_federation.instance.pages.models import SignInTries
from provider_federation.instance.people.models import Person

NEW = "another long passphrase"
Stand = Callable[[datetime], None]


def sign_in(client: Client, email: str = "owner@x.example", password: str = PASSWORD, **more: str):
    return client.post("/sign-in", {"email": email, "password": password, **more})


def test_a_session_begins_anew(people: dict[str, Person]) -> None:
    client = anonymous()
    client.cookies[settings.SESSION_COOKIE_NAME] = "chosen-by-an-attacker-0123456789ab"
    assert sign_in(client, "OWNER@x.example ")["Location"] == "/"
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != "chosen-by-an-attacker-0123456789ab"
    assert client.get("/").status_code == 200
    assert client.get("/sign-in")["Location"] == "/"
    assert client.get("/sign-out").status_code == 200
    assert client.get("/").status_code == 200
    assert client.post("/sign-out")["Location"] == "/sign-in"
    assert client.get("/").status_code == 302


def test_every_wrong_combination_says_the_same(people: dict[str, Person]) -> None:
    Person.objects.filter(email="viewer@x.example").update(is_active=False)
    pages = [
        sign_in(anonymous(), email, password)
        for email, password in [
            ("owner@x.example", "wrong"),
            ("nobody@x.example", "wrong"),
            ("viewer@x.example", PASSWORD),
        ]
    ]
    assert {page.status_code for page in pages} == {422}
    assert all("Email or password is not right." in page.content.decode() for page in pages)


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/invoices?status=open", "/invoices?status=open"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/api/billing/list", "/"),
        ("/sign-out", "/"),
        ("invoices", "/"),
        ("///evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("", "/"),
    ],
)
def test_next_stays_here(people: dict[str, Person], wanted: str, goes: str) -> None:
    assert sign_in(anonymous(), next=wanted)["Location"] == goes


def test_guessing_is_slowed_down_and_told_alike_for_unknown_emails(
    people: dict[str, Person], clock_file: Stand
) -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    for email in ("owner@x.example", "nobody@x.example"):
        assert [sign_in(anonymous(), email, "wrong").status_code for _ in range(6)] == [422] * 5 + [429]
    held = sign_in(anonymous())
    assert (held.status_code, held["Retry-After"]) == (429, "900")
    assert "Try again in 15 min" in held.content.decode()
    assert sign_in(anonymous(), "billing@x.example").status_code == 302
    clock_file(now + timedelta(minutes=15))
    assert sign_in(anonymous()).status_code == 302


def test_one_account_is_held_from_many_addresses_too(people: dict[str, Person]) -> None:
    statuses = [
        anonymous()
        .post("/sign-in", {"email": "owner@x.example", "password": "wrong"}, REMOTE_ADDR=f"192.0.2.{number}")
        .status_code
        for number in range(51)
    ]
    assert statuses == [422] * 50 + [429]


def test_a_good_sign_in_counts_as_no_failure(people: dict[str, Person]) -> None:
    for _ in range(8):
        assert sign_in(anonymous()).status_code == 302
    assert set(SignInTries.objects.values_list("tries", flat=True)) <= {0}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "x"},
        {"email": "x" * 300, "password": "y"},
        {"email": "a\x00b", "password": "y"},
        {"email": "a", "password": "p\x00"},
        {"email": "a", "password": "p" * 5_000},
    ],
)
def test_nonsense_is_asked_again(db: None, body: dict[str, str]) -> None:
    assert anonymous().post("/sign-in", body).status_code == 422


def test_ones_own_password(people: dict[str, Person]) -> None:
    here, elsewhere = anonymous(), anonymous()
    assert (sign_in(here).status_code, sign_in(elsewhere).status_code) == (302, 302)

    def change(current: str, password: str, again: str):
        return here.post("/account", {"current": current, "password": password, "again": again})

    assert "not your current password" in change("wrong", NEW, NEW).content.decode()
    assert "are not the same" in change(PASSWORD, NEW, NEW + "!").content.decode()
    assert "too short" in change(PASSWORD, "short", "short").content.decode()
    assert elsewhere.get("/").status_code == 200
    assert change(PASSWORD, NEW, NEW).status_code == 302
    assert here.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302
    assert sign_in(anonymous()).status_code == 422


def test_the_current_password_is_guessed_as_slowly(owner: Client) -> None:
    answers = [
        owner.post("/account", {"current": "wrong", "password": NEW, "again": NEW}).content.decode()
        for _ in range(6)
    ]
    assert "Too many tries" in answers[5]
    assert "Too many tries" not in answers[4]


def test_the_owner_looks_after_people(
    owner: Client, people: dict[str, Person], clients: dict[str, Client]
) -> None:
    new = {"email": "New@x.example", "name": "<b>Nora</b>", "role": "billing", "password": NEW}
    assert owner.post("/people/add", new).status_code == 302
    again = owner.post("/people/add", new)
    assert (again.status_code, "has an account already" in again.content.decode()) == (422, True)
    added = Person.objects.get(email="new@x.example")
    assert "<b>Nora" not in owner.get("/people").content.decode()
    assert owner.post(f"/people/{added.pk}/role", {"role": "viewer"}).status_code == 302
    assert Person.objects.get(pk=added.pk).role == "viewer"
    assert owner.post(f"/people/{added.pk}/role", {"role": "boss"}).status_code == 422
    viewer = people["viewer"]
    assert owner.post(f"/people/{viewer.pk}/deactivate").status_code == 302
    assert clients["viewer"].get("/").status_code == 302
    assert owner.post(f"/people/{viewer.pk}/activate").status_code == 302
    billing = people["billing"]
    assert owner.post(f"/people/{billing.pk}/password", {"password": NEW, "again": NEW}).status_code == 302
    assert clients["billing"].get("/").status_code == 302
    assert sign_in(anonymous(), "billing@x.example", NEW).status_code == 302


def test_there_is_always_an_owner(owner: Client, people: dict[str, Person]) -> None:
    own = people["owner"].pk
    assert owner.post(f"/people/{own}/deactivate").status_code == 409
    answer = owner.post(f"/people/{own}/role", {"role": "viewer"})
    assert (answer.status_code, "last owner" in answer.content.decode()) == (409, True)
    assert Person.objects.get(pk=own).role == "owner"
    assert owner.post(f"/people/{people['billing'].pk}/role", {"role": "owner"}).status_code == 302
    assert owner.post(f"/people/{own}/role", {"role": "viewer"}).status_code == 302
    assert owner.get("/people").status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "nope"},
        {"role": "boss"},
        {"password": "short"},
        {"password": ""},
        {"name": "n" * 121},
        {"email": ""},
    ],
)
def test_a_wrong_field_adds_nobody(owner: Client, wrong: dict[str, str]) -> None:
    good = {"email": "new@x.example", "name": "N", "role": "viewer", "password": NEW}
    assert owner.post("/people/add", {**good, **wrong}).status_code == 422
    assert Person.objects.count() == 3
