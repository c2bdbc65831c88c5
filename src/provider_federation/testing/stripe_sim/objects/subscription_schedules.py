"""Subscription schedules: what a subscription becomes when its period ends.
https://docs.stripe.com/api/subscription_schedules

A phase begins inside the renewal that bills it, so that the new period costs the new price. The simulator
serves schedules made from a subscription, with phases that end with billing periods.
"""

from __future__ import annotations

from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError, invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, updated
from provider_federation.testing.stripe_sim.objects.prices import usable_price
from provider_federation.testing.stripe_sim.objects.subscription_life import (
    ENDED,
    items_of,
    period_of,
    release_schedule,
)
from provider_federation.testing.stripe_sim.objects.subscription_periods import after_intervals
from provider_federation.testing.stripe_sim.objects.tax_rates import chosen_rates
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

_Shape = stripe.SubscriptionSchedule
_MOST_PHASES = 10


@route("POST", "/v1/subscription_schedules", params.SubscriptionScheduleCreateParams)
def create_schedule(call: Call) -> Object:
    wanted = call.params
    if "from_subscription" not in wanted:
        raise invalid(
            "The simulator makes schedules from a subscription.", "from_subscription", "not_simulated"
        )
    named = call.refer("subscription", wanted["from_subscription"], "from_subscription")
    subscription = call.tx.edit("subscription", named["id"])
    _refuse_unfit(subscription)
    start, end = period_of(call, subscription)
    items = [_phase_item(item["price"], item["quantity"]) for item in items_of(call, subscription)]
    phase = _phase(subscription, items, (start, end), subscription["default_tax_rates"])
    made = call.tx.add("subscription_schedule", _new(call, subscription, phase))
    subscription["schedule"] = made["id"]
    call.emit("subscription_schedule.created", made)
    call.emit("customer.subscription.updated", subscription, previous={"schedule": None})
    return made


def _refuse_unfit(subscription: Object) -> None:
    if subscription["schedule"]:
        message = f"You cannot migrate a subscription that is already attached to a schedule: {subscription['schedule']}."
        raise invalid(message, "from_subscription")
    if subscription["status"] in ENDED | {"incomplete"} or subscription["cancel_at"]:
        raise invalid("A schedule cannot be made from a subscription in this state.", "from_subscription")


def _new(call: Call, subscription: Object, phase: Object) -> Object:
    wanted = call.params
    return fill(
        _Shape,
        id=new_id("sub_sched"),
        object="subscription_schedule",
        billing_mode=dict(subscription["billing_mode"]),
        created=call.now,
        current_phase={"start_date": phase["start_date"], "end_date": phase["end_date"]},
        customer=subscription["customer"],
        default_settings=fill(
            _Shape.DefaultSettings,
            billing_cycle_anchor="automatic",
            collection_method=subscription["collection_method"],
            default_payment_method=subscription["default_payment_method"],
            invoice_settings=fill(
                _Shape.DefaultSettings.InvoiceSettings, issuer={"account": None, "type": "self"}
            ),
        ),
        end_behavior=wanted.get("end_behavior", "release"),
        livemode=False,
        metadata=merged_metadata(None, wanted.get("metadata")),
        pause_schedules=[],
        phases=[phase],
        status="active",
        subscription=subscription["id"],
    )


def _phase_item(price: Object, quantity: int) -> Object:
    return fill(
        _Shape.Phase.Item,
        discounts=[],
        metadata={},
        plan=price["id"],
        price=price["id"],
        quantity=quantity,
        tax_rates=[],
    )


def _phase(
    subscription: Object,
    items: list[Object],
    within: tuple[int, int],
    rates: list[Object],
    prorates: str = "none",
) -> Object:
    return fill(
        _Shape.Phase,
        add_invoice_items=[],
        currency=subscription["currency"],
        default_tax_rates=[dict(rate) for rate in rates],
        discounts=[],
        end_date=within[1],
        items=items,
        metadata={},
        proration_behavior=prorates,
        start_date=within[0],
    )


@route("POST", "/v1/subscription_schedules/{}", params.SubscriptionScheduleUpdateParams)
def update_schedule(call: Call) -> Object:
    schedule, wanted = _active(call), call.params
    subscription = call.tx.edit("subscription", schedule["subscription"])
    wanted.get("proration_behavior")

    def change() -> None:
        schedule["metadata"] = merged_metadata(schedule["metadata"], wanted.get("metadata"))
        schedule["end_behavior"] = wanted.get("end_behavior", schedule["end_behavior"])
        if "phases" in wanted:
            schedule["phases"] = _phases(call, schedule, subscription, wanted["phases"])

    return updated(call, schedule, "subscription_schedule.updated", change)


def _phases(call: Call, schedule: Object, subscription: Object, given: list[Params]) -> list[Object]:
    if not 1 <= len(given) <= _MOST_PHASES:
        raise invalid(f"You must give from 1 to {_MOST_PHASES} phases.", "phases")
    _, end = period_of(call, subscription)
    current = schedule["current_phase"]
    phases: list[Object] = []
    for number, one in enumerate(given):
        begins = one.get("start_date", phases[-1]["end_date"] if phases else None)
        if begins is None:
            raise invalid(
                "The first phase needs a `start_date`.", one.name_of("start_date"), "parameter_missing"
            )
        if begins != (phases[-1]["end_date"] if phases else current["start_date"]):
            raise invalid(
                "The phases must follow each other without a gap, from the current one on.",
                one.name_of("start_date"),
            )
        ends = _end_of(subscription, one, begins)
        phases.append(_phase_given(call, subscription, one, (begins, ends)))
        if number == 0 and ends != end:
            raise invalid(
                "The simulator's phases end with billing periods.", one.name_of("end_date"), "not_simulated"
            )
    _refuse_change_now(call, subscription, phases[0])
    return phases


def _phase_given(call: Call, subscription: Object, given: Params, within: tuple[int, int]) -> Object:
    """A phase says its tax rates itself: without any the subscription has none while it lasts."""
    items = []
    for item in given["items"]:
        price = usable_price(
            call, item["price"], item.name_of("price"), currency=subscription["currency"], recurring=True
        )
        items.append(_phase_item(price, item.get("quantity", 1)))
    if len(items) != len(subscription["_items"]):
        raise invalid("The simulator keeps the number of items.", given.name_of("items"), "not_simulated")
    named = given.plain("default_tax_rates") or []
    rates = [render(call, rate) for rate in chosen_rates(call, named, given.name_of("default_tax_rates"))]
    return _phase(subscription, items, within, rates, given.get("proration_behavior", "create_prorations"))


def _end_of(subscription: Object, given: Params, start: int) -> int:
    duration, end = given.get("duration"), given.get("end_date")
    if (duration is None) == (end is None):
        raise invalid("Give a phase either `end_date` or `duration`.", given.name_of("end_date"))
    if duration is not None:
        # Whole intervals count from the subscription's anchor: 31 January, 28 February, 31 March.
        count = duration.get("interval_count", 1)
        anchor, interval, periods = subscription["billing_cycle_anchor"], duration["interval"], 0
        while after_intervals(anchor, interval, periods) < start:
            periods += 1
        return after_intervals(anchor, interval, periods + count)
    if not isinstance(end, int) or end <= start:
        raise invalid("A phase must end after it starts.", given.name_of("end_date"))
    return end


def _refuse_change_now(call: Call, subscription: Object, first: Object) -> None:
    now = [(item["price"]["id"], item["quantity"]) for item in items_of(call, subscription)]
    if [(item["price"], item["quantity"]) for item in first["items"]] != now:
        raise invalid(
            "The simulator's schedules do not change the current phase.", "phases[0][items]", "not_simulated"
        )
    if [rate["id"] for rate in first["default_tax_rates"]] != [
        rate["id"] for rate in subscription["default_tax_rates"]
    ]:
        raise invalid(
            "The simulator's schedules keep the tax rates of the current phase; name them.",
            "phases[0][default_tax_rates]",
            "not_simulated",
        )


def _active(call: Call) -> Object:
    schedule = call.need("subscription_schedule", call.path[0])
    if schedule["status"] not in {"active", "not_started"}:
        message = (
            f"You cannot change a subscription schedule that is currently in the `{schedule['status']}` status. "
            "Only schedules in the `active` or `not_started` status can be changed."
        )
        raise StripeError(400, "invalid_request_error", message)
    return schedule


@route("POST", "/v1/subscription_schedules/{}/release", params.SubscriptionScheduleReleaseParams)
def release(call: Call) -> Object:
    schedule = _active(call)
    call.params.get("preserve_cancel_date")
    release_schedule(call, call.tx.edit("subscription", schedule["subscription"]))
    return schedule


@route("POST", "/v1/subscription_schedules/{}/cancel", params.SubscriptionScheduleCancelParams)
def cancel_schedule(call: Call) -> Object:
    from provider_federation.testing.stripe_sim.objects.subscription_life import end_subscription

    schedule = _active(call)
    for name in ("invoice_now", "prorate"):
        if call.params.get(name):
            raise invalid("The simulator cancels schedules without an invoice.", name, "not_simulated")
    end_subscription(call, call.tx.edit("subscription", schedule["subscription"]), "cancellation_requested")
    return schedule


@route("GET", "/v1/subscription_schedules/{}", params.SubscriptionScheduleRetrieveParams)
def retrieve_schedule(call: Call) -> Object:
    return call.need("subscription_schedule", call.path[0])


@route("GET", "/v1/subscription_schedules", params.SubscriptionScheduleListParams)
def list_schedules(call: Call) -> Object:
    rows: Any = matching(call.tx.newest("subscription_schedule"), customer=call.params.get("customer"))
    for name in ("created", "released_at", "canceled_at", "completed_at"):
        rows = in_range(call, rows, name)
    return page(call, rows, "/v1/subscription_schedules", "subscription_schedule")
