"""Lines of invoices: at most 250 a call, on drafts only. https://docs.stripe.com/api/invoices/add_lines"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid, missing, unknown_reference
from provider_federation.testing.stripe_sim.listing import page
from provider_federation.testing.stripe_sim.objects.common import (
    checked_amount,
    checked_currency,
    merged_metadata,
    plain_decimal,
    times,
    updated,
)
from provider_federation.testing.stripe_sim.objects.invoice_totals import lines_of, recompute
from provider_federation.testing.stripe_sim.objects.prices import new_price, usable_price
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

_MOST_LINES = 250


def editable(invoice: Object) -> Object:
    """The draft; a 400 `invoice_not_editable` for anything later."""
    if invoice["status"] != "draft":
        raise invalid("This invoice is no longer editable", "invoice", "invoice_not_editable")
    return invoice


def new_item(call: Call, customer: str, currency: str, wanted: Params) -> Object:
    """A stored invoice item from the parameters of a line or of an invoice item."""
    quantity = wanted.get("quantity")
    exact = wanted.get("quantity_decimal")
    if quantity is not None and quantity < 0:
        raise invalid(
            "Invalid integer: must be greater than or equal to 0.",
            wanted.name_of("quantity"),
            "parameter_invalid_integer",
        )
    if quantity is not None and exact is not None:
        raise invalid(
            "You can only specify one of `quantity` and `quantity_decimal`.",
            wanted.name_of("quantity_decimal"),
        )
    count = exact if exact is not None else Decimal(1 if quantity is None else quantity)
    amount, pricing = _amount_and_pricing(call, wanted, currency, count)
    checked_amount(amount, wanted.name_of("amount"))
    return call.tx.add(
        "invoiceitem",
        fill(
            stripe.InvoiceItem,
            id=new_id("ii"),
            object="invoiceitem",
            amount=amount,
            currency=currency,
            customer=customer,
            date=call.now,
            description=wanted.get("description"),
            discountable=wanted.get("discountable", amount >= 0),
            discounts=[],
            livemode=False,
            metadata=merged_metadata(None, wanted.get("metadata")),
            net_amount=amount,
            period=_period(call, wanted),
            pricing=pricing,
            proration=False,
            quantity=int(count),
            quantity_decimal=plain_decimal(count),
            tax_rates=[],
            frozen_fields=[],
            _taxes=_taxes(wanted, amount),
        ),
    )


def _amount_and_pricing(call: Call, wanted: Params, currency: str, count: Decimal) -> tuple[int, Object]:
    ways = [name for name in ("amount", "price_data", "pricing", "unit_amount_decimal") if name in wanted]
    if len(ways) != 1:
        message = "You must specify exactly one of `amount`, `price_data` and `pricing`."
        raise invalid(message, wanted.name_of("amount" if not ways else ways[-1]), "parameter_missing")
    if ways == ["amount"]:
        if count != 1:
            raise invalid("A quantity goes with a price, not with an amount.", wanted.name_of("quantity"))
        return wanted["amount"], _pricing(None, str(wanted["amount"]))
    if ways == ["unit_amount_decimal"]:
        unit = plain_decimal(wanted["unit_amount_decimal"])
        return times(unit, count), _pricing(None, unit)
    price = _price_of(call, wanted, currency)
    return times(price["unit_amount_decimal"], count), _pricing(price, price["unit_amount_decimal"])


def _price_of(call: Call, wanted: Params, currency: str) -> Object:
    if "pricing" in wanted:
        pricing = wanted["pricing"]
        if "price" not in pricing:
            raise invalid(
                "Missing required param: pricing[price].", pricing.name_of("price"), "parameter_missing"
            )
        return usable_price(
            call, pricing["price"], pricing.name_of("price"), currency=currency, recurring=False
        )
    data = wanted["price_data"]
    if checked_currency(data["currency"], data.name_of("currency")) != currency:
        message = f"The currency of the line ({data['currency']}) must match the invoice's ({currency})."
        raise invalid(message, data.name_of("currency"))
    price = new_price(call, data, _product_of(call, data))
    price["active"] = False  # a price made for one line cannot be used again
    return price


def _product_of(call: Call, data: Params) -> str:
    from provider_federation.testing.stripe_sim.objects.products import new_product

    if "product" in data:
        product = call.refer("product", data["product"], data.name_of("product"))
        if not product["active"]:
            raise invalid("The product is inactive.", data.name_of("product"))
        return str(product["id"])
    if "product_data" not in data:
        raise invalid(
            "You must specify either `product` or `product_data`.",
            data.name_of("product"),
            "parameter_missing",
        )
    given = data["product_data"]
    return str(new_product(call, given["name"], None, merged_metadata(None, given.get("metadata")))["id"])


def _pricing(price: Object | None, unit: str) -> Object:
    details = {"price": price["id"], "product": price["product"]} if price else None
    return {"type": "price_details", "price_details": details, "unit_amount_decimal": unit}


def _period(call: Call, wanted: Params) -> Object:
    given = wanted.plain("period")
    if given is None:
        return {"start": call.now, "end": call.now}
    if given["end"] < given["start"]:
        raise invalid("The period must end after it starts.", wanted.name_of("period[end]"))
    return {"start": given["start"], "end": given["end"]}


def _taxes(wanted: Params, amount: int) -> list[Object]:
    rows = []
    for tax in wanted.plain("tax_amounts") or []:
        if (tax["amount"] < 0) != (amount < 0) and tax["amount"]:
            raise invalid("A tax amount has the sign of its line.", wanted.name_of("tax_amounts"))
        behaviour = "inclusive" if tax["tax_rate_data"]["inclusive"] else "exclusive"
        rows.append(
            {
                "amount": tax["amount"],
                "tax_behavior": behaviour,
                "tax_rate_details": {"tax_rate": new_id("txr")},
                "taxability_reason": tax.get("taxability_reason", "standard_rated"),
                "taxable_amount": tax["taxable_amount"],
                "type": "tax_rate_details",
            }
        )
    return rows


def attach_item(call: Call, invoice: Object, item: Object, *, first: bool = False) -> Object:
    """Make the line on a draft that an invoice item stands for."""
    item = call.tx.edit("invoiceitem", item["id"])
    item["invoice"] = invoice["id"]
    details = {
        "invoice_item": item["id"],
        "proration": item["proration"],
        "proration_details": {"credited_items": None},
        "subscription": item.get("_subscription"),
    }
    parent = {
        "type": "invoice_item_details",
        "invoice_item_details": details,
        "subscription_item_details": None,
    }
    if item.get("_subscription_item"):
        inner = {**details, "subscription_item": item["_subscription_item"]}
        parent = {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": inner,
        }
    line = add_line(
        call,
        invoice,
        {
            "amount": item["amount"],
            "description": item["description"],
            "discountable": item["discountable"],
            "metadata": dict(item["metadata"]),
            "parent": parent,
            "period": dict(item["period"]),
            "pricing": item["pricing"],
            "quantity": item["quantity"],
            "quantity_decimal": item["quantity_decimal"],
            "taxes": item["_taxes"],
            "subscription": item.get("_subscription"),
            "_item": item["id"],
        },
    )
    if first:
        invoice["_lines"].insert(0, invoice["_lines"].pop())
    return line


def add_line(call: Call, invoice: Object, given: dict[str, Any]) -> Object:
    """A stored line at the end of the invoice."""
    line = call.tx.add(
        "line_item",
        fill(
            stripe.InvoiceLineItem,
            **{
                "id": new_id("il"),
                "object": "line_item",
                "currency": invoice["currency"],
                "discount_amounts": [],
                "discounts": [],
                "invoice": invoice["id"],
                "livemode": False,
                "metadata": {},
                "pretax_credit_amounts": [],
                "subtotal": given["amount"],
                "taxes": [],
                "_item": None,
                "_credited": 0,
                "_own_taxes": bool(given.get("taxes")),
                **given,
            },
        ),
    )
    invoice["_lines"].append(line["id"])
    return line


def take_pending_items(call: Call, invoice: Object, subscription: str | None) -> int:
    """Put the customer's pending items on the invoice, newest first as Stripe sorts them; how many there
    were.
    """
    pending = [
        item
        for item in call.tx.newest("invoiceitem")
        if item["customer"] == invoice["customer"]
        and item["invoice"] is None
        and item["currency"] == invoice["currency"]
        and item.get("_subscription") in {None, subscription}
    ]
    for item in pending:
        attach_item(call, invoice, item)
    return len(pending)


def _lines_wanted(call: Call) -> list[Params]:
    lines: list[Params] = call.params["lines"]
    if not 1 <= len(lines) <= _MOST_LINES:
        raise invalid(f"You must provide from 1 to {_MOST_LINES} lines.", "lines", "parameter_invalid")
    return lines


def _change_lines(call: Call, change: Any) -> Object:
    invoice = editable(call.need("invoice", call.path[0]))
    lines = _lines_wanted(call)

    def apply() -> None:
        for wanted in lines:
            change(invoice, wanted)
        invoice["metadata"] = merged_metadata(invoice["metadata"], call.params.get("invoice_metadata"))
        recompute(call, invoice)

    return updated(call, invoice, "invoice.updated", apply)


@route("POST", "/v1/invoices/{}/add_lines", params.InvoiceAddLinesParams)
def add_lines(call: Call) -> Object:
    def add(invoice: Object, wanted: Params) -> None:
        if "invoice_item" in wanted:
            attach_item(call, invoice, _pending_item(call, invoice, wanted))
        else:
            attach_item(call, invoice, new_item(call, invoice["customer"], invoice["currency"], wanted))

    return _change_lines(call, add)


def _pending_item(call: Call, invoice: Object, wanted: Params) -> Object:
    item = call.refer("invoiceitem", wanted["invoice_item"], wanted.name_of("invoice_item"), "invoiceitem")
    if item["invoice"] or item["customer"] != invoice["customer"] or item["currency"] != invoice["currency"]:
        raise invalid("This invoice item cannot be put on this invoice.", wanted.name_of("invoice_item"))
    return item


@route("POST", "/v1/invoices/{}/update_lines", params.InvoiceUpdateLinesParams)
def update_lines(call: Call) -> Object:
    return _change_lines(
        call, lambda invoice, wanted: _update_line(call, _line(call, invoice, wanted["id"], wanted), wanted)
    )


@route("POST", "/v1/invoices/{}/remove_lines", params.InvoiceRemoveLinesParams)
def remove_lines(call: Call) -> Object:
    def remove(invoice: Object, wanted: Params) -> None:
        remove_line(
            call,
            invoice,
            _line(call, invoice, wanted["id"], wanted),
            keep_item=wanted["behavior"] == "unassign",
        )

    return _change_lines(call, remove)


def remove_line(call: Call, invoice: Object, line: Object, *, keep_item: bool) -> None:
    """Take a line off a draft; its invoice item goes with it, or becomes pending again."""
    invoice["_lines"].remove(line["id"])
    call.tx.remove("line_item", line["id"])
    if line["_item"] and keep_item:
        call.tx.edit("invoiceitem", line["_item"])["invoice"] = None
    elif line["_item"]:
        call.tx.remove("invoiceitem", line["_item"])


def _line(call: Call, invoice: Object, identity: str, wanted: Params) -> Object:
    if identity not in invoice["_lines"]:
        raise unknown_reference("invoice line item", identity, wanted.name_of("id"))
    return call.tx.edit("line_item", identity)


def _update_line(call: Call, line: Object, wanted: Params) -> None:
    if line["_item"] is None and wanted.keys() & {"amount", "price_data", "pricing", "quantity"}:
        raise invalid("A subscription's own line cannot be changed in this way.", wanted.name_of("id"))
    if wanted.keys() & {"amount", "price_data", "pricing", "quantity", "quantity_decimal"}:
        _reprice(call, line, wanted)
    for name in ("description", "discountable"):
        if name in wanted:
            line[name] = wanted[name]
    if "period" in wanted:
        line["period"] = _period(call, wanted)
    line["metadata"] = merged_metadata(line["metadata"], wanted.get("metadata"))
    if "tax_amounts" in wanted:
        line["taxes"] = _taxes(wanted, line["amount"])
        line["_own_taxes"] = bool(line["taxes"])
    if line["_item"]:
        item = call.tx.edit("invoiceitem", line["_item"])
        item |= {
            name: line[name]
            for name in (
                "amount",
                "description",
                "metadata",
                "period",
                "pricing",
                "quantity",
                "quantity_decimal",
            )
        }


def _reprice(call: Call, line: Object, wanted: Params) -> None:
    count = wanted.get(
        "quantity_decimal", Decimal(wanted.get("quantity", line["quantity"] if "amount" not in wanted else 1))
    )
    if wanted.keys() & {"amount", "price_data", "pricing"}:
        amount, line["pricing"] = _amount_and_pricing(call, wanted, line["currency"], count)
    else:
        amount = times(line["pricing"]["unit_amount_decimal"], count)
    line |= {
        "amount": amount,
        "subtotal": amount,
        "quantity": int(count),
        "quantity_decimal": plain_decimal(count),
    }


@route("GET", "/v1/invoices/{}/lines", params.InvoiceLineItemListParams)
def list_lines(call: Call) -> Object:
    invoice = call.need("invoice", call.path[0])
    return page(call, lines_of(call, invoice), f"/v1/invoices/{invoice['id']}/lines", "line_item")


@route("POST", "/v1/invoices/{}/lines/{}", params.InvoiceLineItemUpdateParams)
def update_one_line(call: Call) -> Object:
    invoice = editable(call.need("invoice", call.path[0]))
    if call.path[1] not in invoice["_lines"]:
        raise missing("invoice line item", call.path[1])
    line = call.tx.edit("line_item", call.path[1])
    _update_line(call, line, call.params)
    recompute(call, invoice)
    return line
