"""What Stripe says about credit notes and refunds reaches our rows, always from a fresh look.

Also those that somebody made in Stripe by hand. Whoever looked before another wrote looks again.
"""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.receivables.models import (
    CreditNote,
    CreditNoteLine,
    LeadDispute,
    NoteState,
    Receivable,
    Refund,
    RefundState,
    Settle,
)
from provider_federation.portal.receivables.queries import about, receivable
from provider_federation.portal.receivables.services.telling import update_told
from provider_federation.portal.revenue.models import LeadCharge, StripeEvent, UsageInvoice, UsageStatus
from provider_federation.portal.revenue.services import raise_alert, refresh_any_invoice
from provider_federation.portal.revenue.services.sweep import Found
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.applying import Foreign, Overtaken, look_until_current
from provider_federation.stripe_account import StripeCreditNote, StripeRefund

NOTE_MARK = "pf_credit_note"
REFUND_MARK = "pf_refund"
_STATES = {"issued": NoteState.ISSUED, "void": NoteState.VOID}
_BY_STRIPE = "stripe"
_MOST = 1_000_000
"""Objects in one list at most: an account's limit for one sweep would be the end of all sweeps."""


def refresh_credit_note(stripe_id: str) -> CreditNote:
    """Fetch the note and write it, its refunds before it: a note that is issued here is whole. Raises
    `StripeFailed`, or `Foreign` when its invoice is none of ours.
    """

    def attempt() -> CreditNote:
        seen = CreditNote.objects.filter(stripe_credit_note_id=stripe_id).first()
        fresh = provider_account().retrieve_credit_note(stripe_id)
        seen = seen or _asked_note(fresh)
        for refund_id, _amount in fresh.refunds:
            if not Refund.objects.filter(stripe_refund_id=refund_id).exists():
                refresh_refund(refund_id)
        return _write_note(fresh, seen)

    return look_until_current(attempt)


def refresh_refund(stripe_id: str) -> Refund:
    """Fetch the refund and write it. Raises `StripeFailed`, or `Foreign` when it is of no invoice of ours."""

    def attempt() -> Refund:
        seen = Refund.objects.filter(stripe_refund_id=stripe_id).first()
        fresh = provider_account().retrieve_refund(stripe_id)
        seen = seen or _asked_refund(fresh)
        invoice = seen.invoice if seen else _paid_invoice(fresh)
        return _write_refund(fresh, seen, invoice)

    return look_until_current(attempt)


def apply_credit_note(event: StripeEvent) -> str:
    """The handler of `credit_note.` events."""
    return f"credit note {refresh_credit_note(_id_inside(event)).state}"


def apply_refund(event: StripeEvent) -> str:
    """The handler of `refund.` events."""
    return f"refund {refresh_refund(event.object_id).state}"


def apply_charge_refunds(event: StripeEvent) -> str:
    """The handler of `charge.refunded` and `charge.refund.updated`: all refunds of the payment."""
    inner = json.loads(event.payload)["data"]["object"]
    intent = inner.get("payment_intent")
    refunds = provider_account().list_refunds(intent_id=intent) if isinstance(intent, str) else []
    for refund in refunds:
        refresh_refund(refund.id)
    return f"{len(refunds)} refunds"


def sweep_credit_notes(since: datetime) -> Found:
    """Those made since then that our books do not have as they are."""
    listed = provider_account().list_credit_notes(since=since, most=_MOST)
    known = dict(CreditNote.objects.values_list("stripe_credit_note_id", "state"))
    changed = [one for one in listed if known.get(one.id) != _STATES.get(one.status)]
    return len(listed), sum(_swept(one.id, one.invoice_id) for one in changed)


def sweep_refunds(since: datetime) -> Found:
    """Those made since then that our books do not have as they are."""
    listed = provider_account().list_refunds(since=since, most=_MOST)
    known = dict(Refund.objects.values_list("stripe_refund_id", "state"))
    changed = [one for one in listed if known.get(one.id) != _refund_state(one)]
    found = 0
    for one in changed:
        try:
            refresh_refund(one.id)
            found += 1
        except Foreign:
            continue  # a payment that no invoice of ours asked for: the account may sell other things too
    return len(listed), found


def _swept(stripe_id: str, invoice_id: str) -> int:
    try:
        refresh_credit_note(stripe_id)
        refresh_any_invoice(invoice_id)
    except Foreign:
        return 0  # the sweep of invoices has told of the invoice already
    return 1


def _id_inside(event: StripeEvent) -> str:
    # The event's own object is the invoice, whose figures change with the note.
    found = json.loads(event.payload)["data"]["object"].get("id")
    if not isinstance(found, str):
        raise Foreign("unknown_credit_note", f"The event {event.event_id} names no credit note.")
    return found


def _ours(stripe_invoice_id: str) -> Receivable:
    try:
        return receivable(stripe_invoice_id)
    except Problem:
        refresh_any_invoice(stripe_invoice_id)  # told of before its invoice: then that one is read first
        return receivable(stripe_invoice_id)


def _asked_note(fresh: StripeCreditNote) -> CreditNote | None:
    row = CreditNote.objects.filter(pk__in=_uuid(fresh.metadata.get(NOTE_MARK))).first()
    if row is None or row.invoice.stripe_invoice_id != fresh.invoice_id:
        return None
    if row.stripe_credit_note_id not in {None, fresh.id}:
        raise Foreign(
            "second_credit_note", f"{fresh.id} repeats the credit note {row.stripe_credit_note_id}."
        )
    return row


def _write_note(fresh: StripeCreditNote, seen: CreditNote | None) -> CreditNote:
    invoice = seen.invoice if seen else _ours(fresh.invoice_id)
    lines = _stripe_lines(fresh, invoice) if seen is None else []
    with transaction.atomic():
        row = _stranger(fresh, invoice)
        if seen is not None:
            row = CreditNote.objects.select_for_update().get(pk=seen.pk)
            _current(row, seen)
        before = row.state if seen else ""
        _copy_note(row, fresh)
        row.save(force_insert=seen is None)
        for line in lines:
            line.credit_note = row
        CreditNoteLine.objects.bulk_create(lines)
        refunds = [refund_id for refund_id, _amount in fresh.refunds]
        Refund.objects.filter(stripe_refund_id__in=refunds).update(credit_note=row)
        if row.state != before:
            _follow_note(row, before)
    return row


def _stranger(fresh: StripeCreditNote, invoice: Receivable) -> CreditNote:
    """A note that somebody made in Stripe by hand."""
    return CreditNote(
        **about(invoice),
        instance=invoice.instance,
        currency=invoice.currency,
        settle=_settled(fresh),
        asked_by=_BY_STRIPE,
        created_at=fresh.created,
    )


def _settled(fresh: StripeCreditNote) -> Settle:
    if fresh.refunded:
        return Settle.REFUND
    return Settle.OUTSIDE if fresh.out_of_band else Settle.BALANCE


def _copy_note(row: CreditNote, fresh: StripeCreditNote) -> None:
    row.stripe_credit_note_id, row.number, row.pdf = fresh.id, fresh.number, fresh.pdf or ""
    row.state = _STATES.get(fresh.status, NoteState.ISSUED)
    row.reason, row.memo = fresh.reason or "", (fresh.memo or "")[:500]
    row.subtotal_cents, row.tax_cents, row.total_cents = fresh.subtotal, fresh.tax, fresh.total
    row.before_payment_cents, row.to_balance_cents = fresh.before_payment, fresh.to_balance
    row.refunded_cents, row.outside_cents = fresh.refunded, fresh.out_of_band
    row.issued_at, row.voided_at = fresh.created, fresh.voided_at
    row.failure = ""
    row.version += 1


def _follow_note(row: CreditNote, before: str) -> None:
    """Issued, it frees the leads that it was to free; void, it charges them again. Every change is an audit event."""
    if row.state == NoteState.ISSUED and row.frees_leads:
        _credited_leads(row).filter(released_at=None).update(released_at=clock.now())
    if row.state == NoteState.VOID and row.frees_leads:
        _charge_again(row)
    facts = {"was": before, "now": row.state, "total_cents": row.total_cents, "currency": row.currency}
    record(Kind.CREDIT_NOTE_CHANGED, _BY_STRIPE, f"credit_note:{row.pk}", number=row.number, **facts)
    update_told(LeadDispute.objects.filter(credit_note=row).select_related("credit_note", "charge"))


def _charge_again(row: CreditNote) -> None:
    """The leads of a voided note are owed as before, unless their invoice is void as well; one that another invoice
    charges by now is for a person.
    """
    freed = _credited_leads(row).exclude(released_at=None).exclude(line__invoice__status=UsageStatus.VOID)
    names = list(freed.values_list("lead_id", flat=True))
    charged = LeadCharge.objects.filter(instance=row.instance, lead_id__in=names, released_at=None)
    twice = sorted(charged.values_list("lead_id", flat=True))
    freed.exclude(lead_id__in=twice).update(released_at=None)
    if twice:
        message = f"{row.number} was voided, and {len(twice)} of its leads are on another invoice as well."
        raise_alert("lead_charged_twice", f"credit_note:{row.pk}", message, leads=twice[:100])


def _credited_leads(row: CreditNote):  # type: ignore[no-untyped-def]  # noqa: ANN202  a query set of LeadCharge
    single = row.lines.exclude(charge=None).values("charge")
    whole = row.lines.filter(charge=None).exclude(usage_line=None).values("usage_line")
    return LeadCharge.objects.filter(Q(pk__in=single) | Q(line__in=whole))


def _stripe_lines(fresh: StripeCreditNote, invoice: Receivable) -> list[CreditNoteLine]:
    """The lines of a note made by hand, bound to our lines by the marks that placing left."""
    marks = {}
    ours = {}
    if isinstance(invoice, UsageInvoice):
        stripe_lines = provider_account().list_lines(fresh.invoice_id)
        marks = {line.id: line.metadata.get("pf_line", "") for line in stripe_lines}
        ours = {f"{line.kind}:{line.position}": line for line in invoice.lines.all()}
    return [
        CreditNoteLine(
            position=position,
            usage_line=ours.get(marks.get(line.invoice_line_id or "", "")),
            stripe_line_id=line.invoice_line_id or "",
            description=(line.description or "Credit")[:500],
            amount_cents=line.amount,
        )
        for position, line in enumerate(fresh.lines, 1)
    ]


def _asked_refund(fresh: StripeRefund) -> Refund | None:
    row = Refund.objects.filter(pk__in=_uuid(fresh.metadata.get(REFUND_MARK))).first()
    if row is None:
        return None
    if row.stripe_refund_id not in {None, fresh.id} or row.payment_intent != fresh.intent_id:
        raise Foreign("second_refund", f"{fresh.id} repeats the refund {row.stripe_refund_id or row.pk}.")
    return row


def _paid_invoice(fresh: StripeRefund) -> Receivable:
    payments = provider_account().list_payments(intent_id=fresh.intent_id) if fresh.intent_id else []
    for payment in payments:
        return _ours(payment.invoice_id)
    raise Foreign("unknown_refund", f"Stripe's refund {fresh.id} is of no invoice.")


def _write_refund(fresh: StripeRefund, seen: Refund | None, invoice: Receivable) -> Refund:
    with transaction.atomic():
        made = {"asked_by": _BY_STRIPE, "created_at": fresh.created}
        row = Refund(**about(invoice), instance=invoice.instance, **made)
        if seen is not None:
            row = Refund.objects.select_for_update().get(pk=seen.pk)
            _current(row, seen)
        before = row.state if seen else ""
        row.stripe_refund_id, row.payment_intent = fresh.id, fresh.intent_id or ""
        row.amount_cents, row.currency = fresh.amount, fresh.currency.lower()
        row.state, row.reason = _refund_state(fresh), fresh.reason or ""
        row.failure, row.refunded_at = fresh.failure or "", fresh.created
        row.version += 1
        row.save(force_insert=seen is None)
        if row.state != before:
            facts = {
                "was": before,
                "now": row.state,
                "amount_cents": row.amount_cents,
                "currency": row.currency,
            }
            record(Kind.REFUND_CHANGED, _BY_STRIPE, f"refund:{row.pk}", stripe=fresh.id, **facts)
    return row


def _refund_state(fresh: StripeRefund) -> RefundState:
    return RefundState(fresh.status) if fresh.status in RefundState.values else RefundState.PENDING


def _current(row: CreditNote | Refund, seen: CreditNote | Refund) -> None:
    """`Overtaken` when the row is not what was seen before Stripe was asked."""
    if row.version != seen.version:
        raise Overtaken


def _uuid(text: str | None) -> list[UUID]:
    """The id that a mark names, or none."""
    try:
        return [UUID(text or "")]
    except ValueError:
        return []
