"""What an invoice may do in each state, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import control

from provider_federation.testing.stripe_sim import Running

DAY = 86_400
Move = Callable[[Any, str], Any]
MOVES: dict[str, Move] = {
    "finalize": lambda v1, i: v1.invoices.finalize_invoice(i),
    "send": lambda v1, i: v1.invoices.send_invoice(i),
    "pay": lambda v1, i: v1.invoices.pay(i, {"paid_out_of_band": True}),
    "void": lambda v1, i: v1.invoices.void_invoice(i),
    "uncollectible": lambda v1, i: v1.invoices.mark_uncollectible(i),
    "delete": lambda v1, i: v1.invoices.delete(i),
    "add": lambda v1, i: v1.invoices.add_lines(i, {"lines": [{"amount": 5}]}),
    "credit": lambda v1, i: v1.credit_notes.create({"invoice": i, "amount": 5}),
}
# state: move -> the state after it; what is not listed is refused
ALLOWED = {
    "draft": {"finalize": "open", "send": "open", "pay": "paid", "delete": None, "add": "draft"},
    "open": {
        "send": "open",
        "pay": "paid",
        "void": "void",
        "uncollectible": "uncollectible",
        "credit": "open",
    },
    "paid": {"send": "paid"},
    "void": {},
    "uncollectible": {"pay": "paid", "void": "void", "credit": "uncollectible"},
}


def _in_state(api: stripe.StripeClient, state: str) -> str:
    invoice = flows.draft(api, flows.customer(api).id, 5000)
    if state == "draft":
        return invoice.id
    api.v1.invoices.finalize_invoice(invoice.id)
    if state != "open":
        MOVES[{"paid": "pay", "void": "void", "uncollectible": "uncollectible"}[state]](api.v1, invoice.id)
    return invoice.id


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("move", MOVES)
def test_every_move_in_every_state(api: stripe.StripeClient, state: str, move: str) -> None:
    identity = _in_state(api, state)
    if move in ALLOWED[state]:
        MOVES[move](api.v1, identity)
        if ALLOWED[state][move]:
            assert api.v1.invoices.retrieve(identity).status == ALLOWED[state][move]
        return
    before = api.v1.invoices.retrieve(identity).to_dict()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        MOVES[move](api.v1, identity)
    assert refused.value.http_status == 400
    assert api.v1.invoices.retrieve(identity).to_dict() == before


def test_defaults_are_stripes(api: stripe.StripeClient) -> None:
    customer = flows.customer(api)
    api.v1.invoice_items.create({"customer": customer.id, "amount": 100, "currency": "usd"})
    invoice = api.v1.invoices.create({"customer": customer.id})
    assert (invoice.collection_method, invoice.auto_advance, invoice.total, invoice.currency) == (
        "charge_automatically",
        False,
        0,
        "usd",
    )
    with_items = api.v1.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    assert with_items.total == 100
    assert with_items.parent is None


def test_pieces_that_cost_money(api: stripe.StripeClient) -> None:
    customer = flows.customer(api)
    for wanted, param in (
        ({"collection_method": "send_invoice"}, "days_until_due"),
        ({"days_until_due": 3}, "days_until_due"),
        ({"collection_method": "send_invoice", "days_until_due": 3, "due_date": 9_999_999_999}, "due_date"),
        ({"collection_method": "send_invoice", "due_date": 1}, "due_date"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.v1.invoices.create({"customer": customer.id, **wanted})
        assert refused.value.param == param


def test_numbers_have_no_gap_and_belong_to_the_customer(api: stripe.StripeClient) -> None:
    ada, eve = flows.customer(api, invoice_prefix="ADA"), flows.customer(api, invoice_prefix="EVE")
    flows.draft(api, ada.id, 100)
    numbers = [flows.opened(api, who.id, 1000).number for who in (ada, eve, ada)]
    assert numbers == ["ADA-0001", "EVE-0001", "ADA-0002"]


def test_a_draft_follows_its_customer_and_a_final_invoice_does_not(api: stripe.StripeClient) -> None:
    customer = flows.customer(api)
    invoice = flows.draft(api, customer.id, 1000)
    api.v1.customers.update(customer.id, {"name": "Grace"})
    assert api.v1.invoices.finalize_invoice(invoice.id).customer_name == "Grace"
    api.v1.customers.update(customer.id, {"name": "Edsger"})
    assert api.v1.invoices.retrieve(invoice.id).customer_name == "Grace"
    with pytest.raises(stripe.InvalidRequestError, match="Finalized"):
        api.v1.invoices.update(invoice.id, {"description": "x"})
    assert api.v1.invoices.update(invoice.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"


@given(
    amounts=st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=6),
    balance=st.integers(-100_000, 100_000),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_between_lines_balance_and_due(
    api: stripe.StripeClient, amounts: list[int], balance: int
) -> None:
    customer = flows.customer(api, balance=balance)
    invoice = flows.opened(api, customer.id, *amounts)
    after = api.v1.customers.retrieve(customer.id).balance or 0
    assert invoice.total == invoice.subtotal == sum(amounts)
    assert invoice.starting_balance == balance
    assert (
        invoice.amount_due + after == invoice.total + balance
    )  # what was owed is due now, or stands on the balance
    assert invoice.amount_due == 0 or invoice.amount_due >= 50
    assert after == (invoice.ending_balance or 0)
    assert (invoice.status == "paid") == (invoice.amount_due == 0)
    rows = api.v1.customers.balance_transactions.list(customer.id, {"limit": 100}).data
    assert sum(row.amount for row in rows) == after


def test_below_the_minimum_is_paid_at_once_and_owed_with_the_next(api: stripe.StripeClient) -> None:
    customer = flows.customer(api)
    small = flows.opened(api, customer.id, 30)
    assert (small.status, small.amount_due, small.amount_paid) == ("paid", 0, 0)
    row = api.v1.customers.balance_transactions.list(customer.id).data[0]
    assert (row.type, row.amount, row.invoice) == ("invoice_too_small", 30, small.id)
    assert flows.opened(api, customer.id, 100).amount_due == 130


def test_credit_in_one_currency_pays_nothing_in_another(api: stripe.StripeClient) -> None:
    customer = flows.customer(api, balance=-700)
    euro = flows.opened(api, customer.id, 1000, currency="eur")
    assert (euro.currency, euro.amount_due, euro.starting_balance) == ("eur", 1000, 0)
    assert api.v1.customers.retrieve(customer.id).balance == -700
    with pytest.raises(stripe.InvalidRequestError, match="one currency"):
        flows.opened(api, customer.id, 10, currency="eur")
    with pytest.raises(stripe.InvalidRequestError, match="Invalid currency"):
        flows.draft(api, customer.id, currency="zzz")
    yen = flows.opened(api, flows.customer(api).id, 50, currency="jpy")
    assert (yen.status, yen.amount_due) == ("open", 50)


def test_an_empty_invoice_is_paid_at_once(api: stripe.StripeClient) -> None:
    invoice = flows.opened(api, flows.customer(api).id)
    assert (invoice.status, invoice.total, invoice.number is not None) == ("paid", 0, True)


def test_void_gives_the_credit_back(api: stripe.StripeClient) -> None:
    customer = flows.customer(api, balance=-700)
    invoice = flows.opened(api, customer.id, 1000)
    assert (invoice.amount_due, api.v1.customers.retrieve(customer.id).balance) == (300, 0)
    api.v1.invoices.void_invoice(invoice.id)
    assert api.v1.customers.retrieve(customer.id).balance == -700


def test_prices_quantities_and_taxes_on_lines(api: stripe.StripeClient) -> None:
    product = api.v1.products.create({"name": "Lead"})
    lead = api.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 10_000})
    fraction = {"currency": "usd", "product": product.id, "unit_amount_decimal": "0.5"}
    invoice = flows.draft(api, flows.customer(api).id)
    tax: Any = [
        {
            "amount": 1000,
            "taxable_amount": 10_000,
            "tax_rate_data": {"display_name": "VAT", "inclusive": False, "percentage": 10},
        }
    ]
    lines: Any = [
        {"pricing": {"price": lead.id}, "quantity": 3},
        {"price_data": fraction, "quantity": 5},
        {"amount": 10_000, "tax_amounts": tax},
    ]
    invoice = api.v1.invoices.add_lines(invoice.id, {"lines": lines})
    assert [line.amount for line in invoice.lines.data] == [30_000, 3, 10_000]
    assert (invoice.subtotal, invoice.total, invoice.total_excluding_tax) == (40_003, 41_003, 40_003)
    first = invoice.lines.data[0]
    assert first.pricing.price_details.price == lead.id
    assert first.parent.type == "invoice_item_details"


def test_lines_that_do_not_fit_are_refused_whole(api: stripe.StripeClient) -> None:
    euro = api.v1.prices.create({"currency": "eur", "unit_amount": 100, "product_data": {"name": "x"}})
    retired = api.v1.prices.create({"currency": "usd", "unit_amount": 100, "product_data": {"name": "x"}})
    api.v1.prices.update(retired.id, {"active": False})
    invoice = flows.draft(api, flows.customer(api).id, 500)
    monthly = flows.price(api)
    bad: list[Any] = [
        {"pricing": {"price": euro.id}},
        {"pricing": {"price": retired.id}},
        {"pricing": {"price": monthly.id}},
        {"amount": 1, "pricing": {"price": euro.id}},
        {"description": "nothing"},
        {"amount": 1, "quantity": 2},
        {"amount": 100_000_000},
        {"amount": 1, "period": {"start": 2, "end": 1}},
        {"pricing": {"price": "price_no"}},
    ]
    for line in bad:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 7}, line]})
        assert refused.value.param.startswith("lines[1]"), (line, refused.value.param)
    assert api.v1.invoices.retrieve(invoice.id).total == 500


def test_a_card_that_is_charged_leaves_a_trail(api: stripe.StripeClient) -> None:
    customer = flows.customer(api, card="pm_card_visa")
    invoice = api.v1.invoices.pay(
        flows.opened(api, customer.id, 2500, collection_method="charge_automatically").id
    )
    payment = api.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    assert (payment.status, payment.amount_paid, payment.payment.type) == ("paid", 2500, "payment_intent")
    types = [event.type for event in api.v1.events.list({"limit": 6}).data]
    assert types[:5] == [
        "invoice.payment_succeeded",
        "invoice.paid",
        "invoice_payment.paid",
        "payment_intent.succeeded",
        "charge.succeeded",
    ]


def test_paid_out_of_band_is_not_cash(api: stripe.StripeClient) -> None:
    invoice = api.v1.invoices.pay(
        flows.opened(api, flows.customer(api).id, 2500).id, {"paid_out_of_band": True, "expand": ["payments"]}
    )
    assert (invoice.status, invoice.amount_paid_off_stripe) == ("paid", 2500)
    assert {(row.payment.type, row.status) for row in invoice.payments.data} == {
        ("payment_record", "paid"),
        ("payment_intent", "canceled"),
    }
    assert api.v1.charges.list().data == []


def test_no_card_and_a_declined_card(sim: Running, api: stripe.StripeClient, key: str) -> None:
    bare = flows.opened(api, flows.customer(api).id, 900)
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        api.v1.invoices.pay(bare.id)
    declined = flows.opened(api, flows.customer(api, card="pm_card_chargeCustomerFail").id, 900)
    with pytest.raises(stripe.CardError) as refused:
        api.v1.invoices.pay(declined.id)
    assert (refused.value.code, refused.value.http_status) == ("card_declined", 402)
    assert api.v1.invoices.retrieve(declined.id).attempt_count == 1
    with pytest.raises(stripe.CardError):
        flows.customer(api, card="pm_card_chargeDeclined")
    good = flows.opened(api, flows.customer(api, card="pm_card_visa").id, 900)
    control(sim.url, "/_sim/faults", kind="card_declined", key=key)
    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(good.id)
    assert api.v1.invoices.pay(good.id).status == "paid"


def test_auto_advance_finalises_after_an_hour_and_collects(sim: Running, api: stripe.StripeClient) -> None:
    customer = flows.customer(api, card="pm_card_visa")
    invoice = flows.draft(api, customer.id, 4000, collection_method="charge_automatically", auto_advance=True)
    manual = flows.draft(api, customer.id, 4000)
    assert invoice.automatically_finalizes_at == invoice.created + 3600
    control(sim.url, "/_sim/clock/advance", seconds=3700)
    collected = api.v1.invoices.retrieve(invoice.id)
    assert (collected.status, collected.status_transitions.finalized_at) == ("paid", invoice.created + 3600)
    assert api.v1.invoices.retrieve(manual.id).status == "draft"


def test_refunds_and_credit_notes_never_exceed_what_was_paid(api: stripe.StripeClient) -> None:
    customer = flows.customer(api, card="pm_card_visa")
    invoice = api.v1.invoices.pay(flows.opened(api, customer.id, 3000).id)
    charge = api.v1.charges.list({"customer": customer.id}).data[0]
    api.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 1000, "refund_amount": 600, "credit_amount": 400}
    )
    assert api.v1.customers.retrieve(customer.id).balance == -400
    assert api.v1.charges.retrieve(charge.id).amount_refunded == 600
    wrong: list[Any] = [
        {"amount": 2001, "credit_amount": 2001},
        {"amount": 100},
        {"amount": 100, "refund_amount": 50},
        {"amount": 0},
        {"amount": -1},
    ]
    for extra in wrong:
        with pytest.raises(stripe.InvalidRequestError):
            api.v1.credit_notes.create({"invoice": invoice.id, **extra})
    api.v1.refunds.create({"charge": charge.id})
    assert api.v1.charges.retrieve(charge.id).refunded
    with pytest.raises(stripe.InvalidRequestError, match="already been refunded"):
        api.v1.refunds.create({"charge": charge.id})
    assert api.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 1000


def test_a_full_credit_before_payment_settles_the_invoice(api: stripe.StripeClient) -> None:
    invoice = flows.opened(api, flows.customer(api).id, 2000)
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.credit_notes.create({"invoice": invoice.id, "amount": 2001})
    note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 2000})
    after = api.v1.invoices.retrieve(invoice.id, {"expand": ["payments"]})
    assert (note.type, note.number) == ("pre_payment", f"{invoice.number}-CN-01")
    assert (
        after.status,
        after.amount_remaining,
        after.pre_payment_credit_notes_amount,
        after.amount_paid,
    ) == ("paid", 0, 2000, 0)
    assert [row.status for row in after.payments.data] == ["canceled"]


def test_expand_follows_or_refuses(api: stripe.StripeClient) -> None:
    invoice = flows.opened(api, flows.customer(api).id, 1000)
    shown = api.v1.invoices.retrieve(
        invoice.id, {"expand": ["customer", "confirmation_secret", "payments.data.payment.payment_intent"]}
    )
    assert shown.customer.name == "Ada Lovelace"
    assert (
        shown.confirmation_secret.client_secret == shown.payments.data[0].payment.payment_intent.client_secret
    )
    assert (
        api.v1.invoices.list({"expand": ["data.customer"], "limit": 1}).data[0].customer.name
        == "Ada Lovelace"
    )
    assert api.v1.invoices.retrieve(invoice.id).customer == shown.customer.id
    for path in ("nothing", "status", "customer.name", "data.customer", "lines.data.nothing"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.v1.invoices.retrieve(invoice.id, {"expand": [path]})
        assert refused.value.param == "expand"
