"""Invoices: making, reading, changing and deleting drafts. https://docs.stripe.com/api/invoices

Their life after the draft is in `invoice_life`, their lines in `invoice_lines`.
"""

from __future__ import annotations

from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import (
    DAY,
    checked_currency,
    merged_metadata,
    set_given,
    updated,
)
from provider_federation.testing.stripe_sim.objects.customers import (
    live_customer,
    owned_method,
    settle_currency,
)
from provider_federation.testing.stripe_sim.objects.invoice_lines import take_pending_items
from provider_federation.testing.stripe_sim.objects.invoice_totals import recompute
from provider_federation.testing.stripe_sim.objects.tax_rates import chosen_rates
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted, fill, new_id
from provider_federation.testing.stripe_sim.store import Object, deep_copy

HOUR = 3_600
_ZEROS = (
    "amount_due", "amount_overpaid", "amount_paid", "amount_remaining", "amount_shipping", "attempt_count",
    "post_payment_credit_notes_amount", "pre_payment_credit_notes_amount", "starting_balance", "subtotal",
    "subtotal_excluding_tax", "total", "total_excluding_tax",
)  # fmt: skip
_LISTS = (
    "customer_tax_ids", "default_tax_rates", "discounts", "total_discount_amounts",
    "total_pretax_credit_amounts", "total_taxes", "_lines",
)  # fmt: skip
_BLANK: dict[str, Any] = {
    "object": "invoice", "account_country": "US", "attempted": False, "livemode": False, "metadata": {}, "lines": None,
    "status": "draft", "issuer": {"account": None, "type": "self"}, "_due_days": None,
    "payment_settings": fill(stripe.Invoice.PaymentSettings, payment_method_types=None, payment_method_options=None,
                             default_mandate=None),
}  # fmt: skip
_AFTER_FINALISE = {
    "metadata",
    "auto_advance",
    "days_until_due",
    "due_date",
    "default_payment_method",
    "payment_settings",
    "expand",
}


@route("POST", "/v1/invoices", params.InvoiceCreateParams)
def create_invoice(call: Call) -> Object:
    wanted = call.params
    if "customer" not in wanted:
        raise invalid("You must provide a customer.", "customer", "parameter_missing")
    customer = live_customer(call, wanted["customer"])
    currency = checked_currency(wanted["currency"]) if "currency" in wanted else customer["currency"] or "usd"
    method = wanted.get("collection_method", "charge_automatically")
    invoice = new_invoice(
        call, customer, currency, collection_method=method, auto_advance=wanted.get("auto_advance", False)
    )
    _set_due_date(call, invoice, required=True)
    _set_simple_fields(call, invoice)
    invoice["metadata"] = merged_metadata(None, wanted.get("metadata"))
    _for_subscription(call, invoice)
    if wanted.get("pending_invoice_items_behavior", "exclude") == "include":
        take_pending_items(call, invoice, invoice.get("_subscription"))
    recompute(call, invoice)
    call.emit("invoice.created", invoice)
    return invoice


def new_invoice(
    call: Call,
    customer: Object,
    currency: str,
    *,
    collection_method: str,
    auto_advance: bool,
    billing_reason: str = "manual",
) -> Object:
    """A stored draft without lines. `_due` is when it finalises by itself (in an hour, when it advances)."""
    at = call.now + HOUR if auto_advance else None
    given = {
        "id": new_id("in"),
        "account_name": call.tx.account.name,
        "auto_advance": auto_advance,
        "automatic_tax": fill(stripe.Invoice.AutomaticTax, enabled=False),
        "automatically_finalizes_at": at,
        "billing_reason": billing_reason,
        "collection_method": collection_method,
        "currency": currency,
        "customer": customer["id"],
        "rendering": fill(stripe.Invoice.Rendering, pdf={"page_size": "auto"}),
        "status_transitions": fill(stripe.Invoice.StatusTransitions),
        "_due": at,
    }
    moments = dict.fromkeys(("created", "period_start", "period_end"), call.now)
    zeros = dict.fromkeys(_ZEROS, 0)
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    invoice = call.tx.add(
        "invoice", fill(stripe.Invoice, **deep_copy(_BLANK), **zeros, **lists, **moments, **given)
    )
    copy_customer(invoice, customer)
    settle_currency(call, customer, currency)
    return invoice


def copy_customer(invoice: Object, customer: Object) -> None:
    """A draft follows its customer's name and address; they freeze when it is finalised."""
    for name in ("address", "email", "name", "phone", "shipping", "tax_exempt"):
        invoice[f"customer_{name}"] = customer[name]


def _set_due_date(call: Call, invoice: Object, *, required: bool) -> None:
    wanted, sends = call.params, invoice["collection_method"] == "send_invoice"
    days, date = wanted.get("days_until_due"), wanted.get("due_date")
    for name, value in (("days_until_due", days), ("due_date", date)):
        if value is not None and not sends:
            raise invalid(
                f"You can only set `{name}` if the invoice's `collection_method` is `send_invoice`.", name
            )
    if days is not None and date is not None:
        raise invalid("You can only specify one of `days_until_due` and `due_date`.", "due_date")
    if days is not None:
        if not 0 <= days <= 3650:
            raise invalid(
                "Invalid integer: must be between 0 and 3650.", "days_until_due", "parameter_invalid_integer"
            )
        invoice |= {"_due_days": days, "due_date": invoice["created"] + days * DAY}
    elif date is not None:
        if date < call.now:
            raise invalid("The due date must be in the future.", "due_date")
        invoice |= {"_due_days": None, "due_date": date}
    elif required and sends:
        message = (
            "If an invoice's `collection_method` is `send_invoice`, you must specify `days_until_due` or "
            "`due_date`."
        )
        raise invalid(message, "days_until_due", "parameter_missing")


def _set_simple_fields(call: Call, invoice: Object) -> None:
    wanted = call.params
    set_given(
        call,
        invoice,
        ("description", "footer", "statement_descriptor", "number", "effective_at", "custom_fields"),
    )
    if "payment_settings" in wanted:
        invoice["payment_settings"] |= wanted.plain("payment_settings")
    if "default_tax_rates" in wanted:
        rates = chosen_rates(call, wanted.plain("default_tax_rates") or [], "default_tax_rates")
        invoice["default_tax_rates"] = [render(call, rate) for rate in rates]
        recompute(call, invoice)
    if "rendering" in wanted:
        invoice["rendering"] = fill(stripe.Invoice.Rendering, **wanted.plain("rendering"))
    if "default_payment_method" in wanted:
        method = wanted["default_payment_method"]
        invoice["default_payment_method"] = owned_method(
            call, method, invoice["customer"], "default_payment_method"
        )
    if "automatic_tax" in wanted and wanted["automatic_tax"]["enabled"]:
        raise invalid("The simulator has no automatic tax.", "automatic_tax[enabled]", "not_simulated")
    if "automatically_finalizes_at" in wanted:
        invoice["automatically_finalizes_at"] = invoice["_due"] = wanted["automatically_finalizes_at"]


def _for_subscription(call: Call, invoice: Object) -> None:
    if "subscription" not in call.params:
        return
    subscription = call.refer("subscription", call.params["subscription"], "subscription")
    if subscription["customer"] != invoice["customer"]:
        raise invalid("The subscription belongs to another customer.", "subscription")
    link_subscription(invoice, subscription)


def link_subscription(invoice: Object, subscription: Object, proration_date: int | None = None) -> None:
    """Put the subscription where this API version has it: `parent.subscription_details.subscription`."""
    details: dict[str, Any] = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
    if proration_date is not None:
        details["subscription_proration_date"] = proration_date
    invoice["parent"] = {
        "type": "subscription_details",
        "quote_details": None,
        "subscription_details": details,
    }
    invoice["_subscription"] = subscription["id"]


@route("GET", "/v1/invoices", params.InvoiceListParams)
def list_invoices(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("invoice"),
        customer=wanted.get("customer"),
        status=wanted.get("status"),
        collection_method=wanted.get("collection_method"),
        _subscription=wanted.get("subscription"),
    )
    return page(call, in_range(call, in_range(call, rows, "created"), "due_date"), "/v1/invoices", "invoice")


@route("GET", "/v1/invoices/{}", params.InvoiceRetrieveParams)
def retrieve_invoice(call: Call) -> Object:
    return call.need("invoice", call.path[0])


@route("POST", "/v1/invoices/{}", params.InvoiceUpdateParams)
def update_invoice(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["status"] != "draft":
        for name in call.params:
            if name not in _AFTER_FINALISE:
                raise invalid(
                    f"Finalized invoices can't be updated in this way ({name}).", name, "invoice_not_editable"
                )
    return updated(call, invoice, "invoice.updated", lambda: _change(call, invoice))


def _change(call: Call, invoice: Object) -> None:
    wanted = call.params
    invoice["metadata"] = merged_metadata(invoice["metadata"], wanted.get("metadata"))
    if "collection_method" in wanted:
        invoice["collection_method"] = wanted["collection_method"]
    _set_due_date(call, invoice, required=invoice["due_date"] is None)
    _set_simple_fields(call, invoice)
    if "auto_advance" in wanted:
        set_advance(call, invoice, on=wanted["auto_advance"])


def set_advance(call: Call, invoice: Object, *, on: bool) -> None:
    """Switch automatic collection; a draft that advances finalises by itself in an hour."""
    invoice["auto_advance"] = on
    if invoice["status"] == "draft":
        invoice["automatically_finalizes_at"] = invoice["_due"] = call.now + HOUR if on else None


@route("DELETE", "/v1/invoices/{}", params.InvoiceDeleteParams)
def delete_invoice(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    if invoice["status"] != "draft":
        raise invalid(
            "You can only delete draft invoices. Void it or mark it uncollectible instead.",
            None,
            "invoice_not_editable",
        )
    if invoice.get("_subscription"):
        raise invalid("You can't delete invoices created by subscriptions.", None, "invoice_not_editable")
    call.emit("invoice.deleted", invoice)
    for identity in invoice["_lines"]:
        line = call.tx.find("line_item", identity)
        if line:
            call.tx.remove("line_item", identity)
            call.tx.remove("invoiceitem", line["_item"])
    call.tx.remove("invoice", invoice["id"])
    return deleted("invoice", invoice["id"])
