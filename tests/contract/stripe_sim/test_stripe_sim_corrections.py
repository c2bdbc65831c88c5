"""Taxes, credit notes of taxed lines, refunds and their events, driven by the official SDK."""

from __future__ import annotations

import pytest
import stripe
from tests.contract.stripe_sim import flows


def taxed(api, *amounts, percentage=19, inclusive=False):
    rate = api.v1.tax_rates.create(
        {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive, "metadata": {"a": "b"}}
    )
    return flows.opened(api, flows.customer(api).id, *amounts, default_tax_rates=[rate.id])


def test_tax_rates(api):
    v1 = api.v1
    rate = v1.tax_rates.create(
        {"display_name": "VAT", "percentage": 19.5, "inclusive": False, "country": "DE"}
    )
    assert v1.tax_rates.retrieve(rate.id).percentage == 19.5
    assert [row.id for row in v1.tax_rates.list({"active": True}).data] == [rate.id]
    assert v1.tax_rates.update(rate.id, {"active": False}).active is False
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        flows.draft(api, flows.customer(api).id, 100, default_tax_rates=[rate.id])
    with pytest.raises(stripe.InvalidRequestError, match="between 0 and 100"):
        v1.tax_rates.create({"display_name": "VAT", "percentage": 101, "inclusive": False})


@pytest.mark.parametrize(
    ("inclusive", "total", "tax"), [(False, 20_000 + 3_800 + 333 + 63, 3_863), (True, 20_333, 3_193 + 53)]
)
def test_default_tax_rates_are_reckoned_line_by_line(api, inclusive, total, tax):
    invoice = taxed(api, 20_000, 333, inclusive=inclusive)
    assert (invoice.subtotal, invoice.total) == (20_333, total)
    assert sum(row.amount for row in invoice.total_taxes) == tax
    assert invoice.default_tax_rates[0].display_name == "VAT"


def line_credit(invoice, amount, **more):
    line = invoice.lines.data[0].id
    return {
        "invoice": invoice.id,
        "lines": [{"type": "invoice_line_item", "invoice_line_item": line, "amount": amount}],
        **more,
    }


def test_credits_of_a_taxed_line_add_up_to_its_tax(api):
    invoice = taxed(api, 1_001)  # the tax is 190: thirds do not divide
    taxes = []
    for amount in (333, 333, 335):
        preview = api.v1.credit_notes.preview(line_credit(invoice, amount))
        note = api.v1.credit_notes.create(line_credit(invoice, amount))
        assert (note.subtotal, note.total) == (preview.subtotal, preview.total)
        taxes.append(note.total - note.subtotal)
    assert sum(taxes) == invoice.total - invoice.subtotal == 190
    after = api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.amount_remaining, after.pre_payment_credit_notes_amount) == ("paid", 0, 1_191)
    kinds = [event.type for event in api.v1.events.list({"limit": 20}).data]
    assert kinds.count("credit_note.created") == 3
    assert "invoice.paid" in kinds


def test_after_payment_the_settling_covers_the_tax(api):
    invoice = taxed(api, 1_000)
    api.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError, match="must equal"):
        api.v1.credit_notes.create(line_credit(invoice, 500, refund_amount=500))
    note = api.v1.credit_notes.create(line_credit(invoice, 500, refund_amount=595))
    assert note.refunds[0].amount_refunded == 595
    with pytest.raises(stripe.InvalidRequestError, match="left of the line"):
        api.v1.credit_notes.create(line_credit(invoice, 501, refund_amount=596))


def test_a_refund_tells_of_itself_with_its_metadata(api):
    invoice = flows.opened(api, flows.customer(api).id, 900)
    api.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0].payment
    found = api.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": payment.payment_intent}}
    )
    assert [row.invoice for row in found.data] == [invoice.id]
    wanted = {"payment_intent": payment.payment_intent, "amount": 400, "metadata": {"pf_refund": "1"}}
    refund = api.v1.refunds.create(wanted)
    told = {event.type: event.data.object for event in api.v1.events.list({"limit": 5}).data}
    assert told["refund.created"].metadata["pf_refund"] == "1"
    assert told["charge.refunded"].amount_refunded == 400
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"
    assert refund.status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        api.v1.refunds.create({**wanted, "amount": 501})


def test_an_invoice_is_paid_in_parts_and_each_part_goes_back_by_itself(api):
    customer = flows.customer(api).id
    invoice = flows.opened(api, customer, 2_000)

    def part(amount, **more):
        wanted = {"amount": amount, "currency": "usd", "customer": customer, "payment_method": "pm_card_visa"}
        return api.v1.payment_intents.create({**wanted, "confirm": True, **more}).id

    first = api.v1.invoices.attach_payment(invoice.id, {"payment_intent": part(500)})
    assert (first.status, first.amount_paid, first.amount_remaining) == ("open", 500, 1_500)
    used = (
        api.v1.invoice_payments.list({"invoice": invoice.id, "status": "paid"}).data[0].payment.payment_intent
    )
    for wrong in (part(1_501), used, part(100, customer=flows.customer(api).id)):
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.invoices.attach_payment(invoice.id, {"payment_intent": wrong})
    last = api.v1.invoices.attach_payment(invoice.id, {"payment_intent": part(1_500)})
    assert (last.status, last.amount_paid, last.amount_remaining) == ("paid", 2_000, 0)
    payments = api.v1.invoice_payments.list({"invoice": invoice.id}).data
    assert [(row.status, row.amount_paid) for row in payments] == [
        ("paid", 1_500),
        ("paid", 500),
        ("canceled", None),
    ]
    intent = payments[1].payment.payment_intent
    assert api.v1.refunds.create({"payment_intent": intent, "amount": 500}).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.refunds.create({"payment_intent": intent, "amount": 1})
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.payment_intents.create({"amount": 500, "currency": "usd"})
