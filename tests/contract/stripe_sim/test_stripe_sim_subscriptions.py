"""Subscriptions through months: periods, proration to the second, trials, failures, the end."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import control

from provider_federation.testing.stripe_sim import Running
from provider_federation.testing.stripe_sim.objects.subscription_periods import (
    after_intervals,
    next_boundary,
    share,
)

DAY = 86_400


def _at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _advance(sim: Running, seconds: int) -> None:
    control(sim.url, "/_sim/clock/advance", seconds=seconds)


def _item(subscription: stripe.Subscription) -> stripe.SubscriptionItem:
    return subscription["items"].data[0]


def _invoices(api: stripe.StripeClient, subscription: stripe.Subscription) -> list[stripe.Invoice]:
    return api.v1.invoices.list({"subscription": subscription.id, "limit": 100}).data


@pytest.fixture
def pro(api: stripe.StripeClient) -> stripe.Price:
    return flows.price(api, 9700)


@pytest.fixture
def subscribed(api: stripe.StripeClient, pro: stripe.Price) -> stripe.Subscription:
    customer = flows.customer(api, card="pm_card_visa")
    return api.v1.subscriptions.create({"customer": customer.id, "items": [{"price": pro.id}]})


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "expected"),
    [
        ("2026-01-31T10:00:00", "month", 1, "2026-02-28T10:00:00"),
        ("2024-01-31T10:00:00", "month", 1, "2024-02-29T10:00:00"),
        ("2026-01-31T10:00:00", "month", 2, "2026-03-31T10:00:00"),
        ("2024-02-29T00:00:00", "year", 1, "2025-02-28T00:00:00"),
        ("2024-02-29T00:00:00", "year", 4, "2028-02-29T00:00:00"),
        ("2026-12-15T00:00:00", "month", 1, "2027-01-15T00:00:00"),
        ("2026-03-29T00:30:00", "week", 1, "2026-04-05T00:30:00"),
    ],
)
def test_golden_periods(anchor: str, interval: str, count: int, expected: str) -> None:
    assert after_intervals(_at(anchor), interval, count) == _at(expected)


@given(
    anchor=st.integers(0, 4_000_000_000),
    interval=st.sampled_from(["day", "week", "month", "year"]),
    count=st.integers(1, 12),
    later=st.integers(0, 400_000_000),
)
def test_the_next_boundary_is_the_first_after(anchor: int, interval: str, count: int, later: int) -> None:
    moment = anchor + later
    following = next_boundary(anchor, interval, count, moment)
    assert following > moment
    assert following - moment <= 366 * DAY * count + DAY


@given(
    amount=st.integers(0, 10**8),
    start=st.integers(0, 10**9),
    length=st.integers(1, 10**7),
    offset=st.integers(0, 10**7),
)
def test_a_share_is_never_more_than_the_whole(amount: int, start: int, length: int, offset: int) -> None:
    part = share(amount, start, start + length, start + offset)
    assert 0 <= part <= amount
    assert part == (amount if offset == 0 else part)
    assert share(-amount, start, start + length, start + offset) == -part


def test_it_renews_every_month_once(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    for _ in range(3):
        _advance(sim, 31 * DAY + 7200)
    rows = _invoices(api, subscribed)
    assert [row.billing_reason for row in rows] == ["subscription_cycle"] * 3 + ["subscription_create"]
    assert [(row.total, row.status) for row in rows] == [(9700, "paid")] * 4
    lines = [row.lines.data[0].period for row in reversed(rows)]
    assert all(before.end == after.start for before, after in itertools.pairwise(lines))
    latest = api.v1.subscriptions.retrieve(subscribed.id)
    assert (_item(latest).current_period_start, _item(latest).current_period_end) == (
        lines[-1].start,
        lines[-1].end,
    )
    parent: Any = rows[0].parent
    assert parent.subscription_details.subscription == subscribed.id


def test_a_year_at_once_is_twelve_renewals(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    _advance(sim, 366 * DAY + 7200)
    assert len(_invoices(api, subscribed)) == 13
    assert len({row.number for row in _invoices(api, subscribed)}) == 13


@given(day=st.integers(0, 27), second=st.integers(0, DAY - 1))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_preview_is_what_is_then_billed(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price, day: int, second: int
) -> None:
    elite = flows.price(api, 29_700)
    customer = flows.customer(api, card="pm_card_visa")
    subscription = api.v1.subscriptions.create({"customer": customer.id, "items": [{"price": pro.id}]})
    moment = _item(subscription).current_period_start + day * DAY + second
    _advance(sim, max(0, moment - sim.simulator.now()))
    change: Any = {
        "items": [{"id": _item(subscription).id, "price": elite.id}],
        "proration_behavior": "always_invoice",
        "proration_date": moment,
    }
    events = len(api.v1.events.list({"limit": 100}).data)
    preview = api.v1.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": change}
    )
    assert len(api.v1.events.list({"limit": 100}).data) == events
    billed = api.v1.subscriptions.update(
        subscription.id, {**change, "expand": ["latest_invoice"]}
    ).latest_invoice
    assert isinstance(billed, stripe.Invoice)
    assert [line.amount for line in preview.lines.data] == [line.amount for line in billed.lines.data]
    assert billed.total == preview.total
    whole = 20_000 * (2_678_400 - day * DAY - second) / 2_678_400
    assert abs(billed.total - whole) <= 20_000 * 3 * DAY / 2_592_000  # months differ by up to three days


def test_create_prorations_come_with_the_next_invoice(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    elite = flows.price(api, 29_700)
    api.v1.subscriptions.update(subscribed.id, {"items": [{"id": _item(subscribed).id, "price": elite.id}]})
    assert len(_invoices(api, subscribed)) == 1
    preview = api.v1.invoices.create_preview({"subscription": subscribed.id})
    _advance(sim, 31 * DAY + 7200)
    cycle = _invoices(api, subscribed)[0]
    assert sorted(line.amount for line in cycle.lines.data) == [-9700, 29_700, 29_700]
    assert preview.total == cycle.total
    kinds = [(line.parent.type, line.parent.subscription_item_details.proration) for line in cycle.lines.data]
    assert kinds == [("subscription_item_details", True)] * 2 + [("subscription_item_details", False)]


def test_no_proration_when_none_is_wanted(api: stripe.StripeClient, subscribed: stripe.Subscription) -> None:
    elite = flows.price(api, 29_700)
    api.v1.subscriptions.update(
        subscribed.id,
        {"items": [{"id": _item(subscribed).id, "price": elite.id}], "proration_behavior": "none"},
    )
    assert api.v1.invoice_items.list({"customer": str(subscribed.customer)}).data == []
    assert api.v1.invoices.create_preview({"subscription": subscribed.id}).total == 29_700


def test_a_downgrade_credits_and_refunds_nothing(
    api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    free = flows.price(api, 0)
    api.v1.subscriptions.update(
        subscribed.id,
        {"items": [{"id": _item(subscribed).id, "price": free.id}], "proration_behavior": "always_invoice"},
    )
    assert api.v1.refunds.list().data == []
    assert api.v1.customers.retrieve(str(subscribed.customer)).balance == -9700


def test_another_interval_starts_a_new_period_now(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    yearly = flows.price(api, 97_000, "year")
    _advance(sim, 10 * DAY)
    changed = api.v1.subscriptions.update(
        subscribed.id,
        {"items": [{"id": _item(subscribed).id, "price": yearly.id}], "expand": ["latest_invoice"]},
    )
    assert _item(changed).current_period_end - _item(changed).current_period_start >= 365 * DAY
    invoice = changed.latest_invoice
    assert isinstance(invoice, stripe.Invoice)
    assert invoice.status == "paid"
    assert 97_000 - 9700 < invoice.total < 97_000


def test_a_trial_costs_nothing_warns_and_then_bills(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price
) -> None:
    customer = flows.customer(api, card="pm_card_visa")
    trial = api.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": pro.id}],
            "trial_period_days": 14,
            "expand": ["latest_invoice"],
        }
    )
    assert isinstance(trial.latest_invoice, stripe.Invoice)
    assert (trial.status, trial.latest_invoice.total, trial.latest_invoice.status) == ("trialing", 0, "paid")
    _advance(sim, 12 * DAY)
    assert (
        api.v1.events.list({"type": "customer.subscription.trial_will_end"}).data[0].data.object["id"]
        == trial.id
    )
    _advance(sim, 2 * DAY + 7200)
    after = api.v1.subscriptions.retrieve(trial.id)
    assert (after.status, _item(after).current_period_start) == ("active", trial.trial_end)
    assert [(row.total, row.status) for row in _invoices(api, after)] == [(9700, "paid"), (0, "paid")]


def test_default_incomplete_waits_for_its_first_payment(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price
) -> None:
    customer = flows.customer(api)
    wanted: Any = {
        "customer": customer.id,
        "items": [{"price": pro.id}],
        "payment_behavior": "default_incomplete",
        "expand": ["latest_invoice.confirmation_secret"],
    }
    first, second = api.v1.subscriptions.create(wanted), api.v1.subscriptions.create(wanted)
    assert first.status == "incomplete"
    invoice: Any = first.latest_invoice
    assert invoice.confirmation_secret.client_secret.startswith("pi_")
    api.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    assert api.v1.subscriptions.retrieve(first.id).status == "active"
    _advance(sim, DAY)
    assert api.v1.subscriptions.retrieve(second.id).status == "incomplete_expired"
    assert _invoices(api, second)[0].status == "void"


def test_ways_to_begin_that_are_refused(api: stripe.StripeClient, pro: stripe.Price) -> None:
    bare, broke = flows.customer(api), flows.customer(api, card="pm_card_chargeCustomerFail")
    once = api.v1.prices.create({"currency": "usd", "unit_amount": 5, "product_data": {"name": "x"}})
    items: Any = [{"price": pro.id}]
    bad: list[Any] = [
        {"customer": bare.id, "items": items},
        {"customer": bare.id},
        {"customer": bare.id, "items": [{"price": once.id}]},
        {"customer": bare.id, "items": items, "collection_method": "send_invoice"},
        {"customer": bare.id, "items": items * 2},
        {"customer": bare.id, "items": items, "trial_end": 5},
        {"customer": bare.id, "items": items, "billing_cycle_anchor": 5},
    ]
    for wanted in bad:
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.subscriptions.create(wanted)
    with pytest.raises(stripe.CardError):
        api.v1.subscriptions.create(
            {"customer": broke.id, "items": items, "payment_behavior": "error_if_incomplete"}
        )
    assert api.v1.subscriptions.list({"status": "all"}).data == []
    assert api.v1.subscriptions.create({"customer": broke.id, "items": items}).status == "incomplete"


def test_a_card_that_stops_paying_leads_to_past_due_and_to_the_end(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    bad = api.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": str(subscribed.customer)})
    api.v1.customers.update(
        str(subscribed.customer), {"invoice_settings": {"default_payment_method": bad.id}}
    )
    _advance(sim, 31 * DAY + 7200)
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "past_due"
    assert api.v1.customers.retrieve(str(subscribed.customer)).delinquent
    invoice = _invoices(api, subscribed)[0]
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt is not None) == (
        "open",
        1,
        True,
    )
    _advance(sim, 20 * DAY)
    ended = api.v1.subscriptions.retrieve(subscribed.id)
    assert ended.cancellation_details is not None
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 4


def test_paying_late_brings_it_back(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription, key: str
) -> None:
    control(sim.url, "/_sim/faults", kind="card_declined", key=key)
    _advance(sim, 31 * DAY + 7200)
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "past_due"
    api.v1.invoices.pay(_invoices(api, subscribed)[0].id)
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "active"


def test_cancel_at_the_end_of_the_period_and_change_of_mind(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    ending = api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at) == ("active", _item(subscribed).current_period_end)
    with pytest.raises(stripe.InvalidRequestError, match="No upcoming"):
        api.v1.invoices.create_preview({"subscription": subscribed.id})
    assert api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": False}).cancel_at is None
    api.v1.subscriptions.update(subscribed.id, {"cancel_at_period_end": True})
    _advance(sim, 32 * DAY)
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "canceled"
    assert len(_invoices(api, subscribed)) == 1


def test_cancel_now_with_credit(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    _advance(sim, 10 * DAY)
    cancelled = api.v1.subscriptions.cancel(subscribed.id, {"prorate": True, "invoice_now": True})
    assert cancelled.status == "canceled"
    assert -9700 < (api.v1.customers.retrieve(str(subscribed.customer)).balance or 0) < 0
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription"):
        api.v1.subscriptions.cancel(subscribed.id)
    assert api.v1.subscriptions.list({"customer": str(subscribed.customer)}).data == []


def test_sent_invoices_wait_an_hour_and_are_sent(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price
) -> None:
    customer = flows.customer(api)
    made = api.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": pro.id}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
        }
    )
    assert (made.status, _invoices(api, made)[0].status) == ("active", "draft")
    _advance(sim, 3700)
    invoice = _invoices(api, made)[0]
    assert (invoice.status, invoice.due_date) == ("open", invoice.status_transitions.finalized_at + 30 * DAY)
    assert api.v1.events.list({"type": "invoice.sent"}).data[0].data.object["id"] == invoice.id


def test_an_anchor_later_on_bills_a_part(sim: Running, api: stripe.StripeClient, pro: stripe.Price) -> None:
    customer, anchor = flows.customer(api, card="pm_card_visa"), sim.simulator.now() + 10 * DAY
    made = api.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": pro.id}],
            "billing_cycle_anchor": anchor,
            "expand": ["latest_invoice"],
        }
    )
    assert isinstance(made.latest_invoice, stripe.Invoice)
    assert 9700 * 9 // 31 < made.latest_invoice.total <= 9700 * 10 // 28 + 1
    assert _item(made).current_period_end == anchor
    _advance(sim, 10 * DAY + 7200)
    assert _invoices(api, made)[0].total == 9700


def test_deleting_the_customer_ends_it(api: stripe.StripeClient, subscribed: stripe.Subscription) -> None:
    api.v1.customers.delete(str(subscribed.customer))
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "canceled"


def test_paused_collection_voids(
    sim: Running, api: stripe.StripeClient, subscribed: stripe.Subscription
) -> None:
    api.v1.subscriptions.update(subscribed.id, {"pause_collection": {"behavior": "void"}})
    _advance(sim, 31 * DAY + 7200)
    assert _invoices(api, subscribed)[0].status == "void"
    assert api.v1.subscriptions.update(subscribed.id, {"pause_collection": ""}).pause_collection is None
