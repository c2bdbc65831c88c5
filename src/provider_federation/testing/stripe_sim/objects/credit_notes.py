"""Credit notes: how a finalised invoice is corrected. https://docs.stripe.com/api/credit_notes"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.balance import change_balance
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, set_given, updated
from provider_federation.testing.stripe_sim.objects.invoice_life import mark_paid
from provider_federation.testing.stripe_sim.objects.payments import close_payment, resize_payment
from provider_federation.testing.stripe_sim.objects.refunds import refund_charge
from provider_federation.testing.stripe_sim.objects.tax_rates import credited_taxes
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params


@route("POST", "/v1/credit_notes", params.CreditNoteCreateParams)
def create_credit_note(call: Call) -> Object:
    note, invoice = _issue(call)
    call.emit("credit_note.created", note)
    call.emit("invoice.updated", invoice)
    return note


@route("GET", "/v1/credit_notes/preview", params.CreditNotePreviewParams)
def preview_credit_note(call: Call) -> Object:
    call.quiet = True
    note, _ = _issue(call)
    shown = render(call, note)
    call.tx.changes.clear()
    return shown


@route("GET", "/v1/credit_notes/preview/lines", params.CreditNotePreviewLinesListParams)
def preview_credit_note_lines(call: Call) -> Object:
    call.quiet = True
    note, _ = _issue(call)
    call.tx.changes.clear()
    return page(call, note["_lines"], "/v1/credit_notes/preview/lines", "credit_note_line_item")


def _issue(call: Call) -> tuple[Object, Object]:
    wanted = call.params
    call.refer("invoice", wanted["invoice"], "invoice")
    invoice = call.tx.edit("invoice", wanted["invoice"])
    if invoice["status"] not in {"open", "paid", "uncollectible"}:
        raise invalid(f"You can only credit finalized invoices; this one is {invoice['status']}.", "invoice")
    wanted.get("email_type")
    lines = [_line(call, invoice, given) for given in wanted.get("lines") or []]
    amount = _amount(wanted, lines)
    note = _new_note(call, invoice, lines or [_custom_line("Credit", amount, 1)])
    if invoice["status"] == "paid":
        _after_payment(call, invoice, note, wanted)
    else:
        _before_payment(call, invoice, note, wanted)
    return note, invoice


def _amount(wanted: Params, lines: list[Object]) -> int:
    total = sum(line["amount"] for line in lines) + _tax_on_top(lines)
    given: int | None = wanted.get("amount")
    if given is None and not lines:
        raise invalid(
            "You must specify one of `amount`, `lines` or `shipping_cost`.", "amount", "parameter_missing"
        )
    if lines and given not in {None, total}:
        raise invalid("`amount` must be the sum of the lines and their taxes.", "amount")
    amount = total if given is None else given
    if amount <= 0:
        raise invalid("The credit must be positive.", "amount", "parameter_invalid_integer")
    return amount


def _tax_on_top(lines: list[Object]) -> int:
    taxes = [tax for line in lines for tax in line["taxes"] or []]
    return sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")


def _line(call: Call, invoice: Object, given: Params) -> Object:
    if given["type"] == "invoice_line_item":
        return _invoice_line(call, invoice, given)
    if "description" not in given or "unit_amount" not in given:
        raise invalid(
            "A custom line needs description, unit_amount and quantity.",
            given.name_of("unit_amount"),
            "parameter_missing",
        )
    return _custom_line(given["description"], given["unit_amount"], given.get("quantity", 1))


def _invoice_line(call: Call, invoice: Object, given: Params) -> Object:
    identity = given.get("invoice_line_item")
    if identity not in invoice["_lines"]:
        raise invalid(
            f"No such invoice line item: '{identity}'", given.name_of("invoice_line_item"), "resource_missing"
        )
    line = call.tx.edit("line_item", identity)
    quantity = given.get("quantity")
    amount = given.get("amount")
    if amount is None:
        whole = line["quantity"] or 1
        amount = line["amount"] if quantity is None else line["amount"] * quantity // whole
    left = line["amount"] - line["_credited"]
    if not 0 < amount <= left:
        raise invalid(
            f"The credit must be between 1 and what is left of the line ({left}).", given.name_of("amount")
        )
    taxes = credited_taxes(line["taxes"] or [], line["amount"], line["_credited"], amount)
    line["_credited"] += amount
    credit = _custom_line(line["description"], amount, 1)
    return credit | {
        "taxes": taxes,
        "type": "invoice_line_item",
        "invoice_line_item": identity,
        "quantity": quantity,
        "unit_amount": None,
        "unit_amount_decimal": None,
    }


def _custom_line(description: str | None, unit_amount: int, quantity: int) -> Object:
    return fill(
        stripe.CreditNoteLineItem,
        id=new_id("cnli"),
        object="credit_note_line_item",
        amount=unit_amount * quantity,
        description=description,
        discount_amount=0,
        discount_amounts=[],
        livemode=False,
        pretax_credit_amounts=[],
        quantity=quantity,
        tax_rates=[],
        taxes=[],
        type="custom_line_item",
        unit_amount=unit_amount,
        unit_amount_decimal=str(unit_amount),
        metadata={},
    )


def _new_note(call: Call, invoice: Object, lines: list[Object]) -> Object:
    wanted = call.params
    subtotal = sum(line["amount"] for line in lines)
    taxes = [tax for line in lines for tax in line["taxes"] or []]
    inside = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    amount = subtotal + _tax_on_top(lines)
    earlier = sum(1 for _ in matching(call.tx.newest("credit_note"), invoice=invoice["id"]))
    note = fill(
        stripe.CreditNote,
        id=new_id("cn"),
        object="credit_note",
        amount=amount,
        amount_shipping=0,
        created=call.now,
        currency=invoice["currency"],
        customer=invoice["customer"],
        discount_amount=0,
        discount_amounts=[],
        invoice=invoice["id"],
        lines=None,
        livemode=False,
        memo=wanted.get("memo"),
        metadata=merged_metadata(None, wanted.get("metadata")),
        number=f"{invoice['number']}-CN-{earlier + 1:02d}",
        pdf="",
        post_payment_amount=0,
        pre_payment_amount=0,
        pretax_credit_amounts=[],
        reason=wanted.get("reason"),
        refunds=[],
        status="issued",
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal - inside,
        total=amount,
        total_excluding_tax=subtotal - inside,
        total_taxes=[dict(tax) for tax in taxes],
        type="pre_payment",
        effective_at=wanted.get("effective_at", call.now),
        _lines=lines,
        _invoice_token=invoice["_token"],
    )
    return call.tx.add("credit_note", note)


def _before_payment(call: Call, invoice: Object, note: Object, wanted: Params) -> None:
    for name in ("credit_amount", "refund_amount", "out_of_band_amount", "refunds"):
        if wanted.get(name):
            raise invalid("An unpaid invoice's credit reduces what is due; nothing is refunded.", name)
    amount = note["amount"]
    if amount > invoice["amount_remaining"]:
        message = (
            f"The credit ({amount}) is more than what remains to be paid ({invoice['amount_remaining']})."
        )
        raise invalid(message, "amount")
    note["pre_payment_amount"] = amount
    invoice["pre_payment_credit_notes_amount"] += amount
    invoice["amount_due"] -= amount
    invoice["amount_remaining"] -= amount
    resize_payment(call, invoice)
    if invoice["amount_remaining"] == 0:
        close_payment(call, invoice, "canceled")
        mark_paid(call, invoice)


def _after_payment(call: Call, invoice: Object, note: Object, wanted: Params) -> None:
    amount = note["amount"]
    left = (
        invoice["total"]
        - invoice["pre_payment_credit_notes_amount"]
        - invoice["post_payment_credit_notes_amount"]
    )
    if amount > left:
        raise invalid(f"The credit ({amount}) is more than what is left of the invoice ({left}).", "amount")
    credit, refund = wanted.get("credit_amount", 0), wanted.get("refund_amount", 0)
    outside = wanted.get("out_of_band_amount", 0)
    linked = [_linked_refund(call, given) for given in wanted.get("refunds") or []]
    if credit + refund + outside + sum(row["amount_refunded"] for row in linked) != amount:
        message = (
            "The sum of credit amount, refund amount and out of band amount must equal the credit note "
            "amount."
        )
        raise invalid(message, "amount")
    note |= {
        "type": "post_payment",
        "post_payment_amount": amount,
        "out_of_band_amount": outside or None,
        "refunds": linked,
    }
    invoice["post_payment_credit_notes_amount"] += amount
    if credit:
        customer = call.tx.edit("customer", invoice["customer"])
        row = change_balance(
            call,
            customer,
            -credit,
            "credit_note",
            invoice["currency"],
            invoice=invoice["id"],
            credit_note=note["id"],
        )
        note["customer_balance_transaction"] = row["id"] if row else None
    if refund:
        note["refunds"].append(_refund(call, invoice, refund))


def _refund(call: Call, invoice: Object, amount: int) -> Object:
    intent = call.tx.find("payment_intent", invoice.get("_intent") or "")
    if not intent or not intent["latest_charge"] or intent["status"] != "succeeded":
        raise invalid("There is no charge on this invoice to refund.", "refund_amount")
    made = refund_charge(call, call.tx.edit("charge", intent["latest_charge"]), amount)
    return {"amount_refunded": amount, "payment_record_refund": None, "refund": made["id"], "type": "refund"}


def _linked_refund(call: Call, given: Params) -> Object:
    refund = call.refer("refund", given.get("refund") or "", given.name_of("refund"))
    given.get("type")
    amount = given.get("amount_refunded", refund["amount"])
    return {
        "amount_refunded": amount,
        "payment_record_refund": None,
        "refund": refund["id"],
        "type": "refund",
    }


@route("GET", "/v1/credit_notes", params.CreditNoteListParams)
def list_credit_notes(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("credit_note"), customer=wanted.get("customer"), invoice=wanted.get("invoice")
    )
    return page(call, in_range(call, rows, "created"), "/v1/credit_notes", "credit_note")


@route("GET", "/v1/credit_notes/{}", params.CreditNoteRetrieveParams)
def retrieve_credit_note(call: Call) -> Object:
    return call.need("credit_note", call.path[0])


@route("GET", "/v1/credit_notes/{}/lines", params.CreditNoteLineItemListParams)
def list_credit_note_lines(call: Call) -> Object:
    note = call.need("credit_note", call.path[0])
    return page(call, note["_lines"], f"/v1/credit_notes/{note['id']}/lines", "credit_note_line_item")


@route("POST", "/v1/credit_notes/{}", params.CreditNoteUpdateParams)
def update_credit_note(call: Call) -> Object:
    note = call.need("credit_note", call.path[0])

    def change() -> None:
        note["metadata"] = merged_metadata(note["metadata"], call.params.get("metadata"))
        set_given(call, note, ("memo",))

    return updated(call, note, "credit_note.updated", change)


@route("POST", "/v1/credit_notes/{}/void", params.CreditNoteVoidCreditNoteParams)
def void_credit_note(call: Call) -> Object:
    note = call.need("credit_note", call.path[0])
    invoice = call.tx.edit("invoice", note["invoice"])
    if note["status"] == "void":
        raise invalid("This credit note is already void.", None, "credit_note_void")
    if note["type"] != "pre_payment" or invoice["status"] != "open":
        raise invalid("Only credit notes of open invoices can be voided.")
    invoice["pre_payment_credit_notes_amount"] -= note["amount"]
    invoice["amount_due"] += note["amount"]
    invoice["amount_remaining"] += note["amount"]
    resize_payment(call, invoice)
    for credited in note["_lines"]:
        if credited["invoice_line_item"]:
            call.tx.edit("line_item", credited["invoice_line_item"])["_credited"] -= credited["amount"]
    note |= {"status": "void", "voided_at": call.now}
    call.emit("credit_note.voided", note)
    return note
