"""The client as a customer of the provider's Stripe account: made once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import BillingCustomer
from provider_federation.stripe_account import OrderCustomer
from provider_federation.stripe_account import ensure_customer as ensure_stripe_customer


def ensure_customer(instance: Instance, details: Mapping[str, str] | None = None) -> BillingCustomer:
    """The client's customer, with its Stripe id. Raises `StripeFailed`; a repeat goes on where the last
    try stopped.

    `details` may hold `name` and `email`; they count when the customer is made.
    """
    row = _row(instance, details or {})
    if row.stripe_customer_id:
        return row
    wanted = OrderCustomer(
        key=str(instance.pk),
        name=row.name,
        email=row.email or None,
        metadata={"clientOrgId": instance.org_id},
    )
    return _store(row, ensure_stripe_customer(provider_account(), wanted, DatabaseJournal(), now=clock.now))


def customer_of(stripe_customer_id: str | None) -> BillingCustomer | None:
    """Whose customer this is; None for a stranger."""
    if not stripe_customer_id:
        return None
    return (
        BillingCustomer.objects.select_related("instance")
        .filter(stripe_customer_id=stripe_customer_id)
        .first()
    )


def _row(instance: Instance, details: Mapping[str, str]) -> BillingCustomer:
    row, _ = BillingCustomer.objects.get_or_create(
        instance=instance,
        defaults={
            "name": details.get("name") or instance.title or instance.name,
            "email": details.get("email") or instance.billing_email,
            "created_at": clock.now(),
        },
    )
    return row


def _store(row: BillingCustomer, stripe_customer_id: str) -> BillingCustomer:
    with transaction.atomic():
        locked = BillingCustomer.objects.select_for_update().get(pk=row.pk)
        if not locked.stripe_customer_id:
            locked.stripe_customer_id = stripe_customer_id
            locked.save(update_fields=["stripe_customer_id"])
    return locked
