"""Invoices as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from provider_federation.kit.csv_cells import csv_text
from provider_federation.portal.fleet.models import ClientInvoice
from provider_federation.portal.fleet.wire import iso

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
    """A row an invoice; amounts are whole numbers in minor units, so that they stay numbers."""
    return csv_text(chain([_HEADER], map(_cells, invoices)))


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
        *text,
        invoice.subtotal_cents,
        invoice.tax_cents,
        invoice.total_cents,
        invoice.amount_paid_cents,
        *times,
        invoice.stripe_invoice_id,
    ]
