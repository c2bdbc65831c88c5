"""Billed, paid, collected, outstanding and overdue (money rule 14), of the invoices made final in some months.

Each figure is as of now: what was paid later counts for the month whose invoice it paid. One grouped query a
table, however many invoices there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias
from uuid import UUID

from django.db.models import BigIntegerField, Count, F, Q, Sum, Value
from django.db.models.functions import Coalesce

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import GIVEN_BACK, Refund
from provider_federation.portal.reports.window import Window
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

Grouping: TypeAlias = Literal["month", "client", "kind"]
Groups: TypeAlias = Any
"""A query set of whichever kind of invoice, or of sums over it."""
FINAL = ("open", "paid", "uncollectible")
"""Finalised and not void: what the ledger counts."""
SUBSCRIPTION, USAGE = "subscription", "usage"


@dataclass(frozen=True)
class Owed:
    """Sums in minor units of one currency.

    `billed = gross - credited`; `paid` is what Stripe calls paid, `collected` the part of it that came through
    the account and did not go back; `outstanding` is open and unpaid, `overdue` the part of it past its due
    date; `written_off` is what uncollectible invoices still ask for.
    """

    invoices: int = 0
    gross: int = 0
    credited: int = 0
    tax: int = 0
    paid: int = 0
    off_stripe: int = 0
    refunded: int = 0
    outstanding: int = 0
    overdue: int = 0
    written_off: int = 0

    @property
    def billed(self) -> int:
        return self.gross - self.credited

    @property
    def collected(self) -> int:
        return self.paid - self.off_stripe - self.refunded

    def plus(self, other: Owed) -> Owed:
        """Field by field."""
        return Owed(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Owed)})


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
    for kind, model in ((SUBSCRIPTION, SubscriptionInvoice), (USAGE, UsageInvoice)):
        rows = finalised(model, window, client)
        for group in _summed(_keyed(rows, window, by)):
            _add(sums, _key(group, window, by, kind), group["currency"], _owed(group))
        for group in _refunds(kind, window, by, client):
            _add(sums, _key(group, window, by, kind), group["currency"], Owed(refunded=group["refunded"]))
    names = client_names(by)
    rows_out = [OwedRow(*_named(key, by, names), currency, found) for (key, currency), found in sums.items()]
    return sorted(rows_out, key=lambda row: (row.label if by == "client" else row.key, row.currency))


def totals(rows: Iterable[OwedRow]) -> dict[str, Owed]:
    """By currency; currencies are never added up."""
    sums: dict[str, Owed] = {}
    for row in rows:
        sums[row.currency] = sums.get(row.currency, Owed()).plus(row.owed)
    return dict(sorted(sums.items()))


def finalised(model: type[Any], window: Window, client: Instance | None) -> Groups:
    """Invoices of the window that are final and not void, of one client or of all."""
    rows = model.objects.filter(
        status__in=FINAL, finalized_at__gte=window.start, finalized_at__lt=window.end
    ).order_by()
    return rows.filter(instance=client) if client is not None else rows


def client_names(by: str) -> Mapping[str, tuple[str, str]]:
    """Org id and title by the instance's id, when clients are what is grouped by."""
    if by != "client":
        return {}
    rows = Instance.objects.values_list("pk", "org_id", "title", "name")
    return {str(key): (org, title or name) for key, org, title, name in rows}


def total(column: Any, condition: Q | None = None) -> Coalesce:
    """A sum that is 0 when there is nothing to add."""
    return Coalesce(Sum(column, filter=condition), Value(0), output_field=BigIntegerField())


def _keyed(rows: Groups, window: Window, by: Grouping, invoice: str = "") -> Groups:
    if by == "month":
        return rows.annotate(bucket=window.bucket(f"{invoice}finalized_at")).values("bucket", "currency")
    if by == "client":
        return rows.values("instance_id", "currency")
    return rows.values("currency")


def _summed(groups: Groups) -> Groups:
    is_open, lost = Q(status="open"), Q(status="uncollectible")
    return groups.annotate(
        invoices=Count("pk"),
        gross=total("total_cents"),
        credited=total(F("credited_unpaid_cents") + F("credited_paid_cents")),
        tax=total("tax_cents"),
        paid=total("paid_cents"),
        off_stripe=total("off_stripe_cents"),
        outstanding=total("remaining_cents", is_open),
        overdue=total("remaining_cents", is_open & Q(due_at__lt=clock.now())),
        written_off=total("remaining_cents", lost),
    )


def _refunds(kind: str, window: Window, by: Grouping, client: Instance | None) -> Groups:
    invoice = "fee_invoice__" if kind == SUBSCRIPTION else "usage_invoice__"
    rows = Refund.objects.filter(
        **{
            f"{invoice}status__in": FINAL,
            f"{invoice}finalized_at__gte": window.start,
            f"{invoice}finalized_at__lt": window.end,
        },
        state__in=GIVEN_BACK,
    ).order_by()
    rows = rows.filter(instance=client) if client is not None else rows
    return _keyed(rows, window, by, invoice).annotate(refunded=Sum("amount_cents"))


def _owed(group: Mapping[str, Any]) -> Owed:
    return Owed(**{one.name: group[one.name] for one in fields(Owed) if one.name in group})


def _add(sums: dict[tuple[str, str], Owed], key: str, currency: str, found: Owed) -> None:
    sums[key, currency] = sums.get((key, currency), Owed()).plus(found)


def _key(group: Mapping[str, Any], window: Window, by: Grouping, kind: str) -> str:
    if by == "month":
        return window.month_of(group["bucket"])
    instance: UUID | None = group.get("instance_id")
    return str(instance) if by == "client" else kind


def _named(key: str, by: Grouping, names: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    return names.get(key, (key, key)) if by == "client" else (key, key)
