"""Updates that wait for their payment (`payment_behavior=pending_if_incomplete`).
https://docs.stripe.com/billing/subscriptions/pending-updates
"""

from __future__ import annotations

from typing import Any

import stripe

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.objects.common import updated
from provider_federation.testing.stripe_sim.objects.invoices import HOUR
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.shape import fill
from provider_federation.testing.stripe_sim.store import Object, deep_copy
from provider_federation.testing.stripe_sim.validation import Params

PENDING_FOR = 23 * HOUR
_MAY_BE_PENDING = {
    "items",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "expand",
    "off_session",
}
_ITEM = ("price", "plan", "quantity", "metadata", "current_period_start", "current_period_end")


def refuse_what_cannot_wait(subscription: Object, wanted: Params) -> None:
    """A 400 for parameters that Stripe does not take beside `pending_if_incomplete`."""
    if subscription["collection_method"] != "charge_automatically":
        raise invalid(
            "`pending_if_incomplete` needs `collection_method=charge_automatically`.", "payment_behavior"
        )
    for name in wanted:
        if name not in _MAY_BE_PENDING:
            raise invalid(
                f"`{name}` cannot be updated with `payment_behavior=pending_if_incomplete`.",
                wanted.name_of(name),
            )
    for item in wanted.get("items") or []:
        if "id" not in item or item.get("deleted"):
            raise invalid(
                "The simulator holds changes of items that are there.",
                wanted.name_of("items"),
                "not_simulated",
            )


def snapshot(call: Call, subscription: Object) -> dict[str, Any]:
    """What a held update puts back, and later sets again."""
    items = {one: call.tx.find("subscription_item", one) or {} for one in subscription["_items"]}
    return {
        "anchor": subscription["billing_cycle_anchor"],
        "items": {one: {name: deep_copy(item[name]) for name in _ITEM} for one, item in items.items()},
    }


def hold(call: Call, subscription: Object, before: dict[str, Any], invoice: Object) -> None:
    """The invoice is not paid: everything stays as it was, and the change waits for the payment."""
    after = snapshot(call, subscription)
    shown = [render(call, call.tx.edit("subscription_item", one)) for one in subscription["_items"]]
    expires = min(call.now + PENDING_FOR, *(item["current_period_end"] for item in before["items"].values()))
    anchor = after["anchor"] if after["anchor"] != before["anchor"] else None
    _set(call, subscription, before)
    subscription["pending_update"] = fill(
        stripe.Subscription.PendingUpdate,
        billing_cycle_anchor=anchor,
        expires_at=expires,
        subscription_items=shown,
    )
    subscription["_pending"] = {"invoice": invoice["id"], "after": after}


def _set(call: Call, subscription: Object, state: dict[str, Any]) -> None:
    subscription["billing_cycle_anchor"] = state["anchor"]
    for identity, item in state["items"].items():
        call.tx.edit("subscription_item", identity).update(deep_copy(item))


def holds(subscription: Object, invoice: Object) -> bool:
    """Whether a change of the subscription waits for this invoice."""
    return bool(subscription.get("_pending")) and subscription["_pending"]["invoice"] == invoice["id"]


def apply_pending(call: Call, subscription: Object) -> None:
    """It was paid: the change happens now."""
    waiting = subscription["_pending"]

    def change() -> None:
        _set(call, subscription, waiting["after"])
        subscription.update(pending_update=None, _pending=None)

    updated(call, subscription, "customer.subscription.updated", change)
    call.emit("customer.subscription.pending_update_applied", subscription)


def drop_pending(call: Call, subscription: Object) -> None:
    """Not paid in time, or another change came: nothing happens, and its invoice is void."""
    from provider_federation.testing.stripe_sim.objects.invoice_life import void

    waiting = subscription.get("_pending")
    if not waiting:
        return

    def change() -> None:
        subscription.update(pending_update=None, _pending=None)

    updated(call, subscription, "customer.subscription.updated", change)
    call.emit("customer.subscription.pending_update_expired", subscription)
    invoice = call.tx.edit("invoice", waiting["invoice"])
    if invoice["status"] in {"open", "uncollectible"}:
        void(call, invoice)
