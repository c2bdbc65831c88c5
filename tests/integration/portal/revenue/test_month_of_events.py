"""A month of the provider's account, its events delivered in 200 random orders: the same ledger each time.

What Stripe answers is recorded after each step of the month. An event arrives at any step from its own on, or twice,
or never; what it is about is read as it was at that step. A sweep at the end finds what was lost.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from django.db import transaction
from tests.integration.portal.revenue.recording import Recorded, record
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY, deliver, run_jobs

from provider_federation.portal.receivables.models import CreditNote, CreditNoteLine, Refund
from provider_federation.portal.revenue.models import (
    Alert,
    LeadCharge,
    StripeEvent,
    UsageInvoice,
    UsageLine,
)
from provider_federation.portal.revenue.services.events import apply_event
from provider_federation.portal.revenue.services.sweep import sweep_account
from provider_federation.portal.subscriptions import account as accounts
from provider_federation.portal.subscriptions.models import (
    Entitlement,
    PlanChange,
    Subscription,
    SubscriptionInvoice,
)

ORDERS = 200
BASE = "/api/provider/billing"
_MOVING = {
    "id", "version", "seen_at", "updated_at", "snapshot_at", "recorded_at", "raised_at", "times", "created_at",
    "released_at", "facts", "reason", "valid_from", "due_at", "snapshot", "message", "credit_note_id", "attempts",
}  # fmt: skip
_TABLES = (
    UsageInvoice, UsageLine, LeadCharge, SubscriptionInvoice, Subscription, PlanChange, CreditNote, CreditNoteLine, Refund,
    Alert, Entitlement,
)  # fmt: skip


def ledger():
    """Whole tables, without times and keys of our own; a freed lead, and whose refund it is, by their facts."""
    tables = {
        table.__name__: sorted(
            repr({name: value for name, value in row.items() if name not in _MOVING})
            for row in table.objects.values()
        )
        for table in _TABLES
    }
    tables["freed"] = sorted(LeadCharge.objects.exclude(released_at=None).values_list("lead_id", flat=True))
    tables["notes"] = sorted(Refund.objects.values_list("stripe_refund_id", "credit_note__number"))
    tables["lines"] = sorted(
        CreditNoteLine.objects.values_list("credit_note__number", "usage_line", "amount_cents")
    )
    return tables


def bill(api, org, label):
    wanted = {
        "clientOrgId": org,
        "periodStart": f"{label}-01",
        "periodEnd": f"{label}-28" if label == FEBRUARY else f"{label}-31",
    }
    assert api.post(f"{BASE}/revenue", wanted, content_type="application/json").status_code == 201
    assert run_jobs() == []


def credit(books, invoice, amount, **more):
    line = books.get(f"invoices/{invoice}/lines")["data"][0]["id"]
    first = {
        "lines[0][type]": "invoice_line_item",
        "lines[0][invoice_line_item]": line,
        "lines[0][amount]": amount,
    }
    return books.post("credit_notes", invoice=invoice, **first, **more)


@pytest.fixture
def month(books, grow, api, at):
    """Two clients and a stranger; returns the moments of the account and each event with the step it happened at."""
    ada, _ = grow("ada")
    bob, _ = grow("bob")
    ada.uses(JANUARY, 2, ai="3.00")
    ada.uses(FEBRUARY, 1)
    bob.uses(FEBRUARY, 3)
    card = {"clientOrgId": "org_ada", "planId": "PRO", "paymentMethodId": "pm_card_visa"}
    assert api.post(f"{BASE}/subscriptions", card, content_type="application/json").status_code == 201
    for org, label in (("org_ada", JANUARY), ("org_ada", FEBRUARY), ("org_bob", FEBRUARY)):
        bill(api, org, label)
    account = accounts.provider_account()
    january, february, bobs = (
        UsageInvoice.objects.get(instance__org_id=org, period=label).stripe_invoice_id
        for org, label in (("org_ada", JANUARY), ("org_ada", FEBRUARY), ("org_bob", FEBRUARY))
    )
    subscription = Subscription.objects.get().stripe_subscription_id
    moments, steps = [record(account)], {event["id"]: 0 for event in books.events()}

    def refund():
        intent = account.list_payments(invoice_id=january)[0].intent_id
        books.post("refunds", payment_intent=intent, amount=50)

    story = (
        lambda: books.post(f"invoices/{january}/pay", payment_method="pm_card_visa"),
        lambda: credit(books, bobs, 10_000),
        lambda: credit(books, january, 5_000, refund_amount=5_000),
        lambda: books.post(f"invoices/{february}/void"),
        refund,
        lambda: books.post(f"invoices/{bobs}/mark_uncollectible"),
        lambda: at(datetime(2026, 4, 12, tzinfo=UTC)) or books.simulator.control("clock/advance", seconds=1),
        lambda: books.post("invoices", customer=books.post("customers", name="Stranger")["id"]),
        lambda: books.post(f"invoices/{bobs}/pay", paid_out_of_band="true"),
        lambda: books.simulator.ask("DELETE", f"/v1/subscriptions/{subscription}", key=books.key),
    )
    for step in story:
        step()
        moments.append(record(account))
        for event in books.events():
            steps.setdefault(event["id"], len(moments) - 1)
    for event in books.events():
        assert deliver(api, event).status_code == 200
    waiting = StripeEvent.objects.filter(state="pending")
    return moments, [(row.pk, steps[row.event_id]) for row in waiting.order_by("pk")]


def arrivals(chance, events, last):
    """Some never, some twice, all from their own step on: how many, and how late, is each order's luck."""
    lateness = chance.choice([0, 2, last])
    arrive = chance.choices([0.9, 0.3, 0.1], [1, 5, 14])[0]
    return sorted(
        (min(last, step + chance.randint(0, lateness)), chance.random(), event)
        for event, step in events
        for _ in range((chance.random() < arrive) * chance.choice([1, 1, 1, 2]))
    )


def replay(account, coming):
    for step, _place, event in coming:
        account.at = step
        StripeEvent.objects.filter(pk=event).update(
            state="pending"
        )  # Stripe sends twice: applied twice at worst
        apply_event(event)
    account.at = len(account.moments) - 1
    sweep_account()


def test_a_month_of_events_in_200_random_orders_is_one_ledger(month, monkeypatch, capsys):
    moments, events = month
    account = Recorded(moments)
    monkeypatch.setattr(accounts, "_account", lambda *_given: account)
    chance, ledgers, applied = random.Random(156), [], 0
    in_order = [(step, place, event) for place, (event, step) in enumerate(events)]
    for number in range(ORDERS + 1):
        coming = arrivals(chance, events, len(moments) - 1) if number else in_order
        with transaction.atomic():
            replay(account, coming)
            ledgers.append(ledger())
            transaction.set_rollback(True)
        applied += len(coming)
        changed = {
            name: (rows, ledgers[-1][name]) for name, rows in ledgers[0].items() if rows != ledgers[-1][name]
        }
        assert not changed, (number, changed)
    assert len(events) > 30
    assert ledgers[0]["freed"]
    assert len(ledgers[0]["CreditNote"]) == len(ledgers[0]["Refund"]) == 2
    with capsys.disabled():
        print(f"\n{ORDERS} orders of {len(events)} events, {applied} applied")
