"""A client's account in one month: what was owed before, what happened, what is owed after, by currency.

Everything is derived from the ledger's rows by their dates; currencies stand side by side and are never
added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from provider_federation.money import Period
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import (
    CreditNote,
    NoteState,
    Receivable,
    Refund,
    RefundState,
)
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

_MOVED = (RefundState.PENDING, RefundState.SUCCEEDED)


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `amount` in minor units: above 0 the client owes more, below 0 less."""

    at: datetime
    kind: str
    name: str
    text: str
    currency: str
    amount: int


@dataclass(frozen=True)
class CurrencyStatement:
    """One currency of a statement: `opening + sum(entries) = closing`."""

    currency: str
    opening: int
    entries: tuple[Entry, ...]
    tax: int

    @property
    def closing(self) -> int:
        """What is owed at the end of the month; below 0 it is the client's."""
        return self.opening + sum(entry.amount for entry in self.entries)


@dataclass(frozen=True)
class Statement:
    """A client's month. A currency is there when something was, or is, owed in it."""

    instance: Instance
    month: Period
    currencies: tuple[CurrencyStatement, ...]


def statement_of(instance: Instance, month: Period) -> Statement:
    """From the books as they are now; a month that runs shows what there is so far."""
    entries = sorted(_entries(instance), key=lambda entry: (entry.at, entry.name, entry.kind, entry.amount))
    found = []
    for currency in sorted({entry.currency for entry in entries}):
        mine = [entry for entry in entries if entry.currency == currency]
        opening = sum(entry.amount for entry in mine if entry.at < month.start)
        inside = tuple(entry for entry in mine if month.start <= entry.at < month.end)
        if inside or opening:
            found.append(CurrencyStatement(currency, opening, inside, _tax(instance, month, currency)))
    return Statement(instance, month, tuple(found))


def statement_out(statement: Statement) -> dict[str, Any]:
    """As the API answers it."""
    return {
        "clientOrgId": statement.instance.org_id,
        "period": {
            "label": statement.month.label,
            "start": _when(statement.month.start),
            "end": _when(statement.month.end),
        },
        "currencies": [
            {
                "currency": one.currency,
                "openingCents": one.opening,
                "closingCents": one.closing,
                "taxCents": one.tax,
                "entries": [
                    {
                        "at": _when(entry.at),
                        "kind": entry.kind,
                        "number": entry.name or None,
                        "text": entry.text,
                        "amountCents": entry.amount,
                    }
                    for entry in one.entries
                ],
            }
            for one in statement.currencies
        ],
    }


def _tax(instance: Instance, month: Period, currency: str) -> int:
    """The tax on invoices of the month less that on its credit notes, as Stripe reckoned both."""
    billed = sum(
        row.tax_cents
        for row in _invoices(instance)
        if row.currency == currency
        and row.finalized_at
        and month.start <= row.finalized_at < month.end
        and row.status != UsageStatus.VOID
    )
    notes = CreditNote.objects.filter(
        instance=instance, currency=currency, state=NoteState.ISSUED, issued_at__gte=month.start
    ).filter(issued_at__lt=month.end)
    return billed - sum(note.tax_cents for note in notes)


def _invoices(instance: Instance) -> list[Receivable]:
    usage = UsageInvoice.objects.filter(instance=instance).exclude(finalized_at=None).defer("usage")
    fees = SubscriptionInvoice.objects.filter(instance=instance).exclude(finalized_at=None)
    return [*usage, *fees.select_related("subscription")]


def _entries(instance: Instance) -> Iterator[Entry]:
    notes = CreditNote.objects.filter(instance=instance).exclude(issued_at=None)
    refunds = Refund.objects.filter(instance=instance, state__in=_MOVED)
    refunds = refunds.select_related("usage_invoice", "fee_invoice")
    parts = [_of_invoice(row) for row in _invoices(instance)]
    parts += [_of_note(note) for note in notes.select_related("usage_invoice", "fee_invoice")]
    yield from chain.from_iterable(parts)
    for refund in refunds:
        if refund.refunded_at:
            text = f"Refund of {refund.invoice.number}"
            yield _entry(refund.refunded_at, "refund", refund.invoice, text, refund.amount_cents)


def _of_invoice(row: Receivable) -> Iterator[Entry]:
    assert row.finalized_at is not None
    text = (
        f"Usage in {row.period}"
        if isinstance(row, UsageInvoice)
        else f"Subscription {row.subscription.get_plan_display()}"
    )
    yield _entry(row.finalized_at, "invoice", row, text, row.total_cents)
    if row.status == UsageStatus.VOID:
        left = row.total_cents - row.credited_unpaid_cents
        yield _entry(row.voided_at or row.finalized_at, "void", row, "Voided", -left)
        return
    yield from _paid(row)
    yield from _written_off(row)


def _paid(row: Receivable) -> Iterator[Entry]:
    """Each payment at the time that Stripe gives it; where the payments known do not make up what is paid, one
    entry at the time when the invoice was paid, or seen to be paid in part.
    """
    outside = "Payment outside of Stripe"
    if sum(one["cents"] for one in row.payments) == row.paid_cents:
        for one in row.payments:
            text = "Payment" if one["stripe"] else outside
            yield _entry(datetime.fromisoformat(one["at"]), "payment", row, text, -one["cents"])
        return
    at = row.paid_at or row.seen_at or row.finalized_at
    assert at is not None
    through = row.paid_cents - row.off_stripe_cents
    if through:
        yield _entry(at, "payment", row, "Payment", -through)
    if row.off_stripe_cents:
        yield _entry(at, "payment", row, outside, -row.off_stripe_cents)


def _written_off(row: Receivable) -> Iterator[Entry]:
    if row.uncollectible_at is None:
        return
    amount = row.remaining_cents if row.status == UsageStatus.UNCOLLECTIBLE else row.paid_cents
    yield _entry(row.uncollectible_at, "write_off", row, "Written off", -amount)
    if row.status == UsageStatus.PAID and row.paid_at is not None:
        yield _entry(row.paid_at, "write_off", row, "Write-off taken back", amount)


def _of_note(note: CreditNote) -> Iterator[Entry]:
    assert note.issued_at is not None
    invoice = note.invoice
    text = f"Credit note {note.number}"
    yield _entry(note.issued_at, "credit_note", invoice, text, -note.total_cents)
    if note.outside_cents:
        yield _entry(note.issued_at, "refund", invoice, f"{text}: returned", note.outside_cents)
    if note.state == NoteState.VOID and note.voided_at:
        yield _entry(note.voided_at, "credit_note", invoice, f"{text}: voided", note.total_cents)


def _entry(at: datetime, kind: str, row: Receivable, text: str, amount: int) -> Entry:
    return Entry(at, kind, row.number, text, row.currency, amount)


def _when(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
