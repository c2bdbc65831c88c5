"""What the provider billed by month, grouped by the database: two queries, however many invoices there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncMonth

from provider_federation.money import Period
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

_FINAL = (UsageStatus.OPEN, UsageStatus.PAID, UsageStatus.UNCOLLECTIBLE)


@dataclass(frozen=True)
class MonthSum:
    """Finalised invoices of one kind, month (`YYYY-MM`) and currency; `cents` in its minor unit."""

    kind: str
    month: str
    currency: str
    cents: int


def billed_by_month(months: Sequence[Period]) -> list[MonthSum]:
    """Of `months`, oldest first: what subscriptions and usage invoices billed after credit notes, those that are
    void aside.
    """
    fees = _sums(SubscriptionInvoice.objects.all(), "billed_at", months)
    usage = _sums(UsageInvoice.objects.all(), "created_at", months)
    return [*(MonthSum("subscription", *row) for row in fees), *(MonthSum("usage", *row) for row in usage)]


def _sums(rows: QuerySet[Any], otherwise: str, months: Sequence[Period]) -> list[tuple[str, str, int]]:
    """Dated by their finalisation, as the ledger dates them, else by the column `otherwise`."""
    found = (
        rows.filter(status__in=_FINAL)
        .annotate(at=Coalesce("finalized_at", otherwise))
        .filter(at__gte=months[0].start, at__lt=months[-1].end)
        .annotate(month=TruncMonth("at", tzinfo=ZoneInfo(settings.PROVIDER_TIME_ZONE)))
        .order_by()
        .values("month", "currency")
        .annotate(cents=Sum(F("total_cents") - F("credited_unpaid_cents") - F("credited_paid_cents")))
    )
    return [(f"{row['month']:%Y-%m}", row["currency"], row["cents"]) for row in found]
