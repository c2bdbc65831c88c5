"""Refunds of charges. https://docs.stripe.com/api/refunds"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, updated
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object


@route("POST", "/v1/refunds", params.RefundCreateParams)
def create_refund(call: Call) -> Object:
    wanted = call.params
    if ("charge" in wanted) == ("payment_intent" in wanted):
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge.",
            "charge",
            "parameter_missing",
        )
    charge = _charge(call)
    metadata = merged_metadata(None, wanted.get("metadata"))
    return refund_charge(call, charge, wanted.get("amount"), wanted.get("reason"), metadata)


def _charge(call: Call) -> Object:
    wanted = call.params
    if "charge" in wanted:
        call.refer("charge", wanted["charge"], "charge")
        return call.tx.edit("charge", wanted["charge"])
    intent = call.refer("payment_intent", wanted["payment_intent"], "payment_intent")
    if not intent["latest_charge"]:
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise invalid(message, "payment_intent", "payment_intent_unexpected_state")
    return call.tx.edit("charge", intent["latest_charge"])


def refund_charge(
    call: Call,
    charge: Object,
    amount: int | None,
    reason: str | None = None,
    metadata: Object | None = None,
) -> Object:
    """Give back `amount` (all that is left by default); a 400 for more than that, or a second time."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    if not charge["paid"]:
        raise invalid(f"Charge {charge['id']} has failed and cannot be refunded.", "charge")
    if left == 0:
        raise invalid(
            f"Charge {charge['id']} has already been refunded.", "charge", "charge_already_refunded"
        )
    given = left if amount is None else amount
    if not 1 <= given <= left:
        raise invalid(
            f"Refund amount ({given}) is greater than unrefunded amount on charge ({left}), or not positive.",
            "amount",
        )
    charge = call.tx.edit("charge", charge["id"])
    charge["amount_refunded"] += given
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    refund = call.tx.add(
        "refund",
        fill(
            stripe.Refund,
            id=new_id("re"),
            object="refund",
            amount=given,
            charge=charge["id"],
            created=call.now,
            currency=charge["currency"],
            customer=charge["customer"],
            metadata=metadata or {},
            payment_intent=charge["payment_intent"],
            payment_method=charge["payment_method"],
            reason=reason,
            status="succeeded",
        ),
    )
    call.emit("refund.created", refund)
    call.emit("charge.refunded", charge)
    return refund


@route("GET", "/v1/refunds", params.RefundListParams)
def list_refunds(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("refund"), charge=wanted.get("charge"), payment_intent=wanted.get("payment_intent")
    )
    return page(call, in_range(call, rows, "created"), "/v1/refunds", "refund")


@route("GET", "/v1/refunds/{}", params.RefundRetrieveParams)
def retrieve_refund(call: Call) -> Object:
    return call.need("refund", call.path[0])


@route("POST", "/v1/refunds/{}", params.RefundUpdateParams)
def update_refund(call: Call) -> Object:
    refund = call.need("refund", call.path[0])

    def change() -> None:
        refund["metadata"] = merged_metadata(refund["metadata"], call.params.get("metadata"))

    return updated(call, refund, "refund.updated", change)
