"""Invoices and disputes as CSV files that a spreadsheet opens without running anything in them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from provider_federation.instance.disputes.models import Dispute, DisputeState
from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.wire import iso
from provider_federation.kit.csv_cells import csv_text
from provider_federation.money import to_decimal

HEAD = (
    "number", "customer", "email", "status", "period_from", "period_to", "currency", "total", "paid",
    "created_at", "sent_at", "paid_at", "stripe_invoice_id",
)  # fmt: skip
DISPUTES_HEAD = (
    "lead", "state", "claim", "filed_by", "filed_at", "decision", "decided_at", "credit_note", "lead_freed",
    "dispute",
)  # fmt: skip


def invoices_csv(invoices: Iterable[Invoice]) -> str:
    """Amounts in major units as exact decimals, times as ISO 8601 in UTC; `period_to` no longer belongs to the period."""
    return csv_text(chain([HEAD], map(_row, invoices)))


def disputes_csv(disputes: Iterable[Dispute]) -> str:
    """Times as ISO 8601 in UTC; what the provider did not say yet is empty."""
    return csv_text(chain([DISPUTES_HEAD], map(_dispute_row, disputes)))


def _dispute_row(row: Dispute) -> tuple[str, ...]:
    return (
        row.lead.public_id,
        row.state,
        row.claim,
        str(row.filed_by),
        iso(row.filed_at),
        row.decision,
        iso(row.decided_at) if row.decided_at else "",
        row.credit_note_number,
        ("yes" if row.lead_freed else "no") if row.state == DisputeState.ACCEPTED else "",
        row.reference,
    )


def _row(invoice: Invoice) -> tuple[str, ...]:
    currency = invoice.currency
    return (
        invoice.number,
        invoice.customer.name,
        invoice.customer.email,
        invoice.status,
        iso(invoice.period_from),
        iso(invoice.period_to),
        currency.upper(),
        str(to_decimal(invoice.total_cents, currency)),
        str(to_decimal(invoice.amount_paid_cents, currency)),
        iso(invoice.created_at),
        iso(invoice.sent_at) if invoice.sent_at else "",
        iso(invoice.paid_at) if invoice.paid_at else "",
        invoice.stripe_invoice_id or "",
    )
