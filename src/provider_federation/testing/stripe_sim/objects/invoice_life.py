"""An invoice's life: draft, open, paid, void, uncollectible. https://docs.stripe.com/invoicing/overview"""

from __future__ import annotations

import secrets

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError, invalid
from provider_federation.testing.stripe_sim.objects.balance import change_balance
from provider_federation.testing.stripe_sim.objects.common import DAY
from provider_federation.testing.stripe_sim.objects.invoice_totals import due_and_ending_balance, recompute
from provider_federation.testing.stripe_sim.objects.invoices import copy_customer
from provider_federation.testing.stripe_sim.objects.payment_methods import resolve
from provider_federation.testing.stripe_sim.objects.payments import (
    charge,
    close_payment,
    new_invoice_payment,
    open_payment,
)
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import new_id
from provider_federation.testing.stripe_sim.store import Object

RETRY_AFTER = (3 * DAY, 5 * DAY, 7 * DAY)  # Stripe's classic retry rules: four attempts in all


@route("POST", "/v1/invoices/{}/finalize", params.InvoiceFinalizeInvoiceParams)
def finalize_invoice(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["status"] != "draft":
        raise invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            None,
            "invoice_not_editable",
        )
    if "auto_advance" in call.params:
        invoice["auto_advance"] = call.params["auto_advance"]
    finalize(call, invoice)
    if invoice["auto_advance"]:
        advance(call, invoice)
    return invoice


def finalize(call: Call, invoice: Object) -> None:
    """Freeze a draft: number, due date, links, balance; paid at once when nothing is to be collected."""
    customer = call.tx.edit("customer", invoice["customer"])
    copy_customer(invoice, customer)
    recompute(call, invoice)
    if invoice["number"] is None:
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
        customer["next_invoice_sequence"] += 1
    if invoice["_due_days"] is not None:
        invoice["due_date"] = call.now + invoice["_due_days"] * DAY
    due, ending = due_and_ending_balance(invoice)
    invoice |= {
        "status": "open",
        "ending_balance": ending,
        "amount_due": due,
        "amount_remaining": due,
        "automatically_finalizes_at": None,
        "effective_at": invoice["effective_at"] or call.now,
        "_due": None,
        "_token": f"sim_{secrets.token_urlsafe(24)}",
    }
    invoice["status_transitions"]["finalized_at"] = call.now
    if ending != invoice["starting_balance"] and customer["currency"] != invoice["currency"]:
        message = f"The simulator keeps a customer's balance in one currency ({customer['currency']})."
        raise invalid(message, None, "not_simulated")
    kind = "invoice_too_small" if 0 < ending > invoice["starting_balance"] else "applied_to_invoice"
    change_balance(
        call, customer, ending - invoice["starting_balance"], kind, invoice["currency"], invoice=invoice["id"]
    )
    if due:
        open_payment(call, invoice)
    call.emit("invoice.finalized", invoice)
    if not due:
        mark_paid(call, invoice)


def advance(call: Call, invoice: Object) -> StripeError | None:
    """What `auto_advance` does to an open invoice: collect it, or send it."""
    if invoice["status"] != "open":
        return None
    if invoice["collection_method"] == "send_invoice":
        call.emit("invoice.sent", invoice)
        return None
    return collect(call, invoice, payment_method_of(call, invoice))


def payment_method_of(call: Call, invoice: Object) -> Object | None:
    """The method that is charged by default: the invoice's, the subscription's, then the customer's."""
    subscription = call.tx.find("subscription", invoice.get("_subscription") or "") or {}
    customer = call.tx.find("customer", invoice["customer"]) or {}
    for identity in (
        invoice["default_payment_method"],
        subscription.get("default_payment_method"),
        customer.get("invoice_settings", {}).get("default_payment_method"),
    ):
        if identity:
            return call.tx.find("payment_method", identity)
    return None


def collect(call: Call, invoice: Object, method: Object | None) -> StripeError | None:
    """One attempt to charge an open invoice. The refusal is returned; the invoice stays open and knows of the
    attempt.
    """
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if method is None:
        refusal: StripeError | None = invalid(
            (
                "This customer has no attached payment source or default payment method. Please consider "
                "adding a default payment method."
            ),
            None,
            "resource_missing",
        )
    else:
        refusal = charge(call, invoice, method)
    if refusal is None and method is not None:
        _keep_method(call, invoice, method)
        close_payment(call, invoice, "paid")
        invoice["amount_paid"] = invoice["amount_due"]
        mark_paid(call, invoice)
        return None
    _plan_retry(call, invoice)
    call.emit("invoice.payment_failed", invoice)
    _tell_subscription(call, invoice, paid=False)
    return refusal


def _keep_method(call: Call, invoice: Object, method: Object) -> None:
    """`save_default_payment_method=on_subscription`: what paid an invoice pays the next ones too."""
    subscription = call.tx.find("subscription", invoice.get("_subscription") or "")
    settings = (subscription or {}).get("payment_settings") or {}
    if subscription is None or settings.get("save_default_payment_method") != "on_subscription":
        return
    call.tx.edit("payment_method", method["id"])["customer"] = invoice["customer"]
    call.tx.edit("subscription", subscription["id"])["default_payment_method"] = method["id"]


def _plan_retry(call: Call, invoice: Object) -> None:
    position = invoice["attempt_count"] - 1
    again = invoice["auto_advance"] and position < len(RETRY_AFTER)
    invoice["next_payment_attempt"] = invoice["_due"] = call.now + RETRY_AFTER[position] if again else None


def mark_paid(call: Call, invoice: Object) -> None:
    """Paid, by whatever way; tells the subscription that it belongs to."""
    invoice |= {
        "status": "paid",
        "amount_remaining": 0,
        "next_payment_attempt": None,
        "_due": None,
        "attempted": True,
    }
    invoice["status_transitions"]["paid_at"] = call.now
    invoice["auto_advance"] = False
    call.emit("invoice.paid", invoice)
    call.emit("invoice.payment_succeeded", invoice)
    _tell_subscription(call, invoice, paid=True)


def _tell_subscription(call: Call, invoice: Object, *, paid: bool) -> None:
    from provider_federation.testing.stripe_sim.objects.subscription_life import invoice_outcome

    identity = invoice.get("_subscription")
    if identity and call.tx.find("subscription", identity):
        invoice_outcome(call, call.tx.edit("subscription", identity), invoice, paid=paid)


@route("POST", "/v1/invoices/{}/send", params.InvoiceSendInvoiceParams)
def send_invoice(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["collection_method"] != "send_invoice":
        raise invalid("You can only manually send an invoice if its collection method is 'send_invoice'.")
    if invoice["status"] == "draft":
        finalize(call, invoice)
    if invoice["status"] not in {"open", "paid"}:
        raise invalid(f"You can't send an invoice that is {invoice['status']}.", None, "invoice_not_editable")
    call.emit("invoice.sent", invoice)
    return invoice


@route("POST", "/v1/invoices/{}/pay", params.InvoicePayParams)
def pay_invoice(call: Call) -> Object:
    invoice, wanted = call.need("invoice", call.path[0]), call.params
    wanted.get("off_session")
    if invoice["status"] == "draft":
        finalize(call, invoice)
        if invoice["status"] == "paid":
            return invoice
    refuse_unpayable(invoice)
    if wanted.get("paid_out_of_band"):
        if "payment_method" in wanted:
            raise invalid("You cannot specify `payment_method` with `paid_out_of_band`.", "payment_method")
        pay_out_of_band(call, invoice)
        return invoice
    method = (
        resolve(call, wanted["payment_method"], "payment_method")
        if "payment_method" in wanted
        else payment_method_of(call, invoice)
    )
    if method and method["customer"] not in {None, invoice["customer"]}:
        raise invalid("The payment method belongs to another customer.", "payment_method", "resource_missing")
    refusal = collect(call, invoice, method)
    if refusal:
        raise refusal
    return invoice


def refuse_unpayable(invoice: Object) -> None:
    """A 400 for what cannot be paid: paid already, or void."""
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", None, "invoice_already_paid")
    if invoice["status"] == "void":
        raise invalid("Invoice is voided and can't be paid", None, "invoice_not_editable")


def pay_out_of_band(call: Call, invoice: Object) -> None:
    """Marked paid on somebody's word: no charge, no cash in the account. `amount_paid_off_stripe` says so."""
    close_payment(call, invoice, "canceled")
    amount = invoice["amount_remaining"]
    new_invoice_payment(
        call, invoice, {"type": "payment_record", "payment_record": new_id("pr")}, amount, "paid"
    )
    invoice |= {"amount_paid": invoice["amount_due"], "amount_paid_off_stripe": amount}
    mark_paid(call, invoice)


@route("POST", "/v1/invoices/{}/void", params.InvoiceVoidInvoiceParams)
def void_invoice(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["status"] not in {"open", "uncollectible"}:
        message = f"You can only pass in open invoices. This invoice isn't open: it is {invoice['status']}."
        raise invalid(message, None, "invoice_not_editable")
    void(call, invoice)
    return invoice


def void(call: Call, invoice: Object) -> None:
    """Void: nothing is due any more, and used credit goes back to the customer."""
    customer = call.tx.edit("customer", invoice["customer"])
    back = invoice["starting_balance"] - invoice["ending_balance"]
    change_balance(call, customer, back, "unapplied_from_invoice", invoice["currency"], invoice=invoice["id"])
    close_payment(call, invoice, "canceled")
    invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None, "_due": None}
    invoice["status_transitions"]["voided_at"] = call.now
    call.emit("invoice.voided", invoice)
    if invoice.get("_holds"):
        _drop_held(call, invoice)


def _drop_held(call: Call, invoice: Object) -> None:
    from provider_federation.testing.stripe_sim.objects.subscription_pending import drop_pending, holds

    subscription = call.tx.edit("subscription", invoice["_subscription"])
    if holds(subscription, invoice):
        drop_pending(call, subscription)


@route("POST", "/v1/invoices/{}/mark_uncollectible", params.InvoiceMarkUncollectibleParams)
def mark_uncollectible(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["status"] != "open":
        message = f"You can only mark open invoices uncollectible. This one is {invoice['status']}."
        raise invalid(message, None, "invoice_not_editable")
    mark_uncollectible_now(call, invoice)
    return invoice


def mark_uncollectible_now(call: Call, invoice: Object, reason: str = "user_forgiven") -> None:
    """Given up; can still be paid or voided."""
    invoice |= {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None, "_due": None}
    invoice["status_details"] = {"uncollectible": {"reason": reason}}
    invoice["status_transitions"]["marked_uncollectible_at"] = call.now
    call.emit("invoice.marked_uncollectible", invoice)
