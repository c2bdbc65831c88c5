"""One Stripe account by its key: one short method per call that we make.

Writes take `idempotency_key`, which the caller has stored before (money rule 11). Every call has a total
deadline, makes no retry unless told, and raises `StripeFailed`. Lists are read to their end, up to `most`,
and never silently cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import stripe

from provider_federation.stripe_account.calls import MOST, Metadata, carries, every, read, window, write
from provider_federation.stripe_account.corrections import Corrections
from provider_federation.stripe_account.shapes import (
    StripeAccountInfo,
    StripeCustomer,
    StripeEvent,
    StripeInvoice,
    StripeLine,
    StripePaymentMethod,
    StripePrice,
    StripeProduct,
    StripeWebhookEndpoint,
)
from provider_federation.stripe_account.subscribing import Subscribing
from provider_federation.stripe_account.transport import DeadlineClient, Pace

API_VERSION = "2026-10-28.endive"
LINES_A_CALL = 250


class StripeAccount(Corrections, Subscribing):
    """The account behind `api_key`. `api_base` points it at the simulator; `timeout` is the deadline of one
    call in seconds.
    """

    def __init__(
        self,
        api_key: str,
        api_base: str | None = None,
        timeout: float = 20.0,
        max_network_retries: int = 0,
        pace: Pace | None = None,
    ) -> None:
        if not api_key:
            raise ValueError("a Stripe account needs its secret key")
        self.timeout = timeout
        self._v1 = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
            max_network_retries=max_network_retries,
            http_client=DeadlineClient(timeout, pace),
        ).v1

    def __repr__(self) -> str:
        return "StripeAccount([scrubbed])"

    # --- account, webhook endpoints, events

    def retrieve_account(self) -> StripeAccountInfo:
        return StripeAccountInfo.read(read(self._v1.accounts.retrieve_current))

    def create_webhook_endpoint(
        self, url: str, events: Sequence[str], *, idempotency_key: str, description: str = ""
    ) -> StripeWebhookEndpoint:
        """The answer holds the signing secret, this once."""
        call = self._v1.webhook_endpoints.create
        return StripeWebhookEndpoint.read(
            write(
                call,
                key=idempotency_key,
                url=url,
                enabled_events=list(events),
                api_version=API_VERSION,
                description=description or None,
            )
        )

    def retrieve_event(self, event_id: str) -> StripeEvent:
        return StripeEvent.read(read(self._v1.events.retrieve, event_id))

    def list_events(
        self, *, types: Sequence[str] = (), since: datetime | None = None, most: int = MOST
    ) -> list[StripeEvent]:
        """Newest first; Stripe keeps them for 30 days."""
        found = every(self._v1.events.list, most, types=list(types) or None, created=window(since, None))
        return [StripeEvent.read(item) for item in found]

    # --- customers and their payment methods

    def create_customer(
        self, *, name: str, email: str | None, metadata: Metadata, idempotency_key: str
    ) -> StripeCustomer:
        call = self._v1.customers.create
        answer = write(call, key=idempotency_key, name=name, email=email or None, metadata=dict(metadata))
        return StripeCustomer.read(answer)

    def retrieve_customer(self, customer_id: str) -> StripeCustomer:
        return StripeCustomer.read(read(self._v1.customers.retrieve, customer_id))

    def update_customer(self, customer_id: str, *, idempotency_key: str, **changes: Any) -> StripeCustomer:
        return StripeCustomer.read(
            write(self._v1.customers.update, customer_id, key=idempotency_key, **changes)
        )

    def list_customers(
        self,
        *,
        metadata: Metadata | None = None,
        email: str | None = None,
        since: datetime | None = None,
        most: int = MOST,
    ) -> list[StripeCustomer]:
        """Newest first, those that carry all of `metadata`. Stripe filters by email and time, we by metadata:
        its search lags.
        """
        found = every(self._v1.customers.list, most, email=email or None, created=window(since, None))
        return [
            customer for customer in map(StripeCustomer.read, found) if carries(customer.metadata, metadata)
        ]

    def attach_payment_method(
        self, payment_method_id: str, customer_id: str, *, idempotency_key: str
    ) -> StripePaymentMethod:
        call = self._v1.payment_methods.attach
        return StripePaymentMethod.read(
            write(call, payment_method_id, key=idempotency_key, customer=customer_id)
        )

    def set_default_payment_method(
        self, customer_id: str, payment_method_id: str, *, idempotency_key: str
    ) -> StripeCustomer:
        """What its invoices and subscriptions charge."""
        settings = {"default_payment_method": payment_method_id}
        return self.update_customer(customer_id, idempotency_key=idempotency_key, invoice_settings=settings)

    # --- products and prices

    def create_product(self, name: str, *, metadata: Metadata, idempotency_key: str) -> StripeProduct:
        return StripeProduct.read(
            write(self._v1.products.create, key=idempotency_key, name=name, metadata=dict(metadata))
        )

    def create_price(
        self,
        *,
        product_id: str,
        unit_amount: int,
        currency: str,
        lookup_key: str,
        interval: str | None,
        metadata: Metadata,
        idempotency_key: str,
    ) -> StripePrice:
        """`interval` is `month` or `year`, None for a one-time price. The lookup key moves over from an older
        price.
        """
        answer = write(
            self._v1.prices.create,
            key=idempotency_key,
            product=product_id,
            unit_amount=unit_amount,
            currency=currency.lower(),
            lookup_key=lookup_key,
            transfer_lookup_key=True,
            recurring={"interval": interval} if interval else None,
            metadata=dict(metadata),
        )
        return StripePrice.read(answer)

    def retrieve_price(self, price_id: str) -> StripePrice:
        return StripePrice.read(read(self._v1.prices.retrieve, price_id))

    def list_prices(self, *, lookup_keys: Sequence[str] = ()) -> list[StripePrice]:
        found = every(self._v1.prices.list, MOST, lookup_keys=list(lookup_keys) or None, active=True)
        return [StripePrice.read(item) for item in found]

    # --- invoices

    def create_invoice(
        self,
        *,
        customer_id: str,
        currency: str,
        metadata: Metadata,
        idempotency_key: str,
        days_until_due: int = 30,
        description: str | None = None,
        tax_rates: Sequence[str] = (),
    ) -> StripeInvoice:
        """An empty draft that takes no pending items and never advances by itself; lines follow. Stripe
        reckons `tax_rates` (ids) on each line.
        """
        answer = write(
            self._v1.invoices.create,
            key=idempotency_key,
            customer=customer_id,
            currency=currency.lower(),
            auto_advance=False,
            collection_method="send_invoice",
            days_until_due=days_until_due,
            pending_invoice_items_behavior="exclude",
            description=description or None,
            default_tax_rates=list(tax_rates) or None,
            metadata=dict(metadata),
        )
        return StripeInvoice.read(answer)

    def add_lines(
        self, invoice_id: str, lines: Sequence[Mapping[str, Any]], *, idempotency_key: str
    ) -> StripeInvoice:
        """At most 250 lines (Stripe's `InvoiceAddLinesParamsLine`) onto a draft."""
        if not 0 < len(lines) <= LINES_A_CALL:
            raise ValueError(f"from 1 to {LINES_A_CALL} lines a call")
        call = self._v1.invoices.add_lines
        return StripeInvoice.read(
            write(call, invoice_id, key=idempotency_key, lines=[dict(line) for line in lines])
        )

    def list_lines(self, invoice_id: str, *, most: int = MOST) -> list[StripeLine]:
        """All lines of the invoice, not only those inside its answer."""
        found = every(self._v1.invoices.line_items.list, most, arguments=(invoice_id,))
        return [StripeLine.read(item) for item in found]

    def finalize_invoice(self, invoice_id: str, *, idempotency_key: str) -> StripeInvoice:
        call = self._v1.invoices.finalize_invoice
        return StripeInvoice.read(write(call, invoice_id, key=idempotency_key, auto_advance=False))

    def send_invoice(self, invoice_id: str, *, idempotency_key: str) -> StripeInvoice:
        return StripeInvoice.read(write(self._v1.invoices.send_invoice, invoice_id, key=idempotency_key))

    def retrieve_invoice(self, invoice_id: str, *, payments: bool = False) -> StripeInvoice:
        """As it is now; `payments`: with what paid it, and when (the newest ones, where there are very many)."""
        expand = ["payments"] if payments else None
        return StripeInvoice.read(read(self._v1.invoices.retrieve, invoice_id, expand=expand))

    def list_invoices(
        self,
        *,
        customer_id: str | None = None,
        subscription_id: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        metadata: Metadata | None = None,
        most: int = MOST,
    ) -> list[StripeInvoice]:
        """Newest first, created in `[since, before)`, those that carry all of `metadata` (filtered here, not
        by search).
        """
        found = every(
            self._v1.invoices.list,
            most,
            customer=customer_id,
            subscription=subscription_id,
            status=status,
            created=window(since, before),
        )
        return [invoice for invoice in map(StripeInvoice.read, found) if carries(invoice.metadata, metadata)]

    def pay_invoice(
        self,
        invoice_id: str,
        *,
        idempotency_key: str,
        payment_method_id: str | None = None,
        paid_out_of_band: bool | None = None,
    ) -> StripeInvoice:
        """Charge it now, or record that it was paid elsewhere (`paid_out_of_band`)."""
        answer = write(
            self._v1.invoices.pay,
            invoice_id,
            key=idempotency_key,
            payment_method=payment_method_id,
            paid_out_of_band=paid_out_of_band,
        )
        return StripeInvoice.read(answer)

    def void_invoice(self, invoice_id: str, *, idempotency_key: str) -> StripeInvoice:
        return StripeInvoice.read(write(self._v1.invoices.void_invoice, invoice_id, key=idempotency_key))

    def delete_draft(self, invoice_id: str, *, idempotency_key: str) -> None:
        """Remove a draft that was never finalised; Stripe refuses anything else."""
        write(self._v1.invoices.delete, invoice_id, key=idempotency_key)

    def mark_uncollectible(self, invoice_id: str, *, idempotency_key: str) -> StripeInvoice:
        return StripeInvoice.read(
            write(self._v1.invoices.mark_uncollectible, invoice_id, key=idempotency_key)
        )
