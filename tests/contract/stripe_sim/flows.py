"""Short ways to what many tests begin with."""

from __future__ import annotations

from typing import Any

import stripe


def customer(api: stripe.StripeClient, *, card: str | None = None, **more: Any) -> stripe.Customer:
    """A customer, with a default card when `card` names one (`pm_card_visa`)."""
    made = api.v1.customers.create({"name": "Ada Lovelace", "email": "ada@example.test", **more})
    if card:
        method = api.v1.payment_methods.attach(card, {"customer": made.id})
        made = api.v1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})
    return made


def draft(api: stripe.StripeClient, customer_id: str, *amounts: int, **more: Any) -> stripe.Invoice:
    """A draft that is to be sent, with a line for each amount."""
    wanted = {"customer": customer_id, "collection_method": "send_invoice", "days_until_due": 14, **more}
    if wanted["collection_method"] != "send_invoice":
        del wanted["days_until_due"]
    invoice = api.v1.invoices.create(wanted)
    if amounts:
        lines = [
            {"amount": amount, "description": f"Line {number}"} for number, amount in enumerate(amounts, 1)
        ]
        invoice = api.v1.invoices.add_lines(invoice.id, {"lines": lines})
    return invoice


def opened(api: stripe.StripeClient, customer_id: str, *amounts: int, **more: Any) -> stripe.Invoice:
    return api.v1.invoices.finalize_invoice(draft(api, customer_id, *amounts, **more).id)


def price(api: stripe.StripeClient, amount: int = 9700, interval: str = "month", **more: Any) -> stripe.Price:
    product = api.v1.products.create({"name": "PRO"})
    return api.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": amount,
            "recurring": {"interval": interval},
            **more,
        }
    )
