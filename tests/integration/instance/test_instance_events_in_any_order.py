"""Some invoices' lives in the client's account, their events delivered in 60 random orders: the same rows each time.

What Stripe answers is recorded after each step. An event arrives at any step from its own on, or twice, or never;
its invoice is read as it was at that step. A sweep at the end finds what was lost.
"""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import transaction
from tests.integration.instance.conftest import STRIPE_KEY, MakeLead
from tests.integration.instance.test_instance_webhook import signed
from tests.integration.portal.revenue.recording import Moment, Recorded

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Alert, Change, Invoice, LeadReservation
from provider_federation.instance.invoicing.services import account as accounts
from provider_federation.instance.leads.services import add_customer
from provider_federation.kit import clock
from provider_federation.money import Period
from provider_federation.stripe_account import StripeAccount, StripeInvoice

ORDERS = 60
_MOVING = {"id", "updated_at", "times", "first_at", "last_at"}
Told = list[tuple[bytes, int]]
pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> dict[str, list[str]]:
    """Whole tables, without the times of our own looking."""
    found = {
        table.__name__: sorted(
            repr({name: value for name, value in row.items() if name not in _MOVING})
            for row in table.objects.values()
        )
        for table in (Invoice, LeadReservation, Alert)
    }
    # How many changes the feed holds depends on the order; that each invoice's last state is told does not.
    assert set(Change.objects.values_list("invoice", flat=True)) == set(
        Invoice.objects.values_list("pk", flat=True)
    )
    return found


def sent_invoices(make_lead: MakeLead) -> list[Invoice]:
    """Five customers with an invoice each; of the last one's sending this side has forgotten the end."""
    for number in range(5):
        make_lead(to=add_customer(f"Customer {number}", f"c{number}@x.example"), price_cents=1_000 + number)
    drafted = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
    invoices = [services.send_hosted_invoice(one.pk) for one in drafted]
    forgotten: dict[str, Any] = {"stripe_invoice_id": None, "status": "draft", "sent_at": None}
    Invoice.objects.filter(pk=invoices[-1].pk).update(
        **forgotten, hosted_invoice_url="", invoice_pdf="", stripe_number=""
    )
    return invoices


def told_by(url: str) -> list[dict[str, Any]]:
    key = {"Authorization": f"Bearer {STRIPE_KEY}"}
    answer = httpx.get(f"{url}/v1/events", params={"limit": 100}, headers=key, timeout=30).json()
    assert not answer["has_more"]
    events: list[dict[str, Any]] = answer["data"]
    return events[::-1]


@pytest.fixture
def lives(stripe: Any, make_lead: MakeLead) -> tuple[list[Moment], Told]:
    """The account's moments, and each event with the step that it happened at."""
    stripe.unwire()
    account: StripeAccount = stripe.account
    paid, void, written_off, kept, forgotten = (
        str(one.stripe_invoice_id) for one in sent_invoices(make_lead)
    )
    moments, steps = [moment(account)], {event["id"]: 0 for event in told_by(stripe.url)}

    def stranger() -> StripeInvoice:
        who = account.create_customer(name="Else", email=None, metadata={}, idempotency_key="else")
        return account.create_invoice(
            customer_id=who.id, currency="usd", metadata={}, idempotency_key="else-1"
        )

    story = (
        lambda: account.mark_uncollectible(written_off, idempotency_key="a"),
        lambda: account.pay_invoice(paid, idempotency_key="b", paid_out_of_band=True),
        stranger,
        lambda: account.void_invoice(void, idempotency_key="c"),
        lambda: account.pay_invoice(forgotten, idempotency_key="d", paid_out_of_band=True),
        lambda: account.pay_invoice(written_off, idempotency_key="e", paid_out_of_band=True),
        lambda: account.mark_uncollectible(kept, idempotency_key="f"),
    )
    for step in story:
        step()
        moments.append(moment(account))
        for event in told_by(stripe.url):
            steps.setdefault(event["id"], len(moments) - 1)
    return moments, [(json.dumps(event).encode(), steps[event["id"]]) for event in told_by(stripe.url)]


def moment(account: StripeAccount) -> Moment:
    return Moment({one.id: one for one in account.list_invoices()})


def arrivals(chance: random.Random, events: Told, last: int) -> list[tuple[int, float, bytes]]:
    """Some never, some twice, all from their own step on: how many, and how late, is each order's luck."""
    lateness, arrive = chance.choice([0, 2, last]), chance.choice([1, 0.7, 0.3, 0])
    return sorted(
        (min(last, step + chance.randint(0, lateness)), chance.random(), event)
        for event, step in events
        for _ in range((chance.random() < arrive) * chance.choice([1, 1, 2]))
    )


def replay(account: Recorded, coming: list[tuple[int, float, bytes]]) -> None:
    for step, _place, raw in coming:
        account.at = step
        services.receive_event(raw, signed(raw)["Stripe-Signature"], clock.timestamp())
    account.at = len(account.moments) - 1
    services.sweep_invoices()
    assert services.sweep_invoices()[1] == 0


def test_events_in_60_random_orders_leave_the_same_rows(
    lives: tuple[list[Moment], Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments, events = lives
    account = Recorded(moments)
    monkeypatch.setattr(accounts, "open_account", lambda: account)
    chance, first = random.Random(4), None
    in_order = [(step, float(place), event) for place, (event, step) in enumerate(events)]
    for number in range(ORDERS + 1):
        coming = arrivals(chance, events, len(moments) - 1) if number else in_order
        with transaction.atomic():
            replay(account, coming)
            now = rows()
            transaction.set_rollback(True)
        first = first or now
        assert now == first, number
    assert len(events) > 20
    assert len(Invoice.objects.all()) == 5


def test_a_sweep_alone_finds_payments_and_voids(lives: tuple[list[Moment], Told]) -> None:
    """No event came at all; the simulator itself is asked."""
    looked, changed = services.sweep_invoices()
    assert (looked, changed) == (6, 5)
    states = dict(Invoice.objects.values_list("total_cents", "status"))
    assert states == {1_000: "paid", 1_001: "void", 1_002: "paid", 1_003: "uncollectible", 1_004: "paid"}
    assert LeadReservation.objects.count() == 4
    assert Alert.objects.get().times == 1
    assert services.sweep_invoices() == (6, 0)
    assert Alert.objects.get().times == 1


def test_a_sweep_fetches_ours_that_no_list_holds(
    stripe: Any, make_lead: MakeLead, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provider_federation.instance.invoicing.services import sweep

    stripe.unwire()
    invoices = sent_invoices(make_lead)
    stripe.account.pay_invoice(invoices[0].stripe_invoice_id, idempotency_key="g", paid_out_of_band=True)
    monkeypatch.setattr(sweep, "WINDOW", -timedelta(days=1))  # all of them are older than the window
    assert services.sweep_invoices() == (5, 2)
    invoices[0].refresh_from_db()
    assert invoices[0].status == "paid"
