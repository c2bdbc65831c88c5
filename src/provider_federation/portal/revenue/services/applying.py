"""What Stripe says about an invoice of the provider's account reaches the row it belongs to, from a fresh
look.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.money import format_amount
from provider_federation.portal.audit.services import Happened, record_all
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.bulk import names_of_fields, update_all
from provider_federation.portal.revenue.alerts import raise_alert
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.applying import (
    Foreign,
    Overtaken,
    apply_invoice,
    copy_figures,
    look_until_current,
    refresh_subscription,
)
from provider_federation.portal.subscriptions.customers import customer_of
from provider_federation.portal.subscriptions.figures import StripeFigures
from provider_federation.portal.subscriptions.models import Subscription, SubscriptionInvoice
from provider_federation.portal.subscriptions.services import provider_account
from provider_federation.stripe_account import StripeInvoice

ORDER_MARK = "pf_key"
"""Where stripe_account.place_invoice leaves the order's key in Stripe's metadata."""
_COPIED = (
    *names_of_fields(StripeFigures),
    *("status", "failure", "hold_code", "hold_reason", "updated_at"),
)
"""What `_copy` writes."""


def refresh_any_invoice(stripe_invoice_id: str) -> UsageInvoice | SubscriptionInvoice:
    """Fetch the invoice and write what it says. Raises `StripeFailed`, or `Foreign` when it is none of
    ours.
    """

    def attempt() -> UsageInvoice | SubscriptionInvoice:
        usage = UsageInvoice.objects.filter(stripe_invoice_id=stripe_invoice_id).first()
        fee = SubscriptionInvoice.objects.filter(stripe_invoice_id=stripe_invoice_id).first()
        fresh = provider_account().retrieve_invoice(stripe_invoice_id, payments=True)
        if fresh.subscription_id:
            if not Subscription.objects.filter(stripe_subscription_id=fresh.subscription_id).exists():
                # Its first invoice may be told of before our own answer was stored: its metadata names the row.
                refresh_subscription(fresh.subscription_id)
            return apply_invoice(fresh, seen=fee.version if fee else 0)
        return apply_usage_invoice(fresh, usage or _ordered(fresh))

    return look_until_current(attempt)


def apply_usage_invoice(fresh: StripeInvoice, row: UsageInvoice) -> UsageInvoice:
    """Write what Stripe says onto `row`, as it was before `fresh` was fetched; `Overtaken` when it is
    newer by now.
    """
    _check_customer(fresh, row)
    with transaction.atomic():
        locked = UsageInvoice.objects.select_for_update().get(pk=row.pk)
        if locked.version != row.version:
            raise Overtaken
        before = locked.status
        if fresh.status != "draft":
            _check_total(fresh, locked)
        _copy(locked, fresh)
        locked.save()
        if locked.status != before:
            _follow(locked, before)
    return locked


def apply_together(placed: Sequence[tuple[UsageInvoice, StripeInvoice]]) -> set[UUID]:
    """Write what Stripe said of invoices that were just placed, onto rows as they were ordered; which rows.

    In the caller's transaction. A row that somebody wrote to meanwhile, and whatever looks wrong, is left for
    `apply_usage_invoice`.
    """
    rows = UsageInvoice.objects.select_for_update().filter(pk__in=[row.pk for row, _ in placed])
    now = {
        key: seen for key, *seen in rows.order_by("pk").values_list("pk", "version", "status", "total_cents")
    }
    done = []
    for row, invoice in placed:
        as_ordered = (invoice.total - invoice.tax_on_top, invoice.currency.lower())
        same = now.get(row.pk) == [row.version, row.status, row.total_cents]
        if (
            not same
            or as_ordered != (row.total_cents, row.currency)
            or invoice.status not in ("open", "paid")
        ):
            continue
        before = row.status
        _copy(row, invoice)
        done.append((row, before))
    update_all([row for row, _ in done], _COPIED)
    record_all(_changed(row, before) for row, before in done)
    return {row.pk for row, _ in done}


def _copy(row: UsageInvoice, fresh: StripeInvoice) -> None:
    row.stripe_invoice_id, row.updated_at = fresh.id, clock.now()
    if fresh.status == "draft":
        row.version += 1
        return
    copy_figures(row, fresh)
    row.status = fresh.status
    row.failure, row.hold_code, row.hold_reason = "", "", ""


def _ordered(fresh: StripeInvoice) -> UsageInvoice:
    row = UsageInvoice.objects.filter(order_key=fresh.metadata.get(ORDER_MARK, "")).first()
    if row is None:
        client = customer_of(fresh.customer_id)
        known = f"of {client.instance} " if client else ""
        code = "unknown_invoice" if client else "unknown_customer"
        raise Foreign(code, f"Stripe's invoice {fresh.id} {known}was not made by this portal.")
    if row.stripe_invoice_id == fresh.id:
        raise Overtaken  # bound while we looked: what we saw may be older than what is written
    given_up = row.status == UsageStatus.VOID and fresh.status != UsageStatus.VOID
    if row.stripe_invoice_id or given_up:
        which = row.stripe_invoice_id or "an invoice that was given up"
        raise Foreign("second_invoice", f"Stripe's invoice {fresh.id} repeats the order of {which}.")
    return row


def _check_customer(fresh: StripeInvoice, row: UsageInvoice) -> None:
    client = customer_of(fresh.customer_id)
    if client is None or client.instance_id != row.instance_id:
        raise Foreign(
            "foreign_customer", f"Stripe's invoice {fresh.id} is on another customer than its client's."
        )


def _check_total(fresh: StripeInvoice, row: UsageInvoice) -> None:
    frozen = sum(row.lines.values_list("amount_cents", flat=True))
    untaxed = fresh.total - fresh.tax_on_top  # tax that Stripe adds is carried through, nothing else is
    if untaxed != frozen or fresh.currency.lower() != row.currency:
        there, here = format_amount(untaxed, fresh.currency), format_amount(frozen, row.currency)
        message = f"Stripe's invoice {fresh.id} of {row.period} totals {there}, the portal's {here}."
        raise_alert("total_differs", f"usage_invoice:{row.pk}", message, stripe=untaxed, portal=frozen)


def _follow(row: UsageInvoice, before: str) -> None:
    """A void invoice frees its leads (money rule 12); every change is an audit event."""
    if row.status == UsageStatus.VOID:
        LeadCharge.objects.filter(line__invoice=row, released_at=None).update(released_at=clock.now())
    record_all([_changed(row, before)])


def _changed(row: UsageInvoice, before: str) -> Happened:
    facts = {"was": before, "now": row.status}
    return Happened(Event.USAGE_INVOICE_CHANGED, "stripe", f"usage_invoice:{row.pk}", facts)
