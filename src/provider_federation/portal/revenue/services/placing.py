"""Placing a planned usage invoice in the provider's Stripe account. Runs in a job, outside of any
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from provider_federation.kit import clock
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.alerts import raise_alert
from provider_federation.portal.revenue.models import UsageInvoice, UsageLine, UsageStatus
from provider_federation.portal.revenue.services.applying import apply_usage_invoice, refresh_any_invoice
from provider_federation.portal.revenue.services.ordering import Ordered
from provider_federation.portal.subscriptions.applying import Overtaken
from provider_federation.portal.subscriptions.customers import living_customer
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import BillingCustomer
from provider_federation.portal.subscriptions.services import ensure_customer, provider_account
from provider_federation.stripe_account import (
    JOURNAL_CONTRADICTED,
    InvoiceOrder,
    OrderCustomer,
    OrderLine,
    StripeFailed,
    StripeInvoice,
    place_abreast,
    place_invoice,
)

_ON_ITS_WAY = (UsageStatus.PLANNED, UsageStatus.PLACING)


def place_usage_invoice(invoice_id: UUID, *, vouched: bool = False) -> None:
    """From the frozen lines to a sent invoice; the same one however often this runs and wherever it stopped.

    `vouched`: see `stripe_account.place_invoice`. Raises `StripeFailed` when it may work later. What Stripe
    refuses for good holds the invoice and raises an alert.
    """
    row = _begin(invoice_id)
    if row is None:
        return
    try:
        placed = _place(row, vouched=vouched)
    except StripeFailed as failure:
        _note(row, failure)
        if failure.retryable:
            raise
        return
    try:
        apply_usage_invoice(placed, row)
    except Overtaken:  # an event was applied meanwhile: what we saw may be older
        refresh_any_invoice(placed.id)


def _place(row: UsageInvoice, *, vouched: bool) -> StripeInvoice:
    account, journal = provider_account(), DatabaseJournal()
    try:
        return place_invoice(account, order_of(row), journal, now=clock.now, vouched=vouched)
    except StripeFailed as failure:
        if failure.code != "resource_missing" or not _is_replaced(row.instance):
            raise
    return place_invoice(account, order_of(row), journal, now=clock.now)


def _is_replaced(instance: Instance) -> bool:
    """Whether the client has another customer now, because its own was deleted in Stripe and no event told us."""
    before = ensure_customer(instance).stripe_customer_id
    return living_customer(instance) != before


def order_of(row: UsageInvoice) -> InvoiceOrder:
    """The frozen row as an order. Makes the client's customer when it has none yet; raises `StripeFailed`."""
    return _order(row, ensure_customer(row.instance), row.lines.order_by("position"))


def place_together(
    ordered: Sequence[Ordered], customers: Mapping[UUID, BillingCustomer]
) -> list[tuple[UsageInvoice, StripeInvoice]]:
    """Those of these rows, ordered a moment ago and vouched for, that are final in Stripe and sent now.

    `customers` by their clients' ids. The others stay on their way, for `place_usage_invoice`.
    """
    by_key = {row.order_key: row for row, _ in ordered}
    orders = [_order(row, customers[row.instance_id], lines) for row, lines in ordered]
    ended = place_abreast(
        provider_account(), orders, DatabaseJournal(), now=clock.now, at_once=settings.BILLING_CALLS_AT_ONCE
    )
    placed = []
    for key, outcome in ended.items():
        if isinstance(outcome, StripeInvoice):
            placed.append((by_key[key], outcome))
        elif outcome.code == JOURNAL_CONTRADICTED:
            _note(by_key[key], outcome)
    return placed


def _order(row: UsageInvoice, customer: BillingCustomer, frozen: Iterable[UsageLine]) -> InvoiceOrder:
    lines = tuple(
        OrderLine(
            key=f"{line.kind}:{line.position}",
            description=line.description,
            amount=line.amount_cents,
            starts=row.period_start,
            ends=row.period_end,
        )
        for line in frozen
    )
    return InvoiceOrder(
        key=row.order_key,
        customer=OrderCustomer(
            key=str(row.instance_id), name=customer.name, stripe_id=customer.stripe_customer_id
        ),
        currency=row.currency,
        lines=lines,
        description=f"Usage in {row.period}",
        tax_rates=tuple(settings.PROVIDER_STRIPE_TAX_RATES),
        metadata={
            "clientOrgId": row.instance.org_id,
            "period": row.period,
            "pf_usage_invoice": str(row.pk),
        },
    )


def _begin(invoice_id: UUID) -> UsageInvoice | None:
    mine = UsageInvoice.objects.filter(pk=invoice_id, status__in=_ON_ITS_WAY)
    if not mine.update(status=UsageStatus.PLACING, updated_at=clock.now(), attempts=F("attempts") + 1):
        return None
    return UsageInvoice.objects.select_related("instance").defer("usage").get(pk=invoice_id)


def _note(row: UsageInvoice, failure: StripeFailed) -> None:
    changes = {"failure": f"{failure.code}: {failure.message}"[:500], "updated_at": clock.now()}
    if failure.retryable:
        UsageInvoice.objects.filter(pk=row.pk).update(**changes)
        return
    sentence = f"Stripe refused the invoice of {row.instance} for {row.period}: {failure.message}"
    with transaction.atomic():
        held = UsageInvoice.objects.filter(pk=row.pk, status__in=_ON_ITS_WAY).update(
            **changes,
            status=UsageStatus.HELD,
            hold_code=f"stripe_{failure.code}"[:64],
            hold_reason=sentence[:500],
            version=F("version") + 1,
        )
        if not held:
            return  # it is final meanwhile: an event told us
        raise_alert("placing_refused", f"usage_invoice:{row.pk}", sentence, code=failure.code)
        record(Event.USAGE_HELD, "system", f"usage_invoice:{row.pk}", period=row.period, code=failure.code)
