"""An invoice paid in parts: a payment intent of its own, confirmed at once, and attached to the invoice.
https://docs.stripe.com/invoicing/partial-payments
"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.objects.invoice_life import mark_paid, refuse_unpayable
from provider_federation.testing.stripe_sim.objects.payment_methods import resolve
from provider_federation.testing.stripe_sim.objects.payments import (
    charge_intent,
    close_payment,
    new_invoice_payment,
    resize_payment,
)
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object


@route("POST", "/v1/payment_intents", params.PaymentIntentCreateParams)
def create_intent(call: Call) -> Object:
    """Confirmed at once with a card; a later confirmation is not served."""
    wanted = call.params
    if not wanted.get("confirm") or "payment_method" not in wanted:
        raise invalid(
            "The simulator takes payment intents with confirm=true and a payment_method.", "confirm"
        )
    if wanted["amount"] < 50:
        raise invalid("Amount must be at least 50 minor units.", "amount", "amount_too_small")
    customer = wanted.get("customer")
    if customer is not None:
        call.refer("customer", customer, "customer")
    identity = new_id("pi")
    intent = call.tx.add(
        "payment_intent",
        fill(
            stripe.PaymentIntent,
            id=identity,
            object="payment_intent",
            amount=wanted["amount"],
            amount_capturable=0,
            amount_received=0,
            capture_method="automatic",
            client_secret=f"{identity}_secret_{new_id('s')[2:]}",
            confirmation_method="automatic",
            created=call.now,
            currency=wanted["currency"],
            customer=customer,
            livemode=False,
            metadata=wanted.plain("metadata", {}),
            payment_method_types=wanted.get("payment_method_types") or ["card"],
            status="requires_payment_method",
            _invoice=None,
        ),
    )
    refusal = charge_intent(call, intent, resolve(call, wanted["payment_method"], "payment_method"))
    if refusal:
        raise refusal
    return intent


@route("POST", "/v1/invoices/{}/attach_payment", params.InvoiceAttachPaymentParams)
def attach_payment(call: Call) -> Object:
    """A payment that succeeded pays its part; the last one makes the invoice paid."""
    invoice = call.need("invoice", call.path[0])
    identity = call.params["payment_intent"]
    call.refer("payment_intent", identity, "payment_intent")
    intent = call.tx.edit("payment_intent", identity)
    _check(invoice, intent)
    before = {"amount_paid": invoice["amount_paid"], "amount_remaining": invoice["amount_remaining"]}
    intent["_invoice"] = invoice["id"]
    row = new_invoice_payment(
        call, invoice, {"type": "payment_intent", "payment_intent": identity}, intent["amount"], "paid"
    )
    row["is_default"] = False
    invoice["amount_paid"] += intent["amount"]
    invoice["amount_remaining"] -= intent["amount"]
    call.emit("invoice_payment.paid", row)
    if invoice["amount_remaining"]:
        resize_payment(call, invoice)
        call.emit("invoice.updated", invoice, before)
    else:
        close_payment(call, invoice, "canceled")
        mark_paid(call, invoice)
    return invoice


def _check(invoice: Object, intent: Object) -> None:
    if invoice["status"] == "draft":
        raise invalid("A payment can be attached to a finalized invoice only.", None, "invoice_not_editable")
    refuse_unpayable(invoice)
    if intent["status"] != "succeeded":
        raise invalid("The simulator attaches payment intents that succeeded.", "payment_intent")
    if intent["_invoice"] is not None:
        raise invalid("This payment is attached to an invoice already.", "payment_intent")
    if (intent["customer"], intent["currency"]) != (invoice["customer"], invoice["currency"]):
        raise invalid("The payment is of another customer or currency.", "payment_intent")
    if intent["amount"] > invoice["amount_remaining"]:
        raise invalid("The payment is larger than what the invoice still asks for.", "payment_intent")
