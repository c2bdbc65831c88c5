"""Invoices as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from itertools import islice

from provider_federation.kit.csv_cells import safe_cell
from provider_federation.portal.fleet.models import ClientInvoice
from provider_federation.portal.fleet.wire import iso

__all__ = ["MOST_ROWS", "invoices_csv", "safe_cell"]

MOST_ROWS = 100_000
_HEADER = [
    "client",
    "instance",
    "number",
    "customer",
    "customer email",
    "status",
    "currency",
    "subtotal (minor units)",
    "tax (minor units)",
    "total (minor units)",
    "paid (minor units)",
    "created at",
    "sent at",
    "paid at",
    "stripe invoice",
]


def invoices_csv(invoices: Iterable[ClientInvoice]) -> str:
    """RFC 4180; amounts are whole numbers in minor units, so that they stay numbers. At most MOST_ROWS
    rows.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for invoice in islice(invoices, MOST_ROWS):
        writer.writerow(_cells(invoice))
    return out.getvalue()


def _cells(invoice: ClientInvoice) -> list[str | int]:
    text = [
        invoice.instance.title,
        invoice.instance.name,
        invoice.number,
        invoice.customer_name,
        invoice.customer_email,
        invoice.status,
        invoice.currency.upper(),
    ]
    times = [iso(at) if at else "" for at in (invoice.created_at, invoice.sent_at, invoice.paid_at)]
    return [
        *(safe_cell(one) for one in text),
        invoice.subtotal_cents,
        invoice.tax_cents,
        invoice.total_cents,
        invoice.amount_paid_cents,
        *times,
        safe_cell(invoice.stripe_invoice_id),
    ]
