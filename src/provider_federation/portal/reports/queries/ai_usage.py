"""What AI usage cost against what the clients were billed for it, by the month it arose in (money rule 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from django.db.models import CharField, F, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, NullIf

from provider_federation.money import round_half_up
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.queries import FINAL
from provider_federation.portal.reports.queries.owed import client_names
from provider_federation.portal.reports.window import Window
from provider_federation.portal.revenue.models import Kind, UsageLine, UsageSnapshot

Grouping: TypeAlias = Literal["month", "client"]


@dataclass(frozen=True)
class AiUsage:
    """`cost` is exact, in major units; `billed` is what AI lines of the usage of these months asked for, in minor
    units; `absorbed` is the cost above that: what the caps left with the provider. Below 0 it is a markup's gain.
    """

    cost: Decimal = Decimal(0)
    billed: int = 0
    cost_cents: int = 0

    @property
    def absorbed(self) -> int:
        return self.cost_cents - self.billed


@dataclass(frozen=True)
class AiRow:
    """One group in one currency. `key` is a month or a client's org id."""

    key: str
    label: str
    currency: str
    usage: AiUsage


def ai_usage(window: Window, by: Grouping, *, client: Instance | None = None) -> list[AiRow]:
    """Months oldest first, clients by name. The cost is that of months which were settled. Two grouped
    queries.
    """
    costs = {(str(one["key"]), one["money"]): one["cost"] for one in _costs(window, by, client)}
    billed = {(str(one["key"]), one["money"]): one["billed"] for one in _billed(window, by, client)}
    names = client_names(by)
    rows = [
        AiRow(
            *names.get(key, (key, key)),
            currency,
            _usage(costs.get((key, currency)), billed.get((key, currency)), currency),
        )
        for key, currency in costs.keys() | billed.keys()
    ]
    return sorted(rows, key=lambda row: (row.label if by == "client" else row.key, row.currency))


def totals(rows: Iterable[AiRow]) -> dict[str, AiUsage]:
    """By currency; the sum of exact costs is rounded once."""
    costs: dict[str, Decimal] = {}
    billed: dict[str, int] = {}
    for row in rows:
        costs[row.currency] = costs.get(row.currency, Decimal(0)) + row.usage.cost
        billed[row.currency] = billed.get(row.currency, 0) + row.usage.billed
    return {currency: _usage(costs[currency], billed[currency], currency) for currency in sorted(costs)}


def _usage(cost: Decimal | None, billed: int | None, currency: str) -> AiUsage:
    exact = cost or Decimal(0)
    return AiUsage(exact, billed or 0, round_half_up(exact, currency))


def _costs(window: Window, by: Grouping, client: Instance | None) -> Iterable[Mapping[str, Any]]:
    rows = UsageSnapshot.objects.filter(period__in=window.labels).order_by()
    rows = rows.filter(instance=client) if client is not None else rows
    keyed = rows.annotate(key=F("period" if by == "month" else "instance_id"), money=F("currency"))
    return keyed.values("key", "money").annotate(cost=Sum("ai_cost"))


def _billed(window: Window, by: Grouping, client: Instance | None) -> QuerySet[Any, Any]:
    arose = Coalesce(NullIf("late_for", Value("")), F("invoice__period"), output_field=CharField())
    rows = UsageLine.objects.filter(kind=Kind.AI, invoice__status__in=FINAL).order_by()
    rows = rows.annotate(arose=arose).filter(arose__in=window.labels)
    rows = rows.filter(invoice__instance=client) if client is not None else rows
    keyed = rows.annotate(
        key=F("arose" if by == "month" else "invoice__instance_id"), money=F("invoice__currency")
    )
    return keyed.values("key", "money").annotate(billed=Sum("amount_cents"))
