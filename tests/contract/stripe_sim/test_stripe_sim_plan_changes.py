"""Changes that wait for their payment, changes that wait for the period's end, and what unpaid renewals lead to."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import control

from provider_federation.testing.stripe_sim import Running

DAY = 86_400


def _advance(sim: Running, seconds: int) -> None:
    control(sim.url, "/_sim/clock/advance", seconds=seconds)


def _item(subscription: stripe.Subscription) -> Any:
    return subscription["items"].data[0]


def _newest(api: stripe.StripeClient, subscription: stripe.Subscription) -> stripe.Invoice:
    return api.v1.invoices.list({"subscription": subscription.id, "limit": 1}).data[0]


def _kinds(api: stripe.StripeClient) -> list[str]:
    return [event.type for event in api.v1.events.list({"limit": 100}).data]


@pytest.fixture
def pro(api: stripe.StripeClient) -> stripe.Price:
    return flows.price(api, 9700)


@pytest.fixture
def elite(api: stripe.StripeClient) -> stripe.Price:
    return flows.price(api, 29_700)


@pytest.fixture
def subscribed(api: stripe.StripeClient, pro: stripe.Price) -> stripe.Subscription:
    customer = flows.customer(api, card="pm_card_visa")
    return api.v1.subscriptions.create({"customer": customer.id, "items": [{"price": pro.id}]})


def _upgrade(api: stripe.StripeClient, subscription: stripe.Subscription, price: str) -> stripe.Subscription:
    return api.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": _item(subscription).id, "price": price}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        },
    )


def _break_card(api: stripe.StripeClient, subscription: stripe.Subscription) -> None:
    bad = api.v1.payment_methods.attach(
        "pm_card_chargeCustomerFail", {"customer": str(subscription.customer)}
    )
    api.v1.customers.update(
        str(subscription.customer), {"invoice_settings": {"default_payment_method": bad.id}}
    )


def test_a_paid_upgrade_happens_at_once(api: stripe.StripeClient, subscribed: Any, elite: Any) -> None:
    changed = _upgrade(api, subscribed, elite.id)
    assert (_item(changed).price.id, changed.pending_update) == (elite.id, None)
    assert _newest(api, changed).status == "paid"


def test_an_unpaid_upgrade_waits_and_happens_when_it_is_paid(
    sim: Running, api: stripe.StripeClient, subscribed: Any, elite: Any
) -> None:
    _advance(sim, 10 * DAY)
    _break_card(api, subscribed)
    waiting = _upgrade(api, subscribed, elite.id)
    assert (waiting.status, _item(waiting).price.unit_amount) == ("active", 9700)
    assert waiting.pending_update is not None
    assert waiting.pending_update.subscription_items is not None
    assert waiting.pending_update.subscription_items[0].price.id == elite.id
    invoice = _newest(api, waiting)
    assert (invoice.status, invoice.auto_advance, waiting.latest_invoice) == ("open", False, invoice.id)
    api.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    after = api.v1.subscriptions.retrieve(waiting.id)
    assert (_item(after).price.id, after.pending_update) == (elite.id, None)
    assert "customer.subscription.pending_update_applied" in _kinds(api)


def test_an_upgrade_that_nobody_pays_is_forgotten(
    sim: Running, api: stripe.StripeClient, subscribed: Any, elite: Any
) -> None:
    _break_card(api, subscribed)
    _upgrade(api, subscribed, elite.id)
    _advance(sim, DAY)
    after = api.v1.subscriptions.retrieve(subscribed.id)
    assert (_item(after).price.unit_amount, after.pending_update, after.status) == (9700, None, "active")
    assert _newest(api, after).status == "void"
    assert "customer.subscription.pending_update_expired" in _kinds(api)


def test_voiding_its_invoice_or_another_change_drops_the_one_that_waits(
    api: stripe.StripeClient, subscribed: Any, elite: Any
) -> None:
    _break_card(api, subscribed)
    api.v1.invoices.void_invoice(_newest(api, _upgrade(api, subscribed, elite.id)).id)
    assert api.v1.subscriptions.retrieve(subscribed.id).pending_update is None
    first = _newest(api, _upgrade(api, subscribed, elite.id))
    second = _newest(api, _upgrade(api, subscribed, elite.id))
    assert [api.v1.invoices.retrieve(one.id).status for one in (first, second)] == ["void", "open"]
    api.v1.subscriptions.cancel(subscribed.id)
    assert api.v1.invoices.retrieve(second.id).status == "void"


def test_what_cannot_wait_is_refused(api: stripe.StripeClient, subscribed: Any, elite: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="cannot be updated with"):
        api.v1.subscriptions.update(
            subscribed.id, {"metadata": {"a": "b"}, "payment_behavior": "pending_if_incomplete"}
        )
    _break_card(api, subscribed)
    with pytest.raises(stripe.CardError):
        api.v1.subscriptions.update(
            subscribed.id,
            {
                "items": [{"id": _item(subscribed).id, "price": elite.id}],
                "proration_behavior": "always_invoice",
                "payment_behavior": "error_if_incomplete",
            },
        )
    assert _item(api.v1.subscriptions.retrieve(subscribed.id)).price.unit_amount == 9700


def _scheduled(api: stripe.StripeClient, subscription: Any, price: str) -> stripe.SubscriptionSchedule:
    item = _item(subscription)
    made = api.v1.subscription_schedules.create({"from_subscription": subscription.id})
    return api.v1.subscription_schedules.update(
        made.id,
        {
            "end_behavior": "release",
            "phases": [
                {
                    "items": [{"price": item.price.id, "quantity": 1}],
                    "start_date": item.current_period_start,
                    "end_date": item.current_period_end,
                },
                {
                    "items": [{"price": price, "quantity": 1}],
                    "proration_behavior": "none",
                    "duration": {"interval": "month", "interval_count": 1},
                },
            ],
        },
    )


def test_a_scheduled_downgrade_is_billed_by_the_renewal_that_begins_it(
    sim: Running, api: stripe.StripeClient, subscribed: Any
) -> None:
    small = flows.price(api, 1000)
    schedule = _scheduled(api, subscribed, small.id)
    assert api.v1.invoices.create_preview({"subscription": subscribed.id}).total == 1000
    assert api.v1.subscriptions.retrieve(subscribed.id).schedule == schedule.id
    _advance(sim, 31 * DAY + 7200)
    after = api.v1.subscriptions.retrieve(subscribed.id, {"expand": ["schedule"]})
    assert (_item(after).price.id, _newest(api, after).total) == (small.id, 1000)
    _advance(sim, 31 * DAY)
    after = api.v1.subscriptions.retrieve(subscribed.id)
    assert (after.schedule, _item(after).price.id) == (None, small.id)
    assert api.v1.subscription_schedules.retrieve(schedule.id).status == "released"


def test_a_released_schedule_changes_nothing(sim: Running, api: stripe.StripeClient, subscribed: Any) -> None:
    schedule = _scheduled(api, subscribed, flows.price(api, 1000).id)
    for refused in ({"cancel_at_period_end": True}, {"items": [{"id": _item(subscribed).id, "quantity": 2}]}):
        with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
            api.v1.subscriptions.update(subscribed.id, refused)
    with pytest.raises(stripe.InvalidRequestError, match="already attached"):
        api.v1.subscription_schedules.create({"from_subscription": subscribed.id})
    assert api.v1.subscription_schedules.release(schedule.id).released_subscription == subscribed.id
    with pytest.raises(stripe.InvalidRequestError, match="`released` status"):
        api.v1.subscription_schedules.release(schedule.id)
    _advance(sim, 31 * DAY + 7200)
    assert _newest(api, subscribed).total == 9700
    assert (
        api.v1.subscription_schedules.list({"customer": str(subscribed.customer)}).data[0].status
        == "released"
    )


def test_cancelling_takes_the_schedule_along(api: stripe.StripeClient, subscribed: Any) -> None:
    schedule = _scheduled(api, subscribed, flows.price(api, 1000).id)
    api.v1.subscription_schedules.cancel(schedule.id)
    assert api.v1.subscription_schedules.retrieve(schedule.id).status == "canceled"
    assert api.v1.subscriptions.retrieve(subscribed.id).status == "canceled"


def test_phases_leave_no_gap_and_change_nothing_now(api: stripe.StripeClient, subscribed: Any) -> None:
    made = api.v1.subscription_schedules.create({"from_subscription": subscribed.id})
    item, other = _item(subscribed), flows.price(api, 1000)
    now = {"start_date": item.current_period_start, "end_date": item.current_period_end}
    bad: list[Any] = [
        [{"items": [{"price": item.price.id}], "end_date": item.current_period_end}],
        [{**now, "items": [{"price": other.id}]}],
        [{**now, "items": [{"price": item.price.id}], "end_date": item.current_period_end - 5}],
        [{**now, "items": [{"price": item.price.id}]}, {"items": [{"price": other.id}]}],
        [{**now, "items": [{"price": item.price.id}]}, {"items": [{"price": other.id}], "start_date": 5, "end_date": 9}],
    ]  # fmt: skip
    for phases in bad:
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.subscription_schedules.update(made.id, {"phases": phases})


@pytest.mark.parametrize("outcome", ["unpaid", "past_due"])
def test_what_follows_the_last_retry_is_the_accounts_choice(
    sim: Running, api: stripe.StripeClient, key: str, subscribed: Any, outcome: str
) -> None:
    control(sim.url, "/_sim/account", key=key, after_retries=outcome)
    _break_card(api, subscribed)
    _advance(sim, 31 * DAY + 7200)
    overdue = _newest(api, subscribed)
    _advance(sim, 16 * DAY)
    assert api.v1.subscriptions.retrieve(subscribed.id).status == outcome
    _advance(sim, 16 * DAY)
    assert _newest(api, subscribed).status == ("draft" if outcome == "unpaid" else "open")
    api.v1.invoices.pay(overdue.id, {"payment_method": "pm_card_visa"})
    if outcome == "unpaid":
        assert api.v1.subscriptions.retrieve(subscribed.id).status == "active"


def test_what_paid_the_first_invoice_pays_the_next_ones(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price
) -> None:
    made = api.v1.subscriptions.create(
        {
            "customer": flows.customer(api).id,
            "items": [{"price": pro.id}],
            "payment_behavior": "default_incomplete",
            "payment_settings": {"save_default_payment_method": "on_subscription"},
        }
    )
    api.v1.invoices.pay(str(made.latest_invoice), {"payment_method": "pm_card_visa"})
    _advance(sim, 31 * DAY + 7200)
    assert (_newest(api, made).billing_reason, _newest(api, made).status) == ("subscription_cycle", "paid")
