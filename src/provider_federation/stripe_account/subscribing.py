"""Subscriptions of one Stripe account: their life, changes of plan with their previews, and schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from provider_federation.stripe_account.calls import MOST, Metadata, every, read, write
from provider_federation.stripe_account.shapes import StripeInvoice, StripeSubscription
from provider_federation.stripe_account.shapes_schedules import StripeSchedule


class Subscribing:
    """The subscription calls of `StripeAccount`."""

    _v1: Any

    def create_subscription(
        self,
        *,
        customer_id: str,
        price_id: str,
        metadata: Metadata,
        idempotency_key: str,
        payment_method_id: str | None = None,
        days_until_due: int | None = None,
        trial_days: int | None = None,
        tax_rates: Sequence[str] = (),
    ) -> StripeSubscription:
        """With a payment method it is charged at once; with `days_until_due` invoices are sent; with neither
        it begins incomplete. With `trial_days` nothing is charged before they are over. `tax_rates` (ids) are
        reckoned on each of its invoices.
        """
        answer = write(
            self._v1.subscriptions.create,
            key=idempotency_key,
            customer=customer_id,
            items=[{"price": price_id}],
            metadata=dict(metadata),
            trial_period_days=trial_days or None,
            default_tax_rates=list(tax_rates) or None,
            **_collection(payment_method_id, days_until_due),
        )
        return StripeSubscription.read(answer)

    def retrieve_subscription(self, subscription_id: str) -> StripeSubscription:
        return StripeSubscription.read(read(self._v1.subscriptions.retrieve, subscription_id))

    def update_subscription(
        self, subscription_id: str, *, idempotency_key: str, **changes: Any
    ) -> StripeSubscription:
        """Stripe's own parameters (`cancel_at_period_end`, `metadata`, `items`, `proration_behavior` ...)."""
        call = self._v1.subscriptions.update
        return StripeSubscription.read(write(call, subscription_id, key=idempotency_key, **changes))

    def change_price(
        self,
        subscription_id: str,
        *,
        item_id: str,
        price_id: str,
        proration_behavior: str,
        proration_date: datetime,
        idempotency_key: str,
    ) -> StripeSubscription:
        """Another price from now on, prorated from `proration_date`. What has to be paid at once and is not
        leaves the subscription as it was (`pending_update`), until it is paid or expires.
        """
        return self.update_subscription(
            subscription_id,
            idempotency_key=idempotency_key,
            items=[{"id": item_id, "price": price_id}],
            proration_behavior=proration_behavior,
            proration_date=int(proration_date.timestamp()),
            payment_behavior="pending_if_incomplete",
        )

    def cancel_subscription(
        self, subscription_id: str, *, idempotency_key: str, invoice_now: bool = False, prorate: bool = False
    ) -> StripeSubscription:
        """At once; for the end of the period see `update_subscription(cancel_at_period_end=True)`."""
        call = self._v1.subscriptions.cancel
        answer = write(call, subscription_id, key=idempotency_key, invoice_now=invoice_now, prorate=prorate)
        return StripeSubscription.read(answer)

    def resume_subscription(self, subscription_id: str, *, idempotency_key: str) -> StripeSubscription:
        """A paused one goes on, with a period that begins now."""
        call = self._v1.subscriptions.resume
        return StripeSubscription.read(write(call, subscription_id, key=idempotency_key))

    def list_subscriptions(
        self, *, customer_id: str | None = None, status: str = "all", most: int = MOST
    ) -> list[StripeSubscription]:
        found = every(self._v1.subscriptions.list, most, customer=customer_id, status=status)
        return [StripeSubscription.read(item) for item in found]

    def preview_change(self, subscription_id: str, details: Mapping[str, Any] | None = None) -> StripeInvoice:
        """The next invoice if the subscription were changed so (`subscription_details` of
        invoices.create_preview); without details the next one as things stand. Nothing is changed.
        """
        call = self._v1.invoices.create_preview
        given = {"subscription": subscription_id, "subscription_details": dict(details) if details else None}
        return StripeInvoice.read(read(call, **given))

    def preview_subscription(
        self, price_id: str, *, customer_id: str | None, tax_rates: Sequence[str] = ()
    ) -> StripeInvoice:
        """The first invoice of a subscription that does not exist yet, for this customer or, with None, for one
        who is not known to Stripe. Nothing is made.
        """
        who = {"customer": customer_id} if customer_id else {"customer_details": {"tax_exempt": "none"}}
        details: dict[str, Any] = {"items": [{"price": price_id}]}
        if tax_rates:
            details["default_tax_rates"] = list(tax_rates)
        call = self._v1.invoices.create_preview
        return StripeInvoice.read(read(call, **who, subscription_details=details))

    # --- schedules: what a subscription becomes when its period ends

    def create_schedule(
        self, subscription_id: str, *, metadata: Metadata, idempotency_key: str
    ) -> StripeSchedule:
        """A schedule over what the subscription is now; Stripe takes the next phases in a second call."""
        call = self._v1.subscription_schedules.create
        answer = write(call, key=idempotency_key, from_subscription=subscription_id, metadata=dict(metadata))
        return StripeSchedule.read(answer)

    def retrieve_schedule(self, schedule_id: str) -> StripeSchedule:
        return StripeSchedule.read(read(self._v1.subscription_schedules.retrieve, schedule_id))

    def schedule_price(
        self, schedule: StripeSchedule, price_id: str, *, idempotency_key: str
    ) -> StripeSchedule:
        """Another price from the end of the current phase on, without proration; a month later the schedule
        lets the subscription go on by itself. Its tax rates stay: a phase that names none would end them.
        """
        now = schedule.phases[0]
        taxed = {"default_tax_rates": list(now.tax_rate_ids)} if now.tax_rate_ids else {}
        phases = [
            {
                "items": [{"price": now.price_id, "quantity": 1}],
                "start_date": int(now.start.timestamp()),
                "end_date": int(now.end.timestamp()),
                **taxed,
            },
            {
                "items": [{"price": price_id, "quantity": 1}],
                "proration_behavior": "none",
                "duration": {"interval": "month", "interval_count": 1},
                **taxed,
            },
        ]
        call = self._v1.subscription_schedules.update
        return StripeSchedule.read(
            write(call, schedule.id, key=idempotency_key, phases=phases, end_behavior="release")
        )

    def release_schedule(self, schedule_id: str, *, idempotency_key: str) -> StripeSchedule:
        """The subscription stays what it is; later phases never come."""
        call = self._v1.subscription_schedules.release
        return StripeSchedule.read(write(call, schedule_id, key=idempotency_key))


def _collection(payment_method_id: str | None, days_until_due: int | None) -> dict[str, Any]:
    if payment_method_id:
        return {"default_payment_method": payment_method_id, "payment_behavior": "allow_incomplete"}
    if days_until_due is not None:
        return {"collection_method": "send_invoice", "days_until_due": days_until_due}
    saved = {"save_default_payment_method": "on_subscription"}
    return {"payment_behavior": "default_incomplete", "payment_settings": saved}
