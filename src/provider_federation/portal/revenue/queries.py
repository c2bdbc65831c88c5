"""Reading the provider's ledger: what was billed, paid, collected and is outstanding (money rule 14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from provider_federation.kit.pagination import encode_cursor
from provider_federation.kit.problem import not_found
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import (
    Alert,
    Kind,
    LeadCharge,
    StripeEvent,
    UsageInvoice,
    UsageLine,
    UsageStatus,
)
from provider_federation.portal.subscriptions.models import SubscriptionInvoice
from provider_federation.portal.subscriptions.queries import after_cursor

_SUMS = {
    name: Sum(f"{name}_cents")
    for name in ("total", "due", "paid", "off_stripe", "remaining", "credited_unpaid", "credited_paid")
}
_STATUSES = (UsageStatus.OPEN, UsageStatus.PAID, UsageStatus.UNCOLLECTIBLE)


@dataclass(frozen=True)
class LedgerTotals:
    """Sums in minor units of one currency, over finalised invoices that are not void.

    `billed = credited_unpaid + over_balance + paid + outstanding + written_off`, always; `collected` is the
    part of `paid` that came through the Stripe account, before `credited_paid` was given back.
    """

    invoices: int = 0
    billed: int = 0
    paid: int = 0
    collected: int = 0
    off_stripe: int = 0
    over_balance: int = 0
    outstanding: int = 0
    written_off: int = 0
    credited_unpaid: int = 0
    credited_paid: int = 0

    def plus(self, other: LedgerTotals) -> LedgerTotals:
        """Field by field."""
        return LedgerTotals(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        )


@dataclass(frozen=True)
class LedgerEntry:
    """One invoice as the ledger has it. `kind` is `usage` or `subscription`; amounts as in `LedgerTotals`."""

    kind: str
    client_org_id: str
    stripe_invoice_id: str
    number: str
    status: str
    currency: str
    billed_at: datetime
    totals: LedgerTotals


def ledger_totals(instance: Instance | None = None) -> dict[str, LedgerTotals]:
    """The ledger by currency: of one client, or of all. Two grouped queries, however many invoices."""
    sums: dict[str, LedgerTotals] = {}
    for rows in _finalised(instance):
        grouped = rows.order_by().values("currency", "status").annotate(invoices=Count("pk"), **_SUMS)
        for group in grouped:
            currency = group["currency"]
            sums[currency] = sums.get(currency, LedgerTotals()).plus(_group_totals(group))
    return sums


def ledger_entries(instance: Instance | None = None) -> list[LedgerEntry]:
    """Every finalised invoice that is not void, oldest first."""
    usage, fees = _finalised(instance)
    entries = [_entry("usage", one, one.finalized_at or one.created_at) for one in usage.defer("usage")]
    entries += [_entry("subscription", one, one.finalized_at or one.billed_at) for one in fees]
    return sorted(entries, key=lambda entry: (entry.billed_at, entry.stripe_invoice_id))


def live_usage_invoice(instance: Instance, period: str) -> UsageInvoice | None:
    """The client's usage invoice of that month, a void one aside."""
    return (
        UsageInvoice.objects.filter(instance=instance, period=period).exclude(status=UsageStatus.VOID).first()
    )


def usage_invoice(invoice_id: str) -> UsageInvoice:
    """Problem 404 when there is none, or the id is not one."""
    try:
        key = UUID(invoice_id)
    except ValueError:
        raise not_found("usage invoice") from None
    found = UsageInvoice.objects.select_related("instance").filter(pk=key).first()
    if found is None:
        raise not_found("usage invoice")
    return found


def charged_leads(instance: Instance, lead_ids: Iterable[str], *, ever: bool = False) -> set[str]:
    """Which of these leads this client was charged for and may not be charged for again.

    `ever`: also those that were freed while their invoice stands (a dispute the client won): late usage does
    not bring them back by itself.
    """
    charges = LeadCharge.objects.filter(instance=instance, lead_id__in=list(lead_ids))
    standing = ~Q(line__invoice__status=UsageStatus.VOID) if ever else Q(pk__in=())
    return set(charges.filter(Q(released_at=None) | standing).values_list("lead_id", flat=True))


def ai_billed(instance: Instance, period: str) -> int:
    """What the AI usage of that month was billed so far, on its own invoice and late on others, in minor units."""
    lines = UsageLine.objects.filter(invoice__instance=instance, kind=Kind.AI)
    mine = lines.filter(Q(late_for=period) | Q(late_for="", invoice__period=period))
    standing = mine.exclude(invoice__status=UsageStatus.VOID)
    return int(standing.aggregate(sum=Sum("amount_cents"))["sum"] or 0)


@dataclass(frozen=True)
class InvoicePage:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[UsageInvoice]
    next_cursor: str | None


def list_usage_invoices(
    *, client_org_id: str = "", status: str = "", period: str = "", cursor: str = "", limit: int = 50
) -> InvoicePage:
    """One page of usage invoices. Problem 400 `bad_cursor`."""
    given = {"instance__org_id": client_org_id, "status": status, "period": period}
    rows = UsageInvoice.objects.filter(**{name: value for name, value in given.items() if value})
    if cursor:
        rows = rows.filter(after_cursor(cursor))
    items = list(rows.order_by("-created_at", "-id").select_related("instance").defer("usage")[: limit + 1])
    more, items = len(items) > limit, items[:limit]
    return InvoicePage(
        items, encode_cursor(items[-1].created_at.isoformat(), str(items[-1].pk)) if more else None
    )


def open_alerts() -> QuerySet[Alert]:
    """What a person still has to look at, newest first."""
    return Alert.objects.filter(resolved_at=None)


def events_waiting() -> QuerySet[StripeEvent]:
    """Stored and not applied yet, or parked."""
    return StripeEvent.objects.filter(state__in=("pending", "parked"))


def usage_sums(period: str) -> dict[str, int]:
    """What was billed for usage in one month, by currency, in minor units."""
    rows = UsageInvoice.objects.filter(period=period, status__in=_STATUSES).order_by()
    return {row["currency"]: row["sum"] for row in rows.values("currency").annotate(sum=Sum("total_cents"))}


def _finalised(instance: Instance | None) -> tuple[QuerySet[UsageInvoice], QuerySet[SubscriptionInvoice]]:
    usage = UsageInvoice.objects.filter(status__in=_STATUSES).select_related("instance")
    fees = SubscriptionInvoice.objects.filter(status__in=_STATUSES).select_related("instance")
    if instance is None:
        return usage, fees
    return usage.filter(instance=instance), fees.filter(instance=instance)


def _entry(kind: str, invoice: UsageInvoice | SubscriptionInvoice, at: datetime) -> LedgerEntry:
    return LedgerEntry(
        kind=kind,
        client_org_id=invoice.instance.org_id,
        stripe_invoice_id=invoice.stripe_invoice_id or "",
        number=invoice.number,
        status=invoice.status,
        currency=invoice.currency,
        billed_at=at,
        totals=_totals(invoice),
    )


def _totals(invoice: UsageInvoice | SubscriptionInvoice) -> LedgerTotals:
    names = ("status", *_SUMS)
    columns = {name: getattr(invoice, name if name == "status" else f"{name}_cents") for name in names}
    return _group_totals({"invoices": 1, **columns})


def _group_totals(group: Mapping[str, Any]) -> LedgerTotals:
    written_off = group["status"] == UsageStatus.UNCOLLECTIBLE
    return LedgerTotals(
        invoices=group["invoices"],
        billed=group["total"],
        paid=group["paid"],
        collected=group["paid"] - group["off_stripe"],
        off_stripe=group["off_stripe"],
        over_balance=group["total"] - group["credited_unpaid"] - group["due"],
        outstanding=0 if written_off else group["remaining"],
        written_off=group["remaining"] if written_off else 0,
        credited_unpaid=group["credited_unpaid"],
        credited_paid=group["credited_paid"],
    )
