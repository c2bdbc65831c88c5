"""A subscription through time: first invoice, renewals, trials, failures, its end.
https://docs.stripe.com/billing/subscriptions/overview
"""

from __future__ import annotations

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.listing import matching
from provider_federation.testing.stripe_sim.objects.common import DAY, times, updated
from provider_federation.testing.stripe_sim.objects.invoice_life import (
    finalize,
    mark_uncollectible_now,
    payment_method_of,
    void,
)
from provider_federation.testing.stripe_sim.objects.invoice_lines import add_line, take_pending_items
from provider_federation.testing.stripe_sim.objects.invoice_totals import recompute
from provider_federation.testing.stripe_sim.objects.invoices import HOUR, link_subscription, new_invoice
from provider_federation.testing.stripe_sim.objects.subscription_pending import (
    apply_pending,
    drop_pending,
    holds,
)
from provider_federation.testing.stripe_sim.objects.subscription_periods import next_boundary
from provider_federation.testing.stripe_sim.store import Object

INCOMPLETE_FOR = 23 * HOUR
_TRIAL_WARNING = 3 * DAY
ENDED = frozenset({"canceled", "incomplete_expired"})


def items_of(call: Call, subscription: Object) -> list[Object]:
    """The stored items, in order."""
    found = (call.tx.find("subscription_item", identity) for identity in subscription["_items"])
    return [item for item in found if item is not None]


def period_of(call: Call, subscription: Object) -> tuple[int, int]:
    """(start, end) of the current period, which all items share here."""
    item = items_of(call, subscription)[0]
    return item["current_period_start"], item["current_period_end"]


def set_period(call: Call, subscription: Object, start: int, end: int) -> None:
    """Periods are on the items in this API version."""
    for identity in subscription["_items"]:
        call.tx.edit("subscription_item", identity).update(current_period_start=start, current_period_end=end)


def schedule(call: Call, subscription: Object) -> None:
    """Set when the simulator has to look at this subscription next."""
    moments: list[int] = []
    status = subscription["status"]
    if status == "incomplete":
        moments.append(subscription["created"] + INCOMPLETE_FOR)
    elif status == "trialing":
        moments.append(subscription["trial_end"])
        if not subscription["_warned"]:
            moments.append(max(subscription["trial_end"] - _TRIAL_WARNING, call.now))
    elif status in {"active", "past_due", "unpaid"}:
        moments.append(period_of(call, subscription)[1])
    if subscription["cancel_at"] and status not in ENDED:
        moments.append(subscription["cancel_at"])
    if subscription["pending_update"]:
        moments.append(subscription["pending_update"]["expires_at"])
    subscription["_due"] = min(moments) if moments else None


def subscription_due(call: Call, subscription: Object) -> None:
    """What its time has come for."""
    status, waiting = subscription["status"], subscription["pending_update"]
    if waiting and waiting["expires_at"] <= call.now:
        drop_pending(call, subscription)
    elif status == "incomplete":
        _expire(call, subscription)
    elif subscription["cancel_at"] and subscription["cancel_at"] <= call.now and status not in ENDED:
        end_subscription(call, subscription, "cancellation_requested")
    elif status == "trialing" and call.now < subscription["trial_end"]:
        subscription["_warned"] = True
        call.emit("customer.subscription.trial_will_end", subscription)
    elif status == "trialing":
        _end_trial(call, subscription)
    elif status in {"active", "past_due", "unpaid"} and period_of(call, subscription)[1] <= call.now:
        renew(call, subscription)
    schedule(call, subscription)


def _expire(call: Call, subscription: Object) -> None:
    for row in list(matching(call.tx.newest("invoice"), _subscription=subscription["id"], status="open")):
        void(call, call.tx.edit("invoice", row["id"]))

    def change() -> None:
        subscription.update(status="incomplete_expired", ended_at=call.now)

    updated(call, subscription, "customer.subscription.updated", change)


def _end_trial(call: Call, subscription: Object) -> None:
    behaviour = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    probe = {
        "default_payment_method": None,
        "_subscription": subscription["id"],
        "customer": subscription["customer"],
    }
    charges = subscription["collection_method"] == "charge_automatically"
    if charges and behaviour != "create_invoice" and payment_method_of(call, probe) is None:
        if behaviour == "cancel":
            end_subscription(call, subscription, "payment_failed")
            return

        def pause() -> None:
            subscription["status"] = "paused"

        updated(call, subscription, "customer.subscription.updated", pause)
        call.emit("customer.subscription.paused", subscription)
        return
    renew(call, subscription)


def renew(call: Call, subscription: Object) -> Object:
    """The next period begins: a draft invoice for it (with what was pending), which collects itself an hour
    later.
    """
    start, end = period_of(call, subscription)
    recurring = items_of(call, subscription)[0]["price"]["recurring"]
    following = next_boundary(
        subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], end
    )

    def change() -> None:
        _enter_phase(call, subscription, end)
        set_period(call, subscription, end, following)
        if subscription["status"] == "trialing":
            subscription["status"] = "active"

    updated(call, subscription, "customer.subscription.updated", change)
    invoice = subscription_invoice(call, subscription, "subscription_cycle")
    invoice.update(period_start=start, period_end=end)
    add_item_lines(call, invoice, subscription)
    take_pending_items(call, invoice, subscription["id"])
    _move_pending_first(call, invoice)
    recompute(call, invoice)
    call.emit("invoice.created", invoice)
    if subscription["status"] == "unpaid":  # Stripe leaves the invoices of an unpaid subscription as drafts
        invoice.update(auto_advance=False, automatically_finalizes_at=None, _due=None)
    _paused_collection(call, subscription, invoice)
    schedule(call, subscription)
    return invoice


def _enter_phase(call: Call, subscription: Object, at: int) -> None:
    """The schedule's next phase, if one begins at `at`; after the last one the schedule lets go."""
    if not subscription["schedule"]:
        return
    plan = call.tx.edit("subscription_schedule", subscription["schedule"])
    following = next((phase for phase in plan["phases"] if phase["start_date"] == at), None)
    if following is None:
        if plan["current_phase"]["end_date"] <= at:
            release_schedule(call, subscription, "completed_at")
        return
    from provider_federation.testing.stripe_sim.objects.subscriptions import plan_of

    for identity, wanted in zip(subscription["_items"], following["items"], strict=True):
        price = call.refer("price", wanted["price"], "price")
        call.tx.edit("subscription_item", identity).update(
            price=dict(price), plan=plan_of(price), quantity=wanted["quantity"]
        )
    subscription["default_tax_rates"] = following["default_tax_rates"]
    plan["current_phase"] = {"start_date": at, "end_date": following["end_date"]}
    call.emit("subscription_schedule.updated", plan)


def release_schedule(call: Call, subscription: Object, moment: str = "released_at") -> None:
    """The subscription goes on as it is, without its schedule."""
    plan = call.tx.edit("subscription_schedule", subscription["schedule"])
    plan |= {
        "status": "released",
        "current_phase": None,
        "released_at": call.now,
        "released_subscription": subscription["id"],
        "subscription": None,
        moment: call.now,
    }

    def change() -> None:
        subscription["schedule"] = None

    updated(call, subscription, "customer.subscription.updated", change)
    call.emit("subscription_schedule.released", plan)


def _cancel_schedule(call: Call, subscription: Object) -> None:
    if subscription["schedule"]:
        plan = call.tx.edit("subscription_schedule", subscription["schedule"])
        plan |= {"status": "canceled", "current_phase": None, "canceled_at": call.now}
        subscription["schedule"] = None
        call.emit("subscription_schedule.canceled", plan)


def _move_pending_first(call: Call, invoice: Object) -> None:
    invoice["_lines"].sort(key=lambda identity: (call.tx.find("line_item", identity) or {})["_item"] is None)


def _paused_collection(call: Call, subscription: Object, invoice: Object) -> None:
    pause = subscription["pause_collection"]
    if not pause:
        return
    invoice.update(auto_advance=False, automatically_finalizes_at=None, _due=None)
    if pause["behavior"] == "keep_as_draft":
        return
    finalize(call, invoice)
    if invoice["status"] == "open":
        (void if pause["behavior"] == "void" else mark_uncollectible_now)(call, invoice)


def subscription_invoice(
    call: Call, subscription: Object, reason: str, proration_date: int | None = None
) -> Object:
    """A draft for the subscription, without lines, that will finalise by itself in an hour."""
    customer = call.tx.edit("customer", subscription["customer"])
    invoice = new_invoice(
        call,
        customer,
        subscription["currency"],
        collection_method=subscription["collection_method"],
        auto_advance=True,
        billing_reason=reason,
    )
    link_subscription(invoice, subscription, proration_date)
    invoice["default_payment_method"] = subscription["default_payment_method"]
    invoice["default_tax_rates"] = [dict(rate) for rate in subscription["default_tax_rates"]]
    if subscription["collection_method"] == "send_invoice":
        days = subscription["days_until_due"]
        invoice.update(_due_days=days, due_date=call.now + days * DAY)
    subscription["latest_invoice"] = invoice["id"]
    return invoice


def add_item_lines(call: Call, invoice: Object, subscription: Object, *, trial: bool = False) -> None:
    """One line for each item and its current period."""
    for item in items_of(call, subscription):
        price, quantity = item["price"], item["quantity"]
        amount = 0 if trial else times(price["unit_amount_decimal"], quantity)
        add_line(
            call,
            invoice,
            {
                "amount": amount,
                "description": f"Trial period for {_name(call, price)}"
                if trial
                else describe(call, price, quantity),
                "discountable": True,
                "metadata": dict(item["metadata"]),
                "quantity": quantity,
                "quantity_decimal": str(quantity),
                "period": {"start": item["current_period_start"], "end": item["current_period_end"]},
                "parent": item_parent(subscription["id"], item["id"]),
                "pricing": item_pricing(price),
                "subscription": subscription["id"],
            },
        )


def item_parent(
    subscription: str, item: str, invoice_item: str | None = None, *, proration: bool = False
) -> Object:
    """A line's `parent` when it comes from a subscription item."""
    details = {
        "invoice_item": invoice_item,
        "proration": proration,
        "proration_details": {"credited_items": None},
        "subscription": subscription,
        "subscription_item": item,
    }
    return {
        "type": "subscription_item_details",
        "subscription_item_details": details,
        "invoice_item_details": None,
    }


def item_pricing(price: Object) -> Object:
    return {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def _name(call: Call, price: Object) -> str:
    return str((call.tx.find("product", price["product"]) or {"name": price["product"]})["name"])


def describe(call: Call, price: Object, quantity: int) -> str:
    """`1 x PRO (at 97.00 usd / month)`"""
    every = price["recurring"]["interval_count"]
    interval = (
        price["recurring"]["interval"] if every == 1 else f"every {every} {price['recurring']['interval']}s"
    )
    return (
        f"{quantity} x {_name(call, price)} (at {int(price['unit_amount'] or 0) / 100:.2f} "
        f"{price['currency']} / {interval})"
    )


def invoice_outcome(call: Call, subscription: Object, invoice: Object, *, paid: bool) -> None:
    """An invoice of the subscription was paid, or an attempt failed."""
    if invoice.get("_holds"):
        if paid and holds(subscription, invoice):
            apply_pending(call, subscription)
            schedule(call, subscription)
        return
    before = subscription["status"]
    if (
        paid
        and before in {"incomplete", "past_due", "unpaid"}
        and not _other_open(call, subscription, invoice)
    ):
        status = (
            "trialing" if subscription["trial_end"] and call.now < subscription["trial_end"] else "active"
        )
    elif not paid and before in {"active", "trialing"} and invoice["billing_reason"] != "subscription_create":
        status = "past_due"
    else:
        status = before

    def change() -> None:
        subscription["status"] = status

    updated(call, subscription, "customer.subscription.updated", change)
    given_up = invoice["auto_advance"] and invoice["next_payment_attempt"] is None
    if not paid and status == "past_due" and given_up:
        _give_up(call, subscription)
    call.tx.edit("customer", subscription["customer"])["delinquent"] = status in {"past_due", "unpaid"}
    schedule(call, subscription)


def _give_up(call: Call, subscription: Object) -> None:
    """All retries failed: what the account's settings say (Manage failed payments: cancel, unpaid, past_due)."""
    wanted = call.tx.account.after_retries
    if wanted == "cancel":
        end_subscription(call, subscription, "payment_failed")
    elif wanted == "unpaid":

        def change() -> None:
            subscription["status"] = "unpaid"

        updated(call, subscription, "customer.subscription.updated", change)


def _other_open(call: Call, subscription: Object, invoice: Object) -> bool:
    rows = matching(call.tx.newest("invoice"), _subscription=subscription["id"], status="open")
    return any(row["id"] != invoice["id"] for row in rows)


def end_subscription(call: Call, subscription: Object, reason: str) -> None:
    """Cancelled for good; what was pending for it and its drafts collect nothing more."""
    drop_pending(call, subscription)
    _cancel_schedule(call, subscription)
    subscription.update(
        status="canceled",
        ended_at=call.now,
        canceled_at=subscription["canceled_at"] or call.now,
        _due=None,
    )
    subscription["cancellation_details"] = {**(subscription["cancellation_details"] or {}), "reason": reason}
    for row in list(matching(call.tx.newest("invoice"), _subscription=subscription["id"])):
        if row["status"] in {"draft", "open"}:
            call.tx.edit("invoice", row["id"]).update(
                auto_advance=False, automatically_finalizes_at=None, next_payment_attempt=None, _due=None
            )
    call.emit("customer.subscription.deleted", subscription)
