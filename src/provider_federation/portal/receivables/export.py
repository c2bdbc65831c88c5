"""What is owed, as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime

from provider_federation.kit.csv_cells import safe_cell
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
    """RFC 4180, a row an open invoice; amounts are whole numbers in minor units."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for invoice in invoices:
        writer.writerow(_cells(invoice))
    return out.getvalue()


def _cells(invoice: Receivable) -> list[str | int]:
    days = queries.days_overdue(invoice)
    instance = invoice.instance
    return [
        *(safe_cell(text) for text in (instance.title, instance.name, invoice.number)),
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
