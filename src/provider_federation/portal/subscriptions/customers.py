"""The client as a customer of the provider's Stripe account: made once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from provider_federation.kit import clock
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import BillingCustomer, FormerCustomer
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
    former = FormerCustomer.objects.filter(instance=instance).count()
    wanted = OrderCustomer(
        key=f"{instance.pk}/{former}" if former else str(instance.pk),
        name=row.name,
        email=row.email or None,
        metadata={"clientOrgId": instance.org_id},
    )
    return _store(row, ensure_stripe_customer(provider_account(), wanted, DatabaseJournal(), now=clock.now))


def known_customers(instances: Collection[Instance]) -> dict[UUID, BillingCustomer]:
    """Those of these clients that have a customer in Stripe, by the client's id."""
    rows = BillingCustomer.objects.filter(instance__in=instances).exclude(stripe_customer_id=None)
    return {row.instance_id: row for row in rows if row.stripe_customer_id}


def stripe_customers(instance: Instance) -> list[str]:
    """The ids of this client's customers in Stripe, those that were deleted there as well."""
    former = FormerCustomer.objects.filter(instance=instance).values_list("stripe_customer_id", flat=True)
    known = BillingCustomer.objects.filter(instance=instance).values_list("stripe_customer_id", flat=True)
    return [customer for customer in (*former, *known) if customer]


def customer_of(stripe_customer_id: str | None) -> BillingCustomer | None:
    """Whose customer this is, or was before it was deleted; None for a stranger."""
    if not stripe_customer_id:
        return None
    rows = BillingCustomer.objects.select_related("instance")
    former = FormerCustomer.objects.filter(stripe_customer_id=stripe_customer_id).values("instance")
    return rows.filter(Q(stripe_customer_id=stripe_customer_id) | Q(instance__in=former)).first()


def note_customer_deleted(stripe_customer_id: str) -> BillingCustomer | None:
    """The customer is gone in Stripe, and its subscriptions with it: the client gets another one when it is
    billed next. None when it is nobody's.
    """
    with transaction.atomic():
        row = (
            BillingCustomer.objects.select_for_update(of=("self",))
            .select_related("instance")
            .filter(stripe_customer_id=stripe_customer_id)
            .first()
        )
        if row is None:
            return customer_of(stripe_customer_id)
        FormerCustomer.objects.create(
            instance=row.instance, stripe_customer_id=stripe_customer_id, deleted_at=clock.now()
        )
        row.stripe_customer_id = None
        row.save(update_fields=["stripe_customer_id"])
        record(Kind.CUSTOMER_DELETED, "stripe", f"instance:{row.instance.name}", customer=stripe_customer_id)
    return row


def known_living_customer(instance: Instance) -> str | None:
    """The Stripe id of the client's customer, looked at first; None when it has none, or it was deleted there.
    Raises `StripeFailed`. Nothing is made.
    """
    known = known_customers([instance]).get(instance.pk)
    stripe_id = known.stripe_customer_id if known else None
    return stripe_id if stripe_id and not provider_account().retrieve_customer(stripe_id).deleted else None


def living_customer(instance: Instance, details: Mapping[str, str] | None = None) -> str:
    """The Stripe id of the client's customer, looked at first: one that was deleted there while no event told
    us is replaced. Raises `StripeFailed`.
    """
    customer = ensure_customer(instance, details).stripe_customer_id or ""
    if provider_account().retrieve_customer(customer).deleted:
        note_customer_deleted(customer)
        customer = ensure_customer(instance, details).stripe_customer_id or ""
    return customer


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
