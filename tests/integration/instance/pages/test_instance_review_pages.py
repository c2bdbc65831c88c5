"""Pages under strain: a database that is busy, a proxy in front, keys that nobody has, customers with many leads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.invoicing.services import raise_alert
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.services import add_customer
from provider_federation.instance.pages import access, throttle
from provider_federation.instance.pages.models import SignInTries
from provider_federation.instance.pages.views import session
from provider_federation.kit import clock

PASSWORD = "a long enough passphrase"
pytestmark = pytest.mark.django_db(transaction=True)


def sign_in(client: Client, email: str, password: str, **more: Any) -> Any:
    return client.post("/sign-in", {"email": email, "password": password}, **more)


def test_signing_in_while_the_database_is_busy_is_a_503(
    clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> int:
        raise OperationalError("database is locked")

    monkeypatch.setattr(session, "count_try", busy)
    assert sign_in(clients["nobody"], "owner@x.example", PASSWORD).status_code == 503


def test_a_page_whose_reader_cannot_be_looked_up_is_a_503(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_request: object) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(access, "person_of", away)
    assert owner.get("/").status_code == 503


def test_behind_a_proxy_one_guesser_does_not_lock_out_the_others(
    clients: dict[str, Client], settings: Any
) -> None:
    settings.TRUSTED_PROXIES = 1
    for _ in range(6):
        guess = sign_in(
            clients["nobody"], "owner@x.example", "wrong", headers={"x-forwarded-for": "1.2.3.4, 203.0.113.9"}
        )
    assert guess.status_code == 429
    good = sign_in(
        clients["nobody"], "owner@x.example", PASSWORD, headers={"x-forwarded-for": "198.51.100.7"}
    )
    assert good.status_code == 302


def test_without_a_trusted_proxy_the_header_says_nothing(clients: dict[str, Client]) -> None:
    for number in range(6):
        guess = sign_in(
            clients["nobody"], "owner@x.example", "wrong", headers={"x-forwarded-for": f"203.0.113.{number}"}
        )
    assert guess.status_code == 429


@pytest.mark.parametrize("key", ["\0", "nobody", "x" * 5_000])
def test_revoking_a_key_that_nobody_has(owner: Client, key: str) -> None:
    assert owner.post("/federation/revoke-key", {"key": key}).status_code == 404


def test_customers_with_many_leads_and_invoices_are_counted_without_multiplying_them(owner: Client) -> None:
    customers, now = [add_customer(f"C{n}", f"c{n}@x.example") for n in range(3)], clock.now()
    Lead.objects.bulk_create(
        Lead(public_id=f"L{who.pk}-{n}", name="x", customer=who) for who in customers for n in range(123)
    )
    Invoice.objects.bulk_create(
        Invoice(
            number=f"I{who.pk}-{n}", customer=who, currency="usd", subtotal_cents=1, total_cents=1,
            period_from=now - timedelta(days=1), period_to=now,
        )
        for who in customers[:2] for n in range(77)
    )  # fmt: skip
    with CaptureQueriesContext(connection) as queries:
        page = owner.get("/customers?sort=-invoices")
    rows = {row.name: (row.lead_count, row.invoice_count) for row, _ in page.context["rows"]}
    assert rows == {"C0": (123, 77), "C1": (123, 77), "C2": (123, 0)}
    assert not any(query["sql"].count("JOIN") > 1 for query in queries)


def test_many_who_sign_in_at_once_do_not_stumble_over_each_other(transactional_db: None) -> None:
    def sign_in_often(number: int) -> None:
        try:
            for _ in range(12):
                throttle.count_try(f"u{number % 2}@x.example", "203.0.113.9")
                throttle.forget_tries(f"u{number % 2}@x.example", "203.0.113.9")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(sign_in_often, range(6)))
    assert max(SignInTries.objects.values_list("tries", flat=True)) <= 6


def test_invoices_of_strangers_do_not_hide_what_needs_a_person(owner: Client) -> None:
    raise_alert("void_here_only", "INV-000001", "It lives in Stripe.")
    for number in range(6):
        raise_alert("unknown_invoice", f"cus_{number}", "Stripe reports an invoice of somebody else.")
    assert "It lives in Stripe." in owner.get("/").content.decode()
