"""Each route of the table is driven through the official SDK; the transport checks every answer against the SDK's classes."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.conformance import CheckingClient, client
from tests.contract.stripe_sim.sim_tools import control

from provider_federation.testing.stripe_sim import Running
from provider_federation.testing.stripe_sim.routes import ROUTES


def products_and_prices(v1: Any) -> None:
    product = v1.products.create(
        {
            "name": "PRO",
            "metadata": {"plan": "pro"},
            "default_price_data": {"currency": "usd", "unit_amount": 9700},
        }
    )
    assert v1.products.retrieve(product.id, {"expand": ["default_price"]}).default_price.unit_amount == 9700
    assert v1.products.update(product.id, {"description": "For teams"}).description == "For teams"
    assert product.id in [row.id for row in v1.products.list({"active": True}).data]
    spare = v1.products.create({"name": "Spare"})
    assert v1.products.delete(spare.id).deleted
    price = v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 100,
            "recurring": {"interval": "month"},
            "lookup_key": "a",
        }
    )
    assert v1.prices.retrieve(price.id, {"expand": ["product"]}).product.name == "PRO"
    assert v1.prices.update(price.id, {"nickname": "monthly"}).nickname == "monthly"
    assert [row.id for row in v1.prices.list({"lookup_keys": ["a"]}).data] == [price.id]


def customers_and_methods(v1: Any) -> None:
    customer = v1.customers.create(
        {
            "name": "Ada",
            "email": "ada@x.test",
            "address": {"city": "London", "country": "GB"},
            "metadata": {"a": "1"},
        }
    )
    method = v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    v1.payment_methods.attach(method.id, {"customer": customer.id})
    assert v1.payment_methods.retrieve(method.id).customer == customer.id
    assert v1.payment_methods.update(method.id, {"metadata": {"b": "2"}}).metadata["b"] == "2"
    assert len(v1.payment_methods.list({"customer": customer.id, "type": "card"}).data) == 1
    assert len(v1.customers.payment_methods.list(customer.id).data) == 1
    assert v1.customers.payment_methods.retrieve(customer.id, method.id).id == method.id
    shown = v1.customers.update(
        customer.id,
        {
            "invoice_settings": {"default_payment_method": method.id},
            "metadata": {"a": ""},
            "expand": ["invoice_settings.default_payment_method"],
        },
    )
    assert shown.invoice_settings.default_payment_method.card.last4 == "4242"
    assert shown.metadata.to_dict() == {}
    row = v1.customers.balance_transactions.create(customer.id, {"amount": -500, "currency": "usd"})
    assert v1.customers.balance_transactions.retrieve(customer.id, row.id).ending_balance == -500
    assert (
        v1.customers.balance_transactions.update(customer.id, row.id, {"description": "thanks"}).description
        == "thanks"
    )
    assert len(v1.customers.balance_transactions.list(customer.id).data) == 1
    assert v1.payment_methods.detach(method.id).customer is None
    assert (
        v1.customers.retrieve(customer.id, {"expand": ["subscriptions", "tax_ids", "sources"]}).balance
        == -500
    )
    assert len(v1.customers.list({"email": "ada@x.test"}).data) == 1
    assert v1.customers.delete(customer.id).deleted
    assert v1.customers.retrieve(customer.id).deleted


def invoices(api: stripe.StripeClient, v1: Any) -> None:
    customer = flows.customer(api)
    draft = flows.draft(api, customer.id, 1000, 2000, metadata={"order": "7"})
    assert [line.amount for line in v1.invoices.line_items.list(draft.id).data] == [1000, 2000]
    first, second = (line.id for line in draft.lines.data)
    assert v1.invoices.line_items.update(draft.id, first, {"description": "changed"}).description == "changed"
    assert v1.invoices.update_lines(draft.id, {"lines": [{"id": first, "amount": 1500}]}).total == 3500
    assert v1.invoices.remove_lines(draft.id, {"lines": [{"id": second, "behavior": "delete"}]}).total == 1500
    item = v1.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "usd"})
    assert v1.invoice_items.retrieve(item.id).amount == 700
    assert v1.invoice_items.update(item.id, {"amount": 800}).amount == 800
    assert len(v1.invoice_items.list({"customer": customer.id, "pending": True}).data) == 1
    assert v1.invoices.create_preview({"customer": customer.id}).total == 800
    assert v1.invoice_items.delete(item.id).deleted
    assert (
        v1.invoices.update(draft.id, {"description": "Leads", "metadata": {"order": ""}}).description
        == "Leads"
    )
    assert v1.invoices.finalize_invoice(draft.id).status == "open"
    assert v1.invoices.send_invoice(draft.id).hosted_invoice_url
    paid = v1.invoices.pay(
        draft.id, {"payment_method": "pm_card_visa", "expand": ["payments.data.payment.payment_intent"]}
    )
    assert paid.payments.data[0].payment.payment_intent.amount_received == 1500
    assert (
        v1.invoices.retrieve(draft.id, {"expand": ["customer", "confirmation_secret"]}).customer.name
        == "Ada Lovelace"
    )
    assert v1.invoices.void_invoice(flows.opened(api, customer.id, 900).id).status == "void"
    assert v1.invoices.mark_uncollectible(flows.opened(api, customer.id, 900).id).status == "uncollectible"
    assert v1.invoices.delete(flows.draft(api, customer.id, 900).id).deleted
    assert [row.status for row in v1.invoices.list({"customer": customer.id}).data] == [
        "uncollectible",
        "void",
        "paid",
    ]
    money(v1, paid)


def in_parts(api: stripe.StripeClient, v1: Any) -> None:
    invoice = flows.opened(api, flows.customer(api).id, 900)
    wanted = {"amount": 900, "currency": "usd", "customer": invoice.customer}
    intent = v1.payment_intents.create({**wanted, "payment_method": "pm_card_visa", "confirm": True})
    assert v1.invoices.attach_payment(invoice.id, {"payment_intent": intent.id}).status == "paid"


def money(v1: Any, paid: stripe.Invoice) -> None:
    payment = v1.invoice_payments.list({"invoice": paid.id}).data[0]
    assert v1.invoice_payments.retrieve(payment.id).status == "paid"
    intent = v1.payment_intents.retrieve(
        payment.payment.payment_intent, {"expand": ["latest_charge", "customer"]}
    )
    assert v1.payment_intents.list({"customer": paid.customer}).data[-1].id == intent.id
    charge = v1.charges.retrieve(intent.latest_charge.id, {"expand": ["refunds"]})
    assert v1.charges.list({"payment_intent": intent.id}).data[0].id == charge.id
    refund = v1.refunds.create({"charge": charge.id, "amount": 300, "reason": "duplicate"})
    assert v1.refunds.retrieve(refund.id, {"expand": ["charge"]}).charge.amount_refunded == 300
    assert v1.refunds.update(refund.id, {"metadata": {"why": "x"}}).metadata["why"] == "x"
    assert [row.id for row in v1.refunds.list({"charge": charge.id}).data] == [refund.id]
    credit_notes(v1, paid)


def credit_notes(v1: Any, paid: stripe.Invoice) -> None:
    wanted: Any = {"invoice": paid.id, "amount": 400, "credit_amount": 400, "reason": "order_change"}
    assert v1.credit_notes.preview(wanted).total == 400
    assert len(v1.credit_notes.preview_lines.list(wanted).data) == 1
    note = v1.credit_notes.create({**wanted, "expand": ["customer_balance_transaction", "invoice"]})
    assert note.customer_balance_transaction.amount == -400
    assert v1.credit_notes.retrieve(note.id).invoice == paid.id
    assert v1.credit_notes.update(note.id, {"memo": "sorry"}).memo == "sorry"
    assert [row.id for row in v1.credit_notes.list({"invoice": paid.id}).data] == [note.id]
    assert v1.credit_notes.line_items.list(note.id).data[0].amount == 400


def credit_before_payment(api: stripe.StripeClient, v1: Any) -> None:
    invoice = flows.opened(api, flows.customer(api).id, 2000)
    note = v1.credit_notes.create(
        {
            "invoice": invoice.id,
            "lines": [
                {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 500}
            ],
        }
    )
    assert v1.invoices.retrieve(invoice.id).amount_remaining == 1500
    assert v1.credit_notes.void_credit_note(note.id).status == "void"
    assert v1.invoices.retrieve(invoice.id).amount_remaining == 2000


def tax_rates(v1: Any) -> None:
    rate = v1.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    assert v1.tax_rates.retrieve(rate.id).percentage == 19
    assert v1.tax_rates.update(rate.id, {"description": "standard"}).description == "standard"
    assert [row.id for row in v1.tax_rates.list({"inclusive": False}).data] == [rate.id]


def subscriptions(sim: Running, api: stripe.StripeClient, v1: Any) -> None:
    customer, pro, seat = flows.customer(api, card="pm_card_visa"), flows.price(api), flows.price(api, 500)
    subscription = v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": pro.id}], "expand": ["latest_invoice.payments"]}
    )
    assert subscription.status == "active"
    assert subscription.latest_invoice.payments.data[0].status == "paid"
    item = v1.subscription_items.create({"subscription": subscription.id, "price": seat.id, "quantity": 2})
    assert v1.subscription_items.update(item.id, {"quantity": 3}).quantity == 3
    assert v1.subscription_items.retrieve(item.id).price.id == seat.id
    assert len(v1.subscription_items.list({"subscription": subscription.id}).data) == 2
    assert v1.subscription_items.delete(item.id).deleted
    assert v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"
    assert (
        v1.subscriptions.retrieve(
            subscription.id, {"expand": ["customer", "latest_invoice"]}
        ).latest_invoice.status
        == "paid"
    )
    assert v1.subscriptions.list({"customer": customer.id, "status": "all"}).data[0].id == subscription.id
    schedules(v1, subscription.id)
    last = v1.subscriptions.create({"customer": customer.id, "items": [{"price": pro.id}]})
    assert v1.subscriptions.cancel(last.id).status == "canceled"
    resumed(sim, api, v1, pro.id)


def schedules(v1: Any, subscription: str) -> None:
    made = v1.subscription_schedules.create({"from_subscription": subscription})
    assert v1.subscription_schedules.update(made.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"
    shown = v1.subscription_schedules.retrieve(made.id, {"expand": ["subscription", "customer"]})
    assert shown.subscription.schedule == made.id
    assert v1.subscription_schedules.list({"customer": shown.customer.id}).data[0].id == made.id
    assert v1.subscription_schedules.release(made.id).status == "released"
    again = v1.subscription_schedules.create({"from_subscription": subscription})
    assert v1.subscription_schedules.cancel(again.id).status == "canceled"


def resumed(sim: Running, api: stripe.StripeClient, v1: Any, price: str) -> None:
    customer = flows.customer(api)
    trial = v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": price}],
            "trial_period_days": 1,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
        }
    )
    control(sim.url, "/_sim/clock/advance", seconds=2 * 86_400)
    assert v1.subscriptions.retrieve(trial.id).status == "paused"
    method = v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    v1.subscriptions.update(trial.id, {"default_payment_method": method.id})
    assert v1.subscriptions.resume(trial.id).status == "active"


def webhooks_and_account(v1: Any) -> None:
    endpoint = v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/hook", "enabled_events": ["invoice.paid"]}
    )
    assert endpoint.secret.startswith("whsec_")
    assert v1.webhook_endpoints.retrieve(endpoint.id).status == "enabled"
    assert v1.webhook_endpoints.update(endpoint.id, {"disabled": True}).status == "disabled"
    assert [row.id for row in v1.webhook_endpoints.list().data] == [endpoint.id]
    assert v1.webhook_endpoints.delete(endpoint.id).deleted
    newest = v1.events.list({"types": ["invoice.*"], "limit": 1}).data[0]
    assert v1.events.retrieve(newest.id).data.object["object"] == "invoice"
    mine = v1.accounts.retrieve_current()
    assert v1.accounts.retrieve(mine.id).id == mine.id


@pytest.fixture
def every_route_driven(sim: Running, api: stripe.StripeClient) -> set[tuple[str, str]]:
    CheckingClient.driven.clear()
    v1: Any = api.v1
    products_and_prices(v1)
    customers_and_methods(v1)
    invoices(api, v1)
    credit_before_payment(api, v1)
    in_parts(api, v1)
    tax_rates(v1)
    subscriptions(sim, api, v1)
    webhooks_and_account(v1)
    return set(CheckingClient.driven)


def test_no_route_is_left_undriven_and_every_answer_fits_the_sdk(
    every_route_driven: set[tuple[str, str]],
) -> None:
    table = {(route.method, route.pattern) for route in ROUTES}
    assert table - every_route_driven == set()


def test_what_is_not_served_is_a_loud_404(sim: Running, key: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="DOES NOT SERVE") as refused:
        client(sim.url, key).v1.coupons.create({"percent_off": 10})
    assert refused.value.http_status == 404
    assert "DOES NOT SERVE POST /v1/coupons" in caplog.text
