"""Reading what clients still owe, how long already, and what may still be credited or given back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, Sum

from provider_federation.kit import clock
from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.receivables.models import (
    GIVEN_BACK,
    CreditNote,
    CreditNoteLine,
    DunningStep,
    LeadDispute,
    NoteState,
    Receivable,
    Refund,
)
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

HOLDING = (NoteState.MAKING, NoteState.ISSUED)
"""In these a credit note takes its amount from what is left."""
FINAL = (UsageStatus.OPEN, UsageStatus.PAID, UsageStatus.UNCOLLECTIBLE)
BUCKETS = (
    (0, "not due"),
    (1, "1 to 30 days"),
    (31, "31 to 60 days"),
    (61, "61 to 90 days"),
    (91, "over 90 days"),
)


def receivable(stripe_invoice_id: str) -> Receivable:
    """The invoice of either kind with this Stripe id. Problem 404 when there is none."""
    if "\x00" in stripe_invoice_id:
        raise not_found("invoice")
    usage = (
        UsageInvoice.objects.filter(stripe_invoice_id=stripe_invoice_id).select_related("instance").first()
    )
    if usage is not None:
        return usage
    fee = SubscriptionInvoice.objects.filter(stripe_invoice_id=stripe_invoice_id)
    found = fee.select_related("instance", "subscription").first()
    if found is None:
        raise not_found("invoice")
    return found


def about(invoice: Receivable) -> dict[str, Receivable]:
    """The filter, and the columns, of a row about this invoice."""
    return {"usage_invoice" if isinstance(invoice, UsageInvoice) else "fee_invoice": invoice}


def locked_invoice(invoice: Receivable) -> Receivable:
    """The same row as it is now, locked: corrections of one invoice take turns."""
    if isinstance(invoice, UsageInvoice):
        return (
            UsageInvoice.objects.select_for_update(of=("self",)).select_related("instance").get(pk=invoice.pk)
        )
    fees = SubscriptionInvoice.objects.select_for_update(of=("self",)).select_related("instance")
    return fees.get(pk=invoice.pk)


def kind_of(invoice: Receivable) -> str:
    """`usage` or `subscription`."""
    return "usage" if isinstance(invoice, UsageInvoice) else "subscription"


def due_of(invoice: Receivable) -> datetime | None:
    """When it was to be paid; what is charged automatically is due when it is final."""
    return invoice.due_at or invoice.finalized_at


def days_overdue(invoice: Receivable, at: datetime | None = None) -> int:
    """Whole days past the due date, at least 1 once it is past; 0 when it is not, or nothing is owed."""
    due = due_of(invoice)
    late = (at or clock.now()) - due if due else None
    if invoice.status != UsageStatus.OPEN or invoice.remaining_cents <= 0 or late is None:
        return 0
    return late.days + 1 if late.total_seconds() > 0 else 0


def bucket_of(days: int) -> str:
    """The name of the age bucket."""
    return [name for low, name in BUCKETS if days >= low][-1]


@dataclass(frozen=True)
class LineLeft:
    """A line of an invoice and what of it was not credited yet, without tax. `usage_line` for a usage
    invoice's, `stripe_line_id` for a subscription's.
    """

    position: int
    description: str
    amount: int
    left: int
    usage_line: Any = None
    stripe_line_id: str = ""


def lines_left(invoice: UsageInvoice) -> list[LineLeft]:
    """The frozen lines, less what credit notes hold of each."""
    held = credited_by_line(invoice)
    return [
        LineLeft(
            line.position, line.description, line.amount_cents, line.amount_cents - held.get(line.pk, 0), line
        )
        for line in invoice.lines.order_by("position")
    ]


def credited_by_line(invoice: UsageInvoice) -> dict[int, int]:
    """What credit notes hold of each usage line, by its key."""
    rows = CreditNoteLine.objects.filter(credit_note__usage_invoice=invoice, credit_note__state__in=HOLDING)
    sums = rows.exclude(usage_line=None).order_by().values("usage_line").annotate(sum=Sum("amount_cents"))
    return {row["usage_line"]: row["sum"] for row in sums}


def being_credited(invoice: Receivable, beside: CreditNote | None = None) -> int:
    """What notes on their way (`beside` this one) hold of the invoice; Stripe's figures tell of the others."""
    rows = CreditNote.objects.filter(**about(invoice), state=NoteState.MAKING)
    rows = rows.exclude(pk=beside.pk) if beside else rows
    return int(rows.aggregate(sum=Sum("subtotal_cents"))["sum"] or 0)


def creditable(invoice: Receivable, beside: CreditNote | None = None) -> int:
    """The most that all credit notes (`beside` this one) together may still take, tax included. Of a paid one,
    what was refunded by itself is back already.
    """
    if invoice.status not in FINAL:
        return 0
    left = invoice.total_cents - invoice.credited_unpaid_cents - invoice.credited_paid_cents
    if invoice.status == UsageStatus.PAID:
        left -= _sum(_given_back(invoice).filter(credit_note=None))
    else:
        left = min(left, invoice.remaining_cents)
    return max(left - being_credited(invoice, beside), 0)


def given_back(invoice: Receivable) -> int:
    """What refunds returned, or are about to return."""
    return _sum(_given_back(invoice))


def refundable(invoice: Receivable, beside: CreditNote | None = None) -> int:
    """The cash that came in through Stripe for this invoice and has not gone back: neither as cash, nor to the
    client's balance or outside by a credit note (`beside` this one, which asks for its own).
    """
    cash = max(invoice.paid_cents - invoice.off_stripe_cents - given_back(invoice), 0)
    return min(cash, creditable(invoice, beside)) if invoice.status == UsageStatus.PAID else cash


def _given_back(invoice: Receivable) -> QuerySet[Refund]:
    return Refund.objects.filter(**about(invoice), state__in=GIVEN_BACK)


def _sum(refunds: QuerySet[Refund]) -> int:
    return int(refunds.aggregate(sum=Sum("amount_cents"))["sum"] or 0)


@dataclass(frozen=True)
class History:
    """Everything that happened to one invoice after it left."""

    credit_notes: list[CreditNote] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    steps: list[DunningStep] = field(default_factory=list)
    disputes: list[LeadDispute] = field(default_factory=list)


def history_of(invoice: Receivable) -> History:
    """In a few queries, the newest first (dunning in its order)."""
    rows = LeadDispute.objects.none()
    if isinstance(invoice, UsageInvoice):
        rows = disputes().filter(charge__line__invoice=invoice)
    return History(
        list(CreditNote.objects.filter(**about(invoice)).prefetch_related("lines")),
        list(Refund.objects.filter(**about(invoice))),
        list(DunningStep.objects.filter(**about(invoice))),
        list(rows),
    )


@dataclass(frozen=True)
class DisputePage:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[LeadDispute]
    next_cursor: str | None


def disputes() -> QuerySet[LeadDispute]:
    """With what a page shows of each."""
    rows = LeadDispute.objects.select_related("charge__instance", "charge__line__invoice", "credit_note")
    return rows.prefetch_related("filings").order_by("-raised_at", "-id")


def list_disputes(
    *, client_org_id: str = "", state: str = "", cursor: str = "", limit: int = 50
) -> DisputePage:
    """One page of disputes. Problem 400 `bad_cursor`."""
    given = {"charge__instance__org_id": client_org_id, "state": state}
    rows = disputes().filter(**{name: value for name, value in given.items() if value})
    if cursor:
        at, key = decode_cursor(cursor, (str, str))
        rows = rows.filter(before("raised_at", str(at), str(key)))
    found = list(rows[: limit + 1])
    items = found[:limit]
    more = len(found) > limit
    return DisputePage(
        items, encode_cursor(items[-1].raised_at.isoformat(), str(items[-1].pk)) if more else None
    )


def dispute(dispute_id: str) -> LeadDispute:
    """Problem 404 when there is none, or the id is not one."""
    from uuid import UUID

    try:
        found = disputes().filter(pk=UUID(dispute_id)).first()
    except ValueError:
        found = None
    if found is None:
        raise not_found("dispute")
    return found


def before(column: str, at: str, key: str) -> Q:
    """What comes behind a row in a list by this time and its id, newest first. Problem 400 `bad_cursor`."""
    from uuid import UUID

    try:
        moment, row = datetime.fromisoformat(at), UUID(key)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    return Q(**{f"{column}__lt": moment}) | Q(**{column: moment, "pk__lt": row})
