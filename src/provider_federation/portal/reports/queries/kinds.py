"""What was billed for: subscriptions, converted leads, AI usage; tax and credits beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.ledger import SUBSCRIPTION, USAGE, Groups, total
from provider_federation.portal.receivables.queries import FINAL
from provider_federation.portal.reports.queries.owed import client_names, finalised
from provider_federation.portal.reports.window import Window
from provider_federation.portal.revenue.models import UsageLine

Grouping: TypeAlias = Literal["month", "client"]
Sums: TypeAlias = "dict[tuple[str, str], Kinds]"


@dataclass(frozen=True)
class Kinds:
    """Sums in minor units of one currency. `tax` is what Stripe added on top of subscriptions, leads and AI
    usage; `total` is all of it after credit notes: the same figure as `Owed.billed`.
    """

    subscription: int = 0
    leads: int = 0
    ai: int = 0
    tax: int = 0
    credited: int = 0
    lead_count: int = 0

    @property
    def total(self) -> int:
        return self.subscription + self.leads + self.ai + self.tax - self.credited

    def plus(self, other: Kinds) -> Kinds:
        """Field by field."""
        return Kinds(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Kinds)}
        )


@dataclass(frozen=True)
class KindsRow:
    """One group in one currency. `key` is a month or a client's org id."""

    key: str
    label: str
    currency: str
    kinds: Kinds


def revenue_by_kind(window: Window, by: Grouping, *, client: Instance | None = None) -> list[KindsRow]:
    """The groups, months oldest first, clients by name. Three grouped queries."""
    sums: Sums = {}
    for group in _fees(window, by, client):
        kinds = Kinds(
            subscription=group["gross"] - group["tax"], tax=group["tax"], credited=group["credited"]
        )
        _add(sums, group, window, kinds)
    for group in _usage(window, by, client):
        _add(sums, group, window, Kinds(tax=group["gross"], credited=group["credited"]))
    for group in _lines(window, by, client):
        _add(sums, group, window, _of_line(group))
    names = client_names(by)
    rows = [KindsRow(*_named(key, names), currency, kinds) for (key, currency), kinds in sums.items()]
    return sorted(rows, key=lambda row: (row.label if by == "client" else row.key, row.currency))


def totals(rows: Iterable[KindsRow]) -> dict[str, Kinds]:
    """By currency."""
    sums: dict[str, Kinds] = {}
    for row in rows:
        sums[row.currency] = sums.get(row.currency, Kinds()).plus(row.kinds)
    return dict(sorted(sums.items()))


def _fees(window: Window, by: Grouping, client: Instance | None) -> Groups:
    return _invoice_sums(finalised(SUBSCRIPTION, window, client), window, by)


def _usage(window: Window, by: Grouping, client: Instance | None) -> Groups:
    return _invoice_sums(finalised(USAGE, window, client), window, by)


def _invoice_sums(rows: Groups, window: Window, by: Grouping) -> Groups:
    return _keyed(rows.annotate(money=F("currency")), window, by, "").annotate(
        gross=total("total_cents"),
        tax=total("tax_cents"),
        credited=total(F("credited_unpaid_cents") + F("credited_paid_cents")),
    )


def _lines(window: Window, by: Grouping, client: Instance | None) -> Groups:
    rows = UsageLine.objects.filter(
        invoice__status__in=FINAL,
        invoice__finalized_at__gte=window.start,
        invoice__finalized_at__lt=window.end,
    ).order_by()
    rows = rows.filter(invoice__instance=client) if client is not None else rows
    keyed = _keyed(rows.annotate(money=F("invoice__currency")), window, by, "invoice__", "kind")
    return keyed.annotate(amount=Sum("amount_cents"), count=Coalesce(Sum("quantity"), 0))


def _keyed(rows: Groups, window: Window, by: Grouping, invoice: str, *more: str) -> Groups:
    if by == "month":
        return rows.annotate(bucket=window.bucket(f"{invoice}finalized_at")).values("bucket", "money", *more)
    return rows.annotate(who=F(f"{invoice}instance_id")).values("who", "money", *more)


def _of_line(group: Mapping[str, Any]) -> Kinds:
    """A line's amount leaves what its invoice totals: only what is on top of all lines stays as tax."""
    amount = group["amount"]
    if group["kind"] == "leads":
        return Kinds(leads=amount, lead_count=group["count"], tax=-amount)
    return replace(Kinds(tax=-amount), ai=amount)


def _add(sums: Sums, group: Mapping[str, Any], window: Window, kinds: Kinds) -> None:
    key = window.month_of(group["bucket"]) if "bucket" in group else str(group["who"])
    sums[key, group["money"]] = sums.get((key, group["money"]), Kinds()).plus(kinds)


def _named(key: str, names: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    return names.get(key, (key, key))
