"""Counts and sums for the pages, each by currency: two currencies never add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, Q, Sum, When

from provider_federation.instance.invoicing.models import (
    Alert,
    EventState,
    Invoice,
    InvoiceStatus,
    StripeEvent,
)
from provider_federation.instance.invoicing.queries import billable_leads
from provider_federation.instance.leads.models import Lead
from provider_federation.kit import clock
from provider_federation.money import Period


@dataclass(frozen=True)
class Sums:
    """How many, and minor units by currency."""

    count: int
    amounts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Overview:
    """`outstanding` is what open invoices still wait for; `collected` came through Stripe, unlike out-of-band payments."""

    month: Period
    billable: Sums
    draft: Sums
    open: Sums
    outstanding: Sums
    paid: Sums
    collected: Sums


def this_month() -> Period:
    """The billing month of now, in the provider's zone."""
    return Period.month_of(clock.now(), str(settings.PROVIDER_ZONE))


def add_up(pairs: Iterable[tuple[str, int]], count: int) -> Sums:
    totals: dict[str, int] = {}
    for currency, cents in pairs:
        totals[currency] = totals.get(currency, 0) + cents
    return Sums(count, tuple(sorted(totals.items())))


def overview() -> Overview:
    month = this_month()
    billable = (
        billable_leads(month).order_by().values("currency").annotate(n=Count("pk"), cents=Sum("price_cents"))
    )
    by_status = list(
        Invoice.objects.values("status", "currency").annotate(
            n=Count("pk"),
            cents=Sum("total_cents"),
            received=Sum("amount_paid_cents", filter=Q(paid_out_of_band=False), default=0),
            settled=Sum("amount_paid_cents"),
        )
    )
    of_open = [row for row in by_status if row["status"] == InvoiceStatus.OPEN]
    return Overview(
        month=month,
        billable=_sums(billable, "cents"),
        draft=_of_status(by_status, InvoiceStatus.DRAFT, "cents"),
        open=_of_status(by_status, InvoiceStatus.OPEN, "cents"),
        outstanding=add_up(((row["currency"], row["cents"] - row["settled"]) for row in of_open), 0),
        paid=_of_status(by_status, InvoiceStatus.PAID, "cents"),
        collected=_sums(by_status, "received"),
    )


def sums_of_leads(leads: Sequence[Lead]) -> Sums:
    return add_up(((lead.currency, lead.price_cents or 0) for lead in leads), len(leads))


def billed_by_customer(customers: Sequence[int]) -> dict[int, Sums]:
    """What each customer was billed in all, void invoices left out."""
    rows = (
        Invoice.objects.filter(customer__in=customers)
        .exclude(status=InvoiceStatus.VOID)
        .values("customer", "currency")
        .annotate(n=Count("pk"), cents=Sum("total_cents"))
    )
    return {pk: _sums([row for row in rows if row["customer"] == pk], "cents") for pk in customers}


def open_alerts(limit: int) -> list[Alert]:
    """The latest first; invoices that are not ours come behind everything else, for a client whose Stripe account
    bills others as well has one alert for each of them.
    """
    strangers = Case(When(kind="unknown_invoice", then=1), default=0)
    return list(Alert.objects.order_by(strangers, "-last_at", "-pk")[:limit])


def stuck_events(limit: int) -> list[StripeEvent]:
    """Stripe events that are stored but could not be applied, oldest first."""
    stuck = StripeEvent.objects.filter(state__in=(EventState.PENDING, EventState.PARKED))
    return list(stuck.defer("payload").order_by("pk")[:limit])


def _of_status(rows: Iterable[Mapping[str, Any]], status: str, column: str) -> Sums:
    return _sums([row for row in rows if row["status"] == status], column)


def _sums(rows: Iterable[Mapping[str, Any]], column: str) -> Sums:
    known = list(rows)
    return add_up(((row["currency"], row[column]) for row in known), sum(row["n"] for row in known))
