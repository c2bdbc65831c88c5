"""What the receivables' routes take and answer. Amounts are integers in the currency's minor unit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field
from pydantic import AfterValidator, ConfigDict
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.portal.receivables.filed import Coverage
from provider_federation.portal.receivables.ledger import Owed
from provider_federation.portal.receivables.models import (
    ClientDispute,
    CreditNote,
    DunningStep,
    LeadDispute,
    Receivable,
    Refund,
)
from provider_federation.portal.receivables.outstanding import Ages, Unknown
from provider_federation.portal.receivables.queries import (
    creditable,
    days_overdue,
    due_of,
    history_of,
    kind_of,
    refundable,
)
from provider_federation.portal.receivables.services.credit_notes import CreditLine, CreditRequest, Preview
from provider_federation.portal.receivables.services.refunds import Refunded, RefundRequest
from provider_federation.portal.revenue.models import UsageInvoice


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("printable ASCII characters only")
    return text


Reference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="your own name for this request; a repeat is answered the same",
    ),
    AfterValidator(_printable),
]
Cents = Annotated[int, Field(strict=True, ge=1, le=99_999_999)]
Settled = Literal["balance", "refund", "outside"]
Reason = Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"]


class _In(Strict):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=False, str_strip_whitespace=True
    )


class CreditLineIn(_In):
    """A line by its position; without an amount all that is left of it."""

    position: int = Field(strict=True, ge=1, le=100_000)
    amount_cents: Cents | None = None


class CreditNoteIn(_In):
    """Without lines all that is left of the invoice. `settle` counts for a paid invoice."""

    reference: Reference
    lines: list[CreditLineIn] = Field(default_factory=list, max_length=250)
    reason: Reason = "order_change"
    memo: str = Field(default="", max_length=500)
    settle: Settled = "balance"
    frees_leads: bool = Field(default=False, strict=True)

    def request(self) -> CreditRequest:
        """As the service takes it."""
        lines = tuple(CreditLine(line.position, line.amount_cents) for line in self.lines)
        return CreditRequest(
            self.reference, lines, self.reason, self.memo, self.settle, frees_leads=self.frees_leads
        )


class RefundIn(_In):
    """Without an amount all that is left of what was paid through Stripe."""

    reference: Reference
    amount_cents: Cents | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] = "requested_by_customer"

    def request(self) -> RefundRequest:
        """As the service takes it."""
        return RefundRequest(self.reference, self.amount_cents, self.reason)


class DisputeIn(_In):
    """The client's words about one lead, by its id or its public id."""

    client_org_id: str = Field(min_length=1, max_length=128)
    lead_id: str = Field(min_length=1, max_length=128)
    claim: str = Field(min_length=1, max_length=1000)


class AcceptIn(_In):
    """`freesLead`: the lead may be billed again."""

    decision: str = Field(min_length=1, max_length=1000)
    frees_lead: bool = Field(default=False, strict=True)
    settle: Settled = "balance"


class RejectIn(_In):
    decision: str = Field(min_length=1, max_length=1000)


def book_out(currency: str, one: Owed) -> dict[str, Any]:
    """What a book's invoices come to in one currency. Refunds are in no invoice: no `collected` here."""
    return {
        "currency": currency,
        "invoices": one.invoices,
        "grossCents": one.gross,
        "creditedUnpaidCents": one.credited_unpaid,
        "creditedPaidCents": one.credited_paid,
        "billedCents": one.billed,
        "paidCents": one.paid,
        "offStripeCents": one.off_stripe,
        "overBalanceCents": one.over_balance,
        "outstandingCents": one.outstanding,
        "writtenOffCents": one.written_off,
    }


def ledger_out(currency: str, one: Owed) -> dict[str, Any]:
    """The ledger in one currency; each figure means what it means in the reports."""
    return {
        **book_out(currency, one),
        "taxCents": one.tax,
        "refundedCents": one.refunded,
        "collectedCents": one.collected,
        "overdueCents": one.overdue,
    }


def receivable_out(invoice: Receivable) -> dict[str, Any]:
    """One invoice of either kind."""
    return {
        "stripeInvoiceId": invoice.stripe_invoice_id,
        "kind": kind_of(invoice),
        "usageInvoiceId": str(invoice.pk) if isinstance(invoice, UsageInvoice) else None,
        "clientOrgId": invoice.instance.org_id,
        "period": invoice.period if isinstance(invoice, UsageInvoice) else None,
        "number": invoice.number or None,
        "status": invoice.status,
        "currency": invoice.currency,
        "totalCents": invoice.total_cents,
        "taxCents": invoice.tax_cents,
        "amountPaidCents": invoice.paid_cents,
        "paidOffStripeCents": invoice.off_stripe_cents,
        "amountRemainingCents": invoice.remaining_cents,
        "creditedUnpaidCents": invoice.credited_unpaid_cents,
        "creditedPaidCents": invoice.credited_paid_cents,
        "finalizedAt": _when(invoice.finalized_at),
        "dueAt": _when(due_of(invoice)),
        "paidAt": _when(invoice.paid_at),
        "daysOverdue": days_overdue(invoice),
    }


def whole_out(invoice: Receivable) -> dict[str, Any]:
    """With all that happened to it, and what may still be done."""
    history = history_of(invoice)
    return {
        **receivable_out(invoice),
        "creditableCents": creditable(invoice),
        "refundableCents": refundable(invoice),
        "creditNotes": [credit_note_out(note) for note in history.credit_notes],
        "refunds": [refund_out(refund) for refund in history.refunds],
        "dunning": [step_out(step) for step in history.steps],
        "disputes": [dispute_out(one) for one in history.disputes],
    }


def ages_out(sums: list[Ages]) -> list[dict[str, Any]]:
    """What is outstanding by age, one entry a currency."""
    return [
        {
            "currency": one.currency,
            "invoices": one.invoices,
            "outstandingCents": one.outstanding,
            "overdueCents": one.overdue,
            "buckets": [{"age": name, "amountCents": amount} for name, amount in one.buckets],
        }
        for one in sums
    ]


def unknown_out(one: Unknown) -> dict[str, Any]:
    """How much of the truth the sums hold."""
    return {
        "complete": one.complete,
        "eventsWaiting": one.events_waiting,
        "eventsParked": one.events_parked,
        "held": one.held,
        "onTheWay": one.on_the_way,
    }


def credit_note_out(note: CreditNote) -> dict[str, Any]:
    """One credit note with its lines."""
    return {
        "id": str(note.pk),
        "reference": note.reference or None,
        "state": note.state,
        "number": note.number or None,
        "stripeCreditNoteId": note.stripe_credit_note_id,
        "stripeInvoiceId": note.invoice.stripe_invoice_id,
        "reason": note.reason or None,
        "memo": note.memo or None,
        "settle": note.settle,
        "currency": note.currency,
        "subtotalCents": note.subtotal_cents,
        "taxCents": note.tax_cents,
        "totalCents": note.total_cents,
        "beforePaymentCents": note.before_payment_cents,
        "toBalanceCents": note.to_balance_cents,
        "refundedCents": note.refunded_cents,
        "outsideCents": note.outside_cents,
        "freesLeads": note.frees_leads,
        "failure": note.failure or None,
        "createdAt": _when(note.created_at),
        "issuedAt": _when(note.issued_at),
        "lines": [
            {"position": line.position, "description": line.description, "amountCents": line.amount_cents}
            for line in note.lines.all()
        ],
    }


def preview_out(preview: Preview) -> dict[str, Any]:
    """What a credit note would come to."""
    return {
        "currency": preview.currency,
        "subtotalCents": preview.subtotal,
        "taxCents": preview.tax,
        "totalCents": preview.total,
        "remainingAfterCents": preview.remaining_after,
        "toBalanceCents": preview.to_balance,
        "refundedCents": preview.refunded,
        "outsideCents": preview.outside,
    }


def refund_out(refund: Refund) -> dict[str, Any]:
    """One refund."""
    return {
        "id": str(refund.pk),
        "reference": refund.reference or None,
        "state": refund.state,
        "stripeRefundId": refund.stripe_refund_id,
        "stripeInvoiceId": refund.invoice.stripe_invoice_id,
        "creditNoteId": str(refund.credit_note_id) if refund.credit_note_id else None,
        "reason": refund.reason or None,
        "currency": refund.currency,
        "amountCents": refund.amount_cents,
        "failure": refund.failure or None,
        "createdAt": _when(refund.created_at),
        "refundedAt": _when(refund.refunded_at),
    }


def whole_refund_out(made: Refunded) -> dict[str, Any]:
    """A refund with all its parts: the sum, and the state of the part that is the farthest from having arrived.
    What is of one payment (`id`, `stripeRefundId`) is the first part's.
    """
    parts = [refund_out(part) for part in made.parts]
    return {**parts[0], "amountCents": made.amount_cents, "state": made.state, "parts": parts}


def step_out(step: DunningStep) -> dict[str, Any]:
    """One step of the dunning of an invoice."""
    return {
        "step": step.step,
        "action": step.action,
        "state": "unsure" if step.unsure else step.state,
        "recipient": step.recipient or None,
        "amountRemainingCents": step.remaining_cents,
        "currency": step.currency,
        "dueAt": _when(step.due_at),
        "doneAt": _when(step.done_at),
        "failure": step.failure or None,
    }


def dispute_out(row: LeadDispute) -> dict[str, Any]:
    """One dispute, with the evidence on which the lead was billed."""
    charge = row.charge
    return {
        "id": str(row.pk),
        "state": row.state,
        "clientOrgId": charge.instance.org_id,
        "leadId": charge.lead_id,
        "leadPublicId": charge.lead_public_id or None,
        "convertedAt": _when(charge.converted_at),
        "evidence": charge.evidence or None,
        "amountCents": charge.amount_cents,
        "currency": charge.line.invoice.currency,
        "stripeInvoiceId": charge.line.invoice.stripe_invoice_id,
        "leadFreed": charge.released_at is not None,
        "claim": row.claim,
        "raisedBy": row.raised_by,
        "raisedAt": _when(row.raised_at),
        "decision": row.decision or None,
        "decidedBy": row.decided_by or None,
        "decidedAt": _when(row.decided_at),
        "creditNoteId": str(row.credit_note_id) if row.credit_note_id else None,
        "filings": [filing_out(one, charge.instance.org_id) for one in row.filings.all()],
    }


def filing_out(row: ClientDispute, client_org_id: str) -> dict[str, Any]:
    """A dispute as the client filed it, and what it was told of it."""
    return {
        "id": str(row.pk),
        "clientOrgId": client_org_id,
        "remoteId": row.remote_id,
        "leadId": row.lead_id,
        "leadPublicId": row.lead_public_id or None,
        "claim": row.claim,
        "evidence": row.evidence or None,
        "filedAt": _when(row.filed_at),
        "readAt": _when(row.read_at),
        "disputeId": str(row.dispute_id) if row.dispute_id else None,
        "state": row.state,
        "decision": row.decision or None,
        "creditNoteNumber": row.credit_note_number or None,
        "leadFreed": row.lead_freed,
        "version": row.version,
        "acknowledged": row.acknowledged,
        "acknowledgedAt": _when(row.acknowledged_at),
        "lost": row.lost_at is not None,
        "failures": row.failures,
        "lastCode": row.last_code or None,
        "lastSentence": row.last_sentence or None,
    }


def heard_out(heard: Coverage) -> dict[str, Any]:
    """How much of what clients dispute is here, and what they were not told yet."""
    return {
        "complete": heard.complete,
        "of": heard.of,
        "read": heard.read,
        "notOffered": heard.not_offered,
        "failingCount": heard.failing_count,
        "failing": [
            {"clientOrgId": one.instance.org_id, "code": one.last_code, "sentence": one.last_sentence}
            for one in heard.failing
        ],
        "untold": heard.untold,
        "untoldFailing": heard.untold_failing,
    }


def _when(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
