"""What is owed, as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain

from provider_federation.kit.csv_cells import csv_text
from provider_federation.portal.receivables import queries
from provider_federation.portal.receivables.models import Receivable

_HEADER = (
    "client",
    "instance",
    "invoice",
    "kind",
    "currency",
    "total (minor units)",
    "outstanding (minor units)",
    "due (UTC)",
    "days overdue",
    "age",
    "stripe invoice",
)


def receivables_csv(invoices: Iterable[Receivable]) -> str:
    """A row an open invoice; amounts are whole numbers in minor units."""
    return csv_text(chain([_HEADER], map(_cells, invoices)))


def _cells(invoice: Receivable) -> list[str | int]:
    days = queries.days_overdue(invoice)
    instance = invoice.instance
    return [
        instance.title,
        instance.name,
        invoice.number,
        queries.kind_of(invoice),
        invoice.currency.upper(),
        invoice.total_cents,
        invoice.remaining_cents,
        _iso(queries.due_of(invoice)),
        days,
        queries.bucket_of(days),
        invoice.stripe_invoice_id or "",
    ]


def _iso(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else ""
