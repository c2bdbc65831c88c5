"""Invoice items: pending until an invoice takes them, or put on a draft at once.
https://docs.stripe.com/api/invoiceitems
"""

from __future__ import annotations

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import (
    checked_currency,
    merged_metadata,
    set_given,
    times,
    updated,
)
from provider_federation.testing.stripe_sim.objects.customers import live_customer, settle_currency
from provider_federation.testing.stripe_sim.objects.invoice_lines import (
    attach_item,
    editable,
    new_item,
    remove_line,
)
from provider_federation.testing.stripe_sim.objects.invoice_totals import recompute
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted
from provider_federation.testing.stripe_sim.store import Object


@route("POST", "/v1/invoiceitems", params.InvoiceItemCreateParams)
def create_item(call: Call) -> Object:
    wanted = call.params
    if "customer" not in wanted:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = live_customer(call, wanted["customer"])
    invoice = _draft(call, customer) if "invoice" in wanted else None
    item = new_item(call, customer["id"], _currency(call, customer, invoice), wanted)
    if "subscription" in wanted:
        item["_subscription"] = call.refer("subscription", wanted["subscription"], "subscription")["id"]
        item["parent"] = {
            "type": "subscription_details",
            "subscription_details": {"subscription": item["_subscription"]},
        }
    settle_currency(call, customer, item["currency"])
    if invoice:
        attach_item(call, invoice, item)
        recompute(call, invoice)
    call.emit("invoiceitem.created", item)
    return item


def _draft(call: Call, customer: Object) -> Object:
    call.refer("invoice", call.params["invoice"], "invoice")
    invoice = editable(call.tx.edit("invoice", call.params["invoice"]))
    if invoice["customer"] != customer["id"]:
        raise invalid("The invoice belongs to another customer.", "invoice")
    return invoice


def _currency(call: Call, customer: Object, invoice: Object | None) -> str:
    """The currency given, or else that of the invoice, the price or the customer; a 400 where they differ."""
    wanted = call.params
    price = call.tx.find("price", wanted.plain("pricing", {}).get("price", "")) or {}
    data = wanted.plain("price_data", {})
    implied = (
        (invoice or {}).get("currency")
        or price.get("currency")
        or data.get("currency")
        or customer["currency"]
    )
    given = checked_currency(wanted["currency"]) if "currency" in wanted else implied
    if given is None:
        raise invalid("Missing required param: currency.", "currency", "parameter_missing")
    if invoice and given != invoice["currency"]:
        raise invalid(
            f"The currency of the invoice item must match the invoice's ({invoice['currency']}).", "currency"
        )
    return str(given)


@route("GET", "/v1/invoiceitems", params.InvoiceItemListParams)
def list_items(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("invoiceitem"), customer=wanted.get("customer"), invoice=wanted.get("invoice")
    )
    if "pending" in wanted:
        pending = wanted["pending"]
        rows = [row for row in rows if (row["invoice"] is None) == pending]
    return page(call, in_range(call, rows, "created"), "/v1/invoiceitems", "invoiceitem")


@route("GET", "/v1/invoiceitems/{}", params.InvoiceItemRetrieveParams)
def retrieve_item(call: Call) -> Object:
    return call.need("invoiceitem", call.path[0])


@route("POST", "/v1/invoiceitems/{}", params.InvoiceItemUpdateParams)
def update_item(call: Call) -> Object:
    item = call.need("invoiceitem", call.path[0])
    invoice = editable(call.tx.edit("invoice", item["invoice"])) if item["invoice"] else None
    updated(call, item, "invoiceitem.updated", lambda: _change(call, item))
    if invoice:
        line = next(
            line
            for line in invoice["_lines"]
            if (call.tx.find("line_item", line) or {}).get("_item") == item["id"]
        )
        stored = call.tx.edit("line_item", line)
        stored |= {
            name: item[name]
            for name in ("amount", "description", "metadata", "quantity", "quantity_decimal", "period")
        }
        stored["subtotal"] = item["amount"]
        recompute(call, invoice)
    return item


def _change(call: Call, item: Object) -> None:
    wanted = call.params
    item["metadata"] = merged_metadata(item["metadata"], wanted.get("metadata"))
    set_given(call, item, ("description", "discountable", "period"))
    if "amount" in wanted:
        item |= {
            "amount": wanted["amount"],
            "pricing": {**item["pricing"], "unit_amount_decimal": str(wanted["amount"])},
        }
    if "quantity" in wanted:
        quantity = wanted["quantity"]
        item |= {"quantity": quantity, "quantity_decimal": str(quantity)}
        item["amount"] = times(item["pricing"]["unit_amount_decimal"], quantity)
    item["net_amount"] = item["amount"]


@route("DELETE", "/v1/invoiceitems/{}", params.InvoiceItemDeleteParams)
def delete_item(call: Call) -> Object:
    item = call.need("invoiceitem", call.path[0])
    if item["invoice"]:
        invoice = editable(call.tx.edit("invoice", item["invoice"]))
        for identity in list(invoice["_lines"]):
            line = call.tx.find("line_item", identity)
            if line and line["_item"] == item["id"]:
                remove_line(call, invoice, line, keep_item=True)
        recompute(call, invoice)
    call.tx.remove("invoiceitem", item["id"])
    call.emit("invoiceitem.deleted", item)
    return deleted("invoiceitem", item["id"])
