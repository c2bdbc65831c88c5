"""What is owed, when it is more than a page: pages that nothing falls out of, sums over all, dunning in batches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from tests.integration.portal.revenue.test_reports import NOW, at, client_named, day, fee, usage_invoice

from provider_federation.portal.operators.services import create_token
from provider_federation.portal.receivables import outstanding
from provider_federation.portal.receivables.models import DunningStep
from provider_federation.portal.receivables.services import dunning
from provider_federation.portal.revenue.models import StripeEvent, UsageInvoice
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

__all__ = ["at"]
pytestmark = pytest.mark.django_db
URL = "/api/provider/billing/receivables"


@pytest.fixture
def caller(at):
    _, secret = create_token(name="tests", role="billing", actor="system")
    return Client(headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
def owed():
    """28 open invoices of both kinds; six are due at the same instant."""
    clients = [client_named(name) for name in ("ada", "bob", "cyd", "dee")]
    for number, one in enumerate(clients):
        for month in (2, 3, 4, 5, 6):
            usage_invoice(one, month, leads=number + 1, due_at=day(month, 20 + number if month < 6 else 28))
        fee(one, 5, 9_700, status="open", paid_cents=0, remaining_cents=9_700)
        fee(one, 6, 9_700, status="open", paid_cents=0, remaining_cents=9_700, due_at=day(6, 28))
    usage_invoice(client_named("paid"), 3, leads=1, status="paid")
    usage_invoice(client_named("lost"), 3, leads=1, status="uncollectible")
    return clients


def pages(caller, query="", limit=5):
    items, cursor = [], ""
    while cursor is not None:
        answer = caller.get(f"{URL}?limit={limit}&cursor={cursor}{query}").json()
        assert len(answer["items"]) <= limit
        items += answer["items"]
        cursor = answer["nextCursor"]
    return items, answer


def test_every_row_is_on_one_page_and_the_sums_are_over_all(owed, caller):
    items, last = pages(caller)
    ids = [one["stripeInvoiceId"] for one in items]
    assert (len(ids), len(set(ids)), last["count"]) == (28, 28, 28)
    assert [one["dueAt"] for one in items] == sorted(one["dueAt"] for one in items)
    (ages,) = last["ages"]
    assert ages["invoices"] == 28
    by_hand = {
        "not due": 100_000 + 4 * 9_700,
        "1 to 30 days": 100_000,
        "31 to 60 days": 100_000 + 4 * 9_700,
        "61 to 90 days": 100_000,
        "over 90 days": 100_000,
    }
    assert {one["age"]: one["amountCents"] for one in ages["buckets"]} == by_hand
    assert (
        ages["outstandingCents"] == sum(by_hand.values()) == sum(one["amountRemainingCents"] for one in items)
    )
    assert ages["overdueCents"] == ages["outstandingCents"] - by_hand["not due"]
    late, last = pages(caller, "&overdue=true")
    assert {one["stripeInvoiceId"] for one in late} == {
        one["stripeInvoiceId"] for one in items if one["daysOverdue"]
    }
    assert (len(late), last["count"], last["ages"]) == (20, 20, [ages])
    mine, last = pages(caller, "&clientOrgId=org_bob")
    assert (len(mine), last["ages"][0]["outstandingCents"]) == (7, 5 * 20_000 + 2 * 9_700)


def test_what_is_paid_between_two_pages_moves_no_other(owed, caller):
    first = caller.get(f"{URL}?limit=5").json()
    UsageInvoice.objects.filter(stripe_invoice_id=first["items"][0]["stripeInvoiceId"]).update(status="paid")
    rest, cursor = [], first["nextCursor"]
    while cursor:
        answer = caller.get(f"{URL}?limit=5&cursor={cursor}").json()
        rest, cursor = rest + answer["items"], answer["nextCursor"]
    assert len({one["stripeInvoiceId"] for one in [*first["items"], *rest]}) == 28


@pytest.mark.parametrize("seconds", [-1, 0, 1])
@pytest.mark.parametrize("days", [0, 1, 29, 30, 31, 60, 90])
def test_the_database_counts_days_as_the_row_does(at, days, seconds):
    row = usage_invoice(client_named("ada"), 3, leads=1, due_at=NOW - timedelta(days=days, seconds=seconds))
    from provider_federation.portal.receivables.queries import bucket_of, days_overdue

    (ages,) = outstanding.ages()
    assert [name for name, cents in ages.buckets if cents] == [bucket_of(days_overdue(row))]


def test_coverage_says_what_the_sums_cannot_hold(owed, caller):
    assert caller.get(URL).json()["coverage"]["complete"] is True
    StripeEvent.objects.create(
        event_id="evt_1",
        type="invoice.paid",
        object_id="in_1",
        payload="{}",
        livemode=False,
        received_at=NOW,
        state="parked",
    )
    usage_invoice(client_named("held"), 5, leads=1, status="held")
    assert caller.get(URL).json()["coverage"] == {
        "complete": False, "eventsWaiting": 0, "eventsParked": 1, "held": 1, "onTheWay": 0
    }  # fmt: skip


@pytest.mark.parametrize("cursor", ["x", "W10", "WyIyMDI2LTAxLTAxIiwiaW5fMSJd", "WzEsMl0"])
def test_a_cursor_of_somebody_else_is_refused(caller, cursor):
    answer = caller.get(f"{URL}?cursor={cursor}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "bad_cursor")


def test_dunning_reads_a_few_at_a_time_and_does_every_one_once(owed, at, monkeypatch, settings):
    """Three rows a batch: each due step once, none for what is not due, nothing the second time."""
    settings.PROVIDER_DUNNING_SCHEDULE = "1,30:escalate"
    monkeypatch.setattr(outstanding, "_BATCH", 3)
    kinds = {"usage": UsageInvoice, "subscription": SubscriptionInvoice}

    def stored(stripe_id):
        return next(
            row for kind in kinds.values() for row in kind.objects.filter(stripe_invoice_id=stripe_id)
        )

    monkeypatch.setattr(dunning, "refresh_any_invoice", stored)  # what Stripe says is what the row says
    assert len(list(dunning.due_steps())) == 20
    done = dunning.remind_all()
    assert len(done) == 20
    assert {step.action for step in done} == {"remind", "escalate"}
    assert len(mail.outbox) == sum(step.state == "sent" and step.action == "remind" for step in done)
    assert dunning.remind_all() == []
    taken = DunningStep.objects.exclude(state="skipped")
    assert taken.count() == 20 == len({(one.usage_invoice_id, one.fee_invoice_id) for one in taken})
