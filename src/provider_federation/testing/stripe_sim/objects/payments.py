"""Taking the money: payment intents, charges and invoice payments, as far as a paid invoice of this API
version needs them.
"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError, card_declined, missing
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_DECLINED = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
}


def open_payment(call: Call, invoice: Object) -> None:
    """The payment intent and the invoice payment that a finalised invoice waits with."""
    identity = new_id("pi")
    secret = f"{identity}_secret_{new_id('s')[2:]}"
    call.tx.add(
        "payment_intent",
        fill(
            stripe.PaymentIntent,
            id=identity,
            object="payment_intent",
            amount=invoice["amount_due"],
            amount_capturable=0,
            amount_received=0,
            capture_method="automatic",
            client_secret=secret,
            confirmation_method="automatic",
            created=call.now,
            currency=invoice["currency"],
            customer=invoice["customer"],
            livemode=False,
            metadata={},
            payment_method_types=["card"],
            status="requires_payment_method",
            description=invoice["description"],
            _invoice=invoice["id"],
        ),
    )
    new_invoice_payment(
        call, invoice, {"type": "payment_intent", "payment_intent": identity}, invoice["amount_due"], "open"
    )
    invoice |= {"_client_secret": secret, "_intent": identity}


def new_invoice_payment(call: Call, invoice: Object, payment: Object, amount: int, status: str) -> Object:
    """The link between an invoice and what pays it."""
    paid = status == "paid"
    return call.tx.add(
        "invoice_payment",
        fill(
            stripe.InvoicePayment,
            id=new_id("inpay"),
            object="invoice_payment",
            amount_requested=amount,
            created=call.now,
            amount_paid=amount if paid else None,
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            livemode=False,
            payment=payment,
            status=status,
            status_transitions={"canceled_at": None, "paid_at": call.now if paid else None},
        ),
    )


def close_payment(call: Call, invoice: Object, status: str) -> None:
    """Mark the waiting invoice payment `paid` or `canceled`; a cancelled one takes its intent along."""
    for row in list(matching(call.tx.newest("invoice_payment"), invoice=invoice["id"], status="open")):
        payment = call.tx.edit("invoice_payment", row["id"])
        payment["status"] = status
        payment["status_transitions"]["paid_at" if status == "paid" else "canceled_at"] = call.now
        if status == "paid":
            payment["amount_paid"] = payment["amount_requested"]
            call.emit("invoice_payment.paid", payment)
        elif invoice.get("_intent"):
            intent = call.tx.edit("payment_intent", invoice["_intent"])
            intent |= {"status": "canceled", "canceled_at": call.now, "cancellation_reason": "void_invoice"}
            call.emit("payment_intent.canceled", intent)


def resize_payment(call: Call, invoice: Object) -> None:
    """After a credit note: the waiting payment asks for what remains."""
    if invoice.get("_intent"):
        call.tx.edit("payment_intent", invoice["_intent"])["amount"] = invoice["amount_remaining"]
    for row in list(matching(call.tx.newest("invoice_payment"), invoice=invoice["id"], status="open")):
        call.tx.edit("invoice_payment", row["id"])["amount_requested"] = invoice["amount_remaining"]


def charge(call: Call, invoice: Object, method: Object) -> StripeError | None:
    """Try to take what remains of the invoice from a payment method. The refusal is returned, and stays in
    the books.
    """
    return charge_intent(call, call.tx.edit("payment_intent", invoice["_intent"]), method)


def charge_intent(call: Call, intent: Object, method: Object) -> StripeError | None:
    """Try to take a payment intent's amount. The refusal is returned, and stays in the books."""
    code = "generic_decline" if call.declines() else method["_at_charge"]
    row = _new_charge(call, intent, method, code)
    intent |= {"latest_charge": row["id"], "payment_method": method["id"]}
    if code:
        message = _DECLINED.get(code, "Your card was declined.")
        intent |= {
            "status": "requires_payment_method",
            "last_payment_error": _last_error(code, message, row["id"]),
        }
        call.emit("charge.failed", row)
        call.emit("payment_intent.payment_failed", intent)
        return card_declined(message, code, charge=row["id"])
    intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
    call.emit("charge.succeeded", row)
    call.emit("payment_intent.succeeded", intent)
    return None


def _last_error(code: str, message: str, charge_id: str) -> Object:
    return fill(
        stripe.PaymentIntent.LastPaymentError,
        type="card_error",
        code="card_declined",
        decline_code=code,
        message=message,
        charge=charge_id,
    )


def _new_charge(call: Call, intent: Object, method: Object, code: str | None) -> Object:
    card = method["card"]
    details = {
        "card": {
            "brand": card["brand"],
            "last4": card["last4"],
            "exp_month": card["exp_month"],
            "exp_year": card["exp_year"],
        }
    }
    outcome = fill(
        stripe.Charge.Outcome,
        type="issuer_declined" if code else "authorized",
        reason=code,
        risk_level="normal",
        network_status="declined_by_network" if code else "approved_by_network",
    )
    return call.tx.add(
        "charge",
        fill(
            stripe.Charge,
            id=new_id("ch"),
            object="charge",
            amount=intent["amount"],
            amount_captured=0 if code else intent["amount"],
            amount_refunded=0,
            billing_details=dict(method["billing_details"]),
            captured=not code,
            created=call.now,
            currency=intent["currency"],
            customer=intent["customer"],
            disputed=False,
            livemode=False,
            metadata={},
            outcome=outcome,
            paid=not code,
            refunded=False,
            status="failed" if code else "succeeded",
            failure_code="card_declined" if code else None,
            failure_message=_DECLINED.get(code, "Your card was declined.") if code else None,
            payment_intent=intent["id"],
            payment_method=method["id"],
            payment_method_details={"type": "card", **details},
            _invoice=intent["_invoice"],
        ),
    )


@route("GET", "/v1/payment_intents", params.PaymentIntentListParams)
def list_intents(call: Call) -> Object:
    rows = matching(call.tx.newest("payment_intent"), customer=call.params.get("customer"))
    return page(call, in_range(call, rows, "created"), "/v1/payment_intents", "payment_intent")


@route("GET", "/v1/payment_intents/{}", params.PaymentIntentRetrieveParams)
def retrieve_intent(call: Call) -> Object:
    secret, intent = call.params.get("client_secret"), call.need("payment_intent", call.path[0])
    if secret is not None and secret != intent["client_secret"]:
        raise missing("payment_intent", call.path[0], "intent")
    return intent


@route("GET", "/v1/charges", params.ChargeListParams)
def list_charges(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("charge"), customer=wanted.get("customer"), payment_intent=wanted.get("payment_intent")
    )
    return page(call, in_range(call, rows, "created"), "/v1/charges", "charge")


@route("GET", "/v1/charges/{}", params.ChargeRetrieveParams)
def retrieve_charge(call: Call) -> Object:
    return call.need("charge", call.path[0])


@route("GET", "/v1/invoice_payments", params.InvoicePaymentListParams)
def list_invoice_payments(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("invoice_payment"), invoice=wanted.get("invoice"), status=wanted.get("status")
    )
    payment = wanted.plain("payment", {})
    chosen = (
        row for row in rows if all(row["payment"].get(name) == value for name, value in payment.items())
    )
    return page(call, in_range(call, chosen, "created"), "/v1/invoice_payments", "invoice_payment")


@route("GET", "/v1/invoice_payments/{}", params.InvoicePaymentRetrieveParams)
def retrieve_invoice_payment(call: Call) -> Object:
    return call.need("invoice_payment", call.path[0])
