"""Changing a subscription: items with proration by the second, the anchor, trials, the end.
https://docs.stripe.com/billing/subscriptions/prorations
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, set_given, times, updated
from provider_federation.testing.stripe_sim.objects.customers import owned_method
from provider_federation.testing.stripe_sim.objects.invoice_life import collect, finalize, payment_method_of
from provider_federation.testing.stripe_sim.objects.invoice_lines import take_pending_items
from provider_federation.testing.stripe_sim.objects.invoice_totals import recompute
from provider_federation.testing.stripe_sim.objects.subscription_life import (
    add_item_lines,
    describe,
    item_pricing,
    items_of,
    period_of,
    renew,
    schedule,
    set_period,
    subscription_invoice,
)
from provider_federation.testing.stripe_sim.objects.subscription_pending import (
    drop_pending,
    hold,
    refuse_what_cannot_wait,
    snapshot,
)
from provider_federation.testing.stripe_sim.objects.subscription_periods import after_intervals, share
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

Owed = tuple[str, Object, int]  # item id, price, quantity: what is charged for


def apply_changes(call: Call, subscription: Object, wanted: Params) -> Object | None:
    """Everything `subscriptions.update` does; the invoice it made at once, if it made one."""
    moment = _proration_date(call, subscription, wanted)
    behaviour = wanted.get("proration_behavior", "create_prorations")
    waits = wanted.get("payment_behavior") == "pending_if_incomplete"
    _refuse_unfit(subscription, wanted, waits=waits)
    if wanted.get("items"):
        drop_pending(call, subscription)
    before, state = _owed(call, subscription), snapshot(call, subscription)
    made: list[Object] = []

    def change() -> None:
        _set_plain(call, subscription, wanted)
        _change_items(call, subscription, wanted.get("items") or [])
        _set_trial(call, subscription, wanted)
        if _restarts(call, subscription, wanted, before):
            made.append(_restart(call, subscription, before, behaviour, moment))
        elif before != _owed(call, subscription):
            _prorate(call, subscription, before, behaviour, moment)
            if behaviour == "always_invoice" and subscription["status"] != "trialing":
                made.append(invoice_prorations(call, subscription, moment))
        if waits and made and made[0]["status"] == "open":
            hold(call, subscription, state, made[0])

    wanted.get("off_session")
    updated(call, subscription, "customer.subscription.updated", change)
    schedule(call, subscription)
    return made[0] if made else None


def _refuse_unfit(subscription: Object, wanted: Params, *, waits: bool) -> None:
    if waits:
        refuse_what_cannot_wait(subscription, wanted)
    if wanted.get("payment_behavior") == "default_incomplete":
        raise invalid(
            "The simulator does not update with `default_incomplete`.",
            wanted.name_of("payment_behavior"),
            "not_simulated",
        )
    for name in ("cancel_at_period_end", "cancel_at", "items"):
        if subscription["schedule"] and name in wanted:
            message = (
                f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
                f"updating `{name}` directly is not allowed. Please update the schedule instead."
            )
            raise invalid(message, wanted.name_of(name))


def _proration_date(call: Call, subscription: Object, wanted: Params) -> int:
    start, end = period_of(call, subscription)
    moment: int = wanted.get("proration_date", call.now)
    if not start <= moment <= max(end, call.now):
        raise invalid(
            "The proration date must be within the current period.", wanted.name_of("proration_date")
        )
    return moment


def _owed(call: Call, subscription: Object) -> list[Owed]:
    return [(item["id"], item["price"], item["quantity"]) for item in items_of(call, subscription)]


def _set_plain(call: Call, subscription: Object, wanted: Params) -> None:
    from provider_federation.testing.stripe_sim.objects.subscriptions import set_cancel_at

    subscription["metadata"] = merged_metadata(subscription["metadata"], wanted.get("metadata"))
    if wanted is call.params:
        set_given(
            call, subscription, ("description", "collection_method", "days_until_due", "pause_collection")
        )
    for name in ("payment_settings", "invoice_settings", "cancellation_details"):
        if name in wanted:
            subscription[name] = {**subscription[name], **wanted.plain(name)}
    if "default_payment_method" in wanted:
        method = owned_method(
            call, wanted["default_payment_method"], subscription["customer"], "default_payment_method"
        )
        subscription["default_payment_method"] = method
    if "trial_settings" in wanted:
        subscription["trial_settings"]["end_behavior"] |= wanted.plain("trial_settings")["end_behavior"]
    if "cancel_at" in wanted:
        set_cancel_at(call, subscription, wanted["cancel_at"])
    if "cancel_at_period_end" in wanted:
        _cancel_at_period_end(call, subscription, on=wanted["cancel_at_period_end"])
    if subscription["collection_method"] == "send_invoice" and subscription["days_until_due"] is None:
        raise invalid(
            "`days_until_due` is needed with `collection_method=send_invoice`.",
            "days_until_due",
            "parameter_missing",
        )


def _cancel_at_period_end(call: Call, subscription: Object, *, on: bool) -> None:
    reason = "cancellation_requested" if on else None
    subscription |= {
        "cancel_at_period_end": on,
        "cancel_at": period_of(call, subscription)[1] if on else None,
        "canceled_at": call.now if on else None,
    }
    subscription["cancellation_details"] = {**subscription["cancellation_details"], "reason": reason}


def _change_items(call: Call, subscription: Object, wanted: list[Params]) -> None:
    from provider_federation.testing.stripe_sim.objects.subscriptions import add_item

    start, end = period_of(call, subscription)
    for given in wanted:
        if "id" not in given:
            add_item(call, subscription, given).update(current_period_start=start, current_period_end=end)
        elif given["id"] not in subscription["_items"]:
            raise invalid(
                f"No such subscription item: '{given['id']}'", given.name_of("id"), "resource_missing"
            )
        elif given.get("deleted"):
            subscription["_items"].remove(given["id"])
            call.tx.remove("subscription_item", given["id"])
        else:
            change_item(call, subscription, given["id"], given)
    if not subscription["_items"]:
        raise invalid("A subscription must have at least one active plan.", "items")


def change_item(call: Call, subscription: Object, identity: str, given: Params) -> Object:
    """Price, quantity and metadata of one item; the proration is the caller's business."""
    from provider_federation.testing.stripe_sim.objects.subscriptions import plan_of, price_of

    item = call.tx.edit("subscription_item", identity)
    if given.keys() & {"price", "price_data"}:
        price = price_of(call, subscription, given)
        item |= {"price": dict(price), "plan": plan_of(price)}
    if "quantity" in given:
        if given["quantity"] < 0:
            raise invalid("Invalid integer: must be greater than or equal to 0.", given.name_of("quantity"))
        item["quantity"] = given["quantity"]
    item["metadata"] = merged_metadata(item["metadata"], given.get("metadata"))
    return item


def _set_trial(call: Call, subscription: Object, wanted: Params) -> None:
    end: Any = wanted.get("trial_end")
    if end is None:
        return
    moment = call.now if end == "now" else end
    if moment < call.now:
        raise invalid("`trial_end` must be in the future.", "trial_end")
    start, _ = period_of(call, subscription)
    subscription |= {
        "status": "trialing",
        "trial_start": subscription["trial_start"] or call.now,
        "trial_end": moment,
        "_warned": False,
        "billing_cycle_anchor": moment,
    }
    set_period(call, subscription, start, moment)


def _restarts(call: Call, subscription: Object, wanted: Params, before: list[Owed]) -> bool:
    """A new interval, a reset anchor, or the end of a trial begins a new period now."""
    if wanted.plain("billing_cycle_anchor", {}).get("type") == "now" or wanted.get("trial_end") == "now":
        return True
    rhythms = {
        (price["recurring"]["interval"], price["recurring"]["interval_count"])
        for _, price, _ in _owed(call, subscription)
    }
    if len(rhythms) > 1:
        raise invalid("The simulator wants one billing interval for all items.", "items", "not_simulated")
    old = before[0][1]["recurring"]
    return rhythms != {(old["interval"], old["interval_count"])} and subscription["status"] != "trialing"


def _restart(call: Call, subscription: Object, before: list[Owed], behaviour: str, moment: int) -> Object:
    if subscription["status"] == "trialing":
        subscription["billing_cycle_anchor"] = call.now
        return _bill_now(call, renew(call, subscription))
    if behaviour != "none":
        _items_for(call, subscription, before, moment, sign=-1)
    recurring = items_of(call, subscription)[0]["price"]["recurring"]
    subscription["billing_cycle_anchor"] = call.now
    set_period(
        call,
        subscription,
        call.now,
        after_intervals(call.now, recurring["interval"], recurring["interval_count"]),
    )
    invoice = subscription_invoice(call, subscription, "subscription_update", moment)
    add_item_lines(call, invoice, subscription)
    return _bill_now(call, _with_pending(call, invoice, subscription))


def _prorate(call: Call, subscription: Object, before: list[Owed], behaviour: str, moment: int) -> None:
    if behaviour == "none" or subscription["status"] in {"trialing", "incomplete", "paused"}:
        return
    after = _owed(call, subscription)
    _items_for(call, subscription, [owed for owed in before if owed not in after], moment, sign=-1)
    _items_for(call, subscription, [owed for owed in after if owed not in before], moment, sign=1)


def credit_unused_time(call: Call, subscription: Object, moment: int) -> None:
    """Pending credits for what was paid for and will not be used."""
    _items_for(call, subscription, _owed(call, subscription), moment, sign=-1)


def _items_for(call: Call, subscription: Object, owed: list[Owed], moment: int, *, sign: int) -> None:
    start, end = period_of(call, subscription)
    day = datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")
    for identity, price, quantity in owed:
        amount = sign * share(times(price["unit_amount_decimal"], quantity), start, end, moment)
        what = "Unused time on" if sign < 0 else "Remaining time on"
        call.emit(
            "invoiceitem.created",
            call.tx.add(
                "invoiceitem",
                fill(
                    stripe.InvoiceItem,
                    id=new_id("ii"),
                    object="invoiceitem",
                    amount=amount,
                    currency=subscription["currency"],
                    customer=subscription["customer"],
                    date=call.now,
                    description=f"{what} {describe(call, price, quantity)} after {day}",
                    discountable=False,
                    discounts=[],
                    livemode=False,
                    metadata={},
                    net_amount=amount,
                    period={"start": moment, "end": end},
                    parent={
                        "type": "subscription_details",
                        "subscription_details": {
                            "subscription": subscription["id"],
                            "subscription_item": identity,
                        },
                    },
                    pricing={**item_pricing(price), "unit_amount_decimal": _unit(amount, quantity)},
                    proration=True,
                    proration_details={"credited_items": None, "discount_amounts": []},
                    quantity=quantity,
                    quantity_decimal=str(quantity),
                    tax_rates=[],
                    frozen_fields=[],
                    _taxes=[],
                    _subscription=subscription["id"],
                    _subscription_item=identity,
                ),
            ),
        )


def _unit(amount: int, quantity: int) -> str:
    return f"{Decimal(amount) / quantity:.12f}".rstrip("0").rstrip(".") if quantity else "0"


def invoice_prorations(call: Call, subscription: Object, moment: int) -> Object:
    """Bill what is pending for the subscription at once, and collect it."""
    invoice = subscription_invoice(call, subscription, "subscription_update", moment)
    return _bill_now(call, _with_pending(call, invoice, subscription))


def _with_pending(call: Call, invoice: Object, subscription: Object) -> Object:
    take_pending_items(call, invoice, subscription["id"])
    recompute(call, invoice)
    call.emit("invoice.created", invoice)
    return invoice


def _bill_now(call: Call, invoice: Object) -> Object:
    if call.quiet or invoice["status"] != "draft":
        return invoice
    behaviour = call.params.get("payment_behavior")
    if behaviour == "pending_if_incomplete":
        invoice |= {"_holds": True, "auto_advance": False}
    finalize(call, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        refusal = collect(call, invoice, payment_method_of(call, invoice))
        if refusal and behaviour == "error_if_incomplete":
            refusal.commits = False
            raise refusal
    elif invoice["status"] == "open":
        call.emit("invoice.sent", invoice)
    return invoice
