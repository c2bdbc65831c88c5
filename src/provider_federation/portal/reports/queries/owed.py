"""Billed, paid, collected, outstanding and overdue (money rule 14), of the invoices made final in some months.

The figures and their SQL are the ledger's (receivables.ledger); here they are grouped. Each is as of now: what
was paid later counts for the month whose invoice it paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

from django.db.models import Sum

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables import ledger
from provider_federation.portal.receivables.ledger import KINDS, Groups, Owed
from provider_federation.portal.reports.window import Window

Grouping: TypeAlias = Literal["month", "client", "kind"]


@dataclass(frozen=True)
class OwedRow:
    """One group in one currency. `key` is a month, a client's org id, or a kind."""

    key: str
    label: str
    currency: str
    owed: Owed


def owed(window: Window, by: Grouping, *, client: Instance | None = None) -> list[OwedRow]:
    """The groups, by key and currency: months oldest first, clients by name, kinds by word."""
    sums: dict[tuple[str, str], Owed] = {}
    for kind in KINDS:
        invoices = ledger.summed(_keyed(finalised(kind, window, client), window, by))
        for group in [*invoices, *_refunds(kind, window, by, client)]:
            key = _key(group, window, by, kind), group["currency"]
            sums[key] = sums.get(key, Owed()).plus(ledger.owed_of(group))
    names = client_names(by)
    rows_out = [OwedRow(*_named(key, by, names), currency, found) for (key, currency), found in sums.items()]
    return sorted(rows_out, key=lambda row: (row.label if by == "client" else row.key, row.currency))


def totals(rows: Iterable[OwedRow]) -> dict[str, Owed]:
    """By currency; currencies are never added up."""
    sums: dict[str, Owed] = {}
    for row in rows:
        sums[row.currency] = sums.get(row.currency, Owed()).plus(row.owed)
    return dict(sorted(sums.items()))


def finalised(kind: str, window: Window, client: Instance | None) -> Groups:
    """Invoices of the window that are final and not void, of one client or of all."""
    return ledger.finalised(kind, client).filter(finalized_at__gte=window.start, finalized_at__lt=window.end)


def client_names(by: str) -> Mapping[str, tuple[str, str]]:
    """Org id and title by the instance's id, when clients are what is grouped by."""
    if by != "client":
        return {}
    rows = Instance.objects.values_list("pk", "org_id", "title", "name")
    return {str(key): (org, title or name) for key, org, title, name in rows}


def _keyed(rows: Groups, window: Window, by: Grouping, dated: str = "finalized_at") -> Groups:
    if by == "month":
        return rows.annotate(bucket=window.bucket(dated)).values("bucket", "currency")
    if by == "client":
        return rows.values("instance_id", "currency")
    return rows.values("currency")


def _refunds(kind: str, window: Window, by: Grouping, client: Instance | None) -> Groups:
    rows = ledger.refunds_of(kind, client, finalized_at__gte=window.start, finalized_at__lt=window.end)
    dated = ledger.refunded_invoice(kind, "finalized_at")
    return _keyed(rows, window, by, dated).annotate(refunded=Sum("amount_cents"))


def _key(group: Mapping[str, Any], window: Window, by: Grouping, kind: str) -> str:
    if by == "month":
        return window.month_of(group["bucket"])
    instance: UUID | None = group.get("instance_id")
    return str(instance) if by == "client" else kind


def _named(key: str, by: Grouping, names: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    return names.get(key, (key, key)) if by == "client" else (key, key)
