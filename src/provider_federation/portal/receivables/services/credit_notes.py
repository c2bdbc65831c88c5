"""Credit notes: how a finalised invoice is corrected. Each is claimed in our books first, then made in
Stripe once, whatever crashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import format_amount
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.receivables.models import (
    GIVEN_BACK,
    CreditNote,
    CreditNoteLine,
    NoteState,
    Receivable,
    Settle,
)
from provider_federation.portal.receivables.queries import (
    FINAL,
    LineLeft,
    about,
    creditable,
    lines_left,
    locked_invoice,
    refundable,
)
from provider_federation.portal.receivables.services.jobs import defer_credit_note
from provider_federation.portal.receivables.services.mirror import NOTE_MARK, refresh_credit_note
from provider_federation.portal.receivables.services.refunds import refund_for_note
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions.account import problem_of, provider_account, stripe_problems
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import SubscriptionInvoice
from provider_federation.stripe_account import Patience, StripeCreditNote, StripeFailed, StripeLine
from provider_federation.stripe_account.steps import Step, run_step

REASONS = ("duplicate", "fraudulent", "order_change", "product_unsatisfactory")
_SETTLING = {Settle.BALANCE: "credit_amount", Settle.OUTSIDE: "out_of_band_amount"}


@dataclass(frozen=True)
class CreditLine:
    """`position` names a line of the invoice; `amount_cents` without tax, None for all that is left of it.
    `charge`: the lead that it is about.
    """

    position: int
    amount_cents: int | None = None
    charge: int | None = None


@dataclass(frozen=True)
class CreditRequest:
    """What to credit: these lines, or without any the whole of what is left. `settle` counts for a paid
    invoice only. `frees_leads`: the leads of fully credited lines may be billed again.
    """

    reference: str
    lines: tuple[CreditLine, ...] = ()
    reason: str = "order_change"
    memo: str = ""
    settle: str = Settle.BALANCE
    frees_leads: bool = False

    @property
    def digest(self) -> str:
        """The same for the same request."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Credited:
    """`reused` when this reference had made it before."""

    note: CreditNote
    reused: bool


@dataclass(frozen=True)
class Preview:
    """What a credit note would come to, in minor units, and what the invoice asks for afterwards."""

    currency: str
    subtotal: int
    tax: int
    total: int
    remaining_after: int
    to_balance: int
    refunded: int
    outside: int


def preview_credit_note(invoice: Receivable, wanted: CreditRequest) -> Preview:
    """Ask Stripe what it would come to; nothing is made. Problems as for `issue_credit_note`."""
    chosen = _choose(invoice, wanted)
    _check(invoice, wanted, chosen)
    try:
        _, shown = _preview(invoice, [(line.position, amount) for line, amount in chosen])
    except StripeFailed as failure:
        raise problem_of(failure) from failure
    after = invoice.remaining_cents - (0 if invoice.status == UsageStatus.PAID else shown.total)
    paid = shown.total if invoice.status == UsageStatus.PAID else 0
    parts = {settle: paid if wanted.settle == settle else 0 for settle in Settle.values}
    return Preview(
        invoice.currency,
        shown.subtotal,
        shown.tax,
        shown.total,
        after,
        parts[Settle.BALANCE],
        parts[Settle.REFUND],
        parts[Settle.OUTSIDE],
    )


def issue_credit_note(invoice: Receivable, wanted: CreditRequest, *, actor: str) -> Credited:
    """Make it, once: the same reference answers the same note. The client hears of it from Stripe.

    Problem 409 `not_creditable reference_used`, 422 `credit_refused` (more than is left of the invoice or of
    a line), `refund_refused` (no cash to give back), `stripe_refused`; 503 when it may work later.
    """
    note, reused = claim_credit_note(invoice, wanted, actor=actor)
    return Credited(finish_credit_note(note.pk), reused)


def claim_credit_note(invoice: Receivable, wanted: CreditRequest, *, actor: str) -> tuple[CreditNote, bool]:
    """Our row of it, which holds the amount from now on, and the job that finishes it; and whether it was
    there. Problems as for `issue_credit_note`; runs inside the caller's transaction, if there is one.
    """
    try:
        with transaction.atomic():
            locked = locked_invoice(invoice)
            earlier = CreditNote.objects.filter(instance=locked.instance, reference=wanted.reference).first()
            if earlier is not None:
                return _same(earlier, locked, wanted), True
            note = _claim(locked, wanted, actor)
    except IntegrityError:
        raise Problem(409, "reference_used", "This reference is being used for another correction.") from None
    return note, False


def finish_credit_note(note_id: UUID) -> CreditNote:
    """Bring a claimed note to Stripe; the same one however often this runs. Call outside of transactions.

    A refusal for good frees what it held. Problem 422 `stripe_refused`, 503 when it may work later.
    """
    note = CreditNote.objects.select_related("instance").get(pk=note_id)
    if note.state != NoteState.MAKING:
        return note
    try:
        done = run_step(_step(note), DatabaseJournal(), clock.now, Patience())
        refresh_any_invoice(str(note.invoice.stripe_invoice_id))
        row = refresh_credit_note(done.result_id)
    except StripeFailed as failure:
        _note(note, failure)
        raise problem_of(failure) from failure
    return row


def _same(earlier: CreditNote, invoice: Receivable, wanted: CreditRequest) -> CreditNote:
    if earlier.request_digest != wanted.digest or earlier.invoice != invoice:
        sentence = "This reference was used for another credit note; take a new one."
        raise Problem(409, "reference_used", sentence)
    return earlier


def _claim(invoice: Receivable, wanted: CreditRequest, actor: str) -> CreditNote:
    chosen = _choose(invoice, wanted)
    subtotal = _check(invoice, wanted, chosen)
    note = CreditNote.objects.create(
        **about(invoice),
        id=uuid4(),
        instance=invoice.instance,
        reference=wanted.reference,
        request_digest=wanted.digest,
        reason=wanted.reason,
        memo=wanted.memo,
        settle=wanted.settle,
        currency=invoice.currency,
        subtotal_cents=subtotal,
        frees_leads=wanted.frees_leads,
        asked_by=actor,
        created_at=clock.now(),
    )
    charges = {line.position: line.charge for line in wanted.lines}
    rows = [
        CreditNoteLine(
            credit_note=note,
            position=line.position,
            usage_line=line.usage_line,
            charge_id=charges.get(line.position),
            stripe_line_id=line.stripe_line_id,
            description=line.description,
            amount_cents=amount,
        )
        for line, amount in chosen
    ]
    CreditNoteLine.objects.bulk_create(rows)
    defer_credit_note(note)
    facts = {"invoice": invoice.stripe_invoice_id, "subtotal_cents": subtotal, "currency": invoice.currency}
    record(Kind.CREDIT_NOTE_ASKED, actor, f"credit_note:{note.pk}", frees_leads=wanted.frees_leads, **facts)
    return note


def credit_lines(invoice: Receivable) -> list[LineLeft]:
    """The lines that can be credited, with what is left of each. Asks Stripe for a subscription's."""
    if isinstance(invoice, UsageInvoice):
        return lines_left(invoice)
    held = _held_of_fee(invoice)
    lines = provider_account().list_lines(str(invoice.stripe_invoice_id))
    return [
        LineLeft(
            position,
            (line.description or "Subscription")[:500],
            line.amount,
            line.amount - held.get(line.id, 0),
            stripe_line_id=line.id,
        )
        for position, line in enumerate(lines, 1)
    ]


def _held_of_fee(invoice: SubscriptionInvoice) -> dict[str, int]:
    rows = CreditNoteLine.objects.filter(
        credit_note__fee_invoice=invoice, credit_note__state__in=(NoteState.MAKING, NoteState.ISSUED)
    )
    held: dict[str, int] = {}
    for row in rows:
        held[row.stripe_line_id] = held.get(row.stripe_line_id, 0) + row.amount_cents
    return held


def _choose(invoice: Receivable, wanted: CreditRequest) -> list[tuple[LineLeft, int]]:
    if invoice.status not in FINAL:
        raise Problem(409, "not_creditable", f"This invoice is {invoice.status}; there is nothing to credit.")
    with stripe_problems():
        lines = {line.position: line for line in credit_lines(invoice)}
    if not wanted.lines:
        return [(line, line.left) for line in lines.values() if line.left > 0]
    if len({line.position for line in wanted.lines}) != len(wanted.lines):
        raise Problem(422, "credit_refused", "Name each line once.")
    chosen = []
    for one in wanted.lines:
        line = lines.get(one.position)
        if line is None:
            raise Problem(422, "credit_refused", f"This invoice has no line {one.position}.")
        chosen.append((line, line.left if one.amount_cents is None else one.amount_cents))
    return chosen


def _check(invoice: Receivable, wanted: CreditRequest, chosen: Sequence[tuple[LineLeft, int]]) -> int:
    """The sum without tax, when all of it is still there to be credited."""
    for line, amount in chosen:
        if not 0 < amount <= line.left:
            of_line = format_amount(max(line.left, 0), invoice.currency)
            raise Problem(
                422, "credit_refused", f"Of line {line.position}, {of_line} is left to be credited."
            )
    subtotal, left = sum(amount for _, amount in chosen), creditable(invoice)
    if not chosen or subtotal > left:
        rest = format_amount(left, invoice.currency)
        raise Problem(422, "credit_refused", f"Of this invoice, {rest} is left to be credited.")
    if (
        invoice.status == UsageStatus.PAID
        and wanted.settle == Settle.REFUND
        and subtotal > refundable(invoice)
    ):
        shown = format_amount(refundable(invoice), invoice.currency)
        raise Problem(422, "refund_refused", f"Of what was paid through Stripe, {shown} is left to go back.")
    _check_leads(wanted, chosen)
    return subtotal


def _check_leads(wanted: CreditRequest, chosen: Sequence[tuple[LineLeft, int]]) -> None:
    if not wanted.frees_leads:
        return
    single = {line.position for line in wanted.lines if line.charge is not None}
    for line, amount in chosen:
        if line.position not in single and amount != line.amount:
            sentence = "Leads are freed by crediting their whole line, or by a dispute of a single lead."
            raise Problem(422, "credit_refused", sentence)


def _step(note: CreditNote) -> Step:
    account, invoice = provider_account(), note.invoice
    stripe_id, mark = str(invoice.stripe_invoice_id), {NOTE_MARK: str(note.pk)}

    def find(_since: object) -> str | None:
        found = account.list_credit_notes(invoice_id=stripe_id, metadata=mark)
        return found[0].id if found else None

    def make(key: str) -> str:
        fresh = refresh_any_invoice(stripe_id)  # paid meanwhile, it is settled another way
        amounts = [(line.position, line.amount_cents) for line in note.lines.all()]
        lines, shown = _preview(fresh, amounts, held_by=note)
        made = account.create_credit_note(
            stripe_id,
            lines,
            metadata={**mark, "reference": note.reference},
            idempotency_key=key,
            reason=note.reason,
            memo=note.memo,
            **_settling(note, fresh, shown.total),
        )
        return made.id

    return Step(f"credit:{note.pk}", "credit-note", find, make)


def _preview(
    invoice: Receivable, amounts: Sequence[tuple[int, int]], held_by: CreditNote | None = None
) -> tuple[list[dict[str, Any]], StripeCreditNote]:
    """Stripe's lines for these positions and amounts, and what a note of them comes to.

    For a paid invoice Stripe wants to be told where the total goes before it tells the total: to the balance,
    for it comes to the same wherever it goes. We reckon the tax as Stripe does; should it round otherwise by
    a unit, its refusal of the sum has us try the neighbours.
    """
    account, stripe_id = provider_account(), str(invoice.stripe_invoice_id)
    found = _stripe_lines(invoice)
    lines = [
        {"type": "invoice_line_item", "invoice_line_item": found[position].id, "amount": amount}
        for position, amount in amounts
    ]
    held = {line.position: line.amount - line.left for line in credit_lines(invoice)}
    guess = 0
    for position, amount in amounts:
        before = held[position] - (amount if held_by is not None else 0)
        guess += amount + _tax(found[position], before, amount)
    for total in (guess, guess + 1, guess - 1):
        try:
            where = {"credit_amount": total} if invoice.status == UsageStatus.PAID else {}
            return lines, account.preview_credit_note(stripe_id, lines, **where)
        except StripeFailed as failure:
            if failure.retryable or invoice.status != UsageStatus.PAID or total == guess - 1:
                raise
    raise AssertionError("the last try answers or raises")


def _tax(line: StripeLine, before: int, credit: int) -> int:
    """The tax on top of a part of a line, so that the parts add up to the whole."""

    def upto(amount: int) -> int:
        return (2 * line.tax_on_top * amount + line.amount) // (2 * line.amount)  # half up

    return upto(before + credit) - upto(before)


def _stripe_lines(invoice: Receivable) -> dict[int, StripeLine]:
    """Stripe's lines by our positions: by the marks that placing left, or as they stand."""
    lines = provider_account().list_lines(str(invoice.stripe_invoice_id))
    if not isinstance(invoice, UsageInvoice):
        return dict(enumerate(lines, 1))
    marked = {line.metadata.get("pf_line", ""): line for line in lines}
    try:
        return {line.position: marked[f"{line.kind}:{line.position}"] for line in invoice.lines.all()}
    except KeyError:
        message = "The invoice in Stripe does not have the lines that were ordered."
        raise StripeFailed("lines_differ", message) from None


def _settling(note: CreditNote, invoice: Receivable, total: int) -> dict[str, Any]:
    """Where the total goes. Refunds are made first, of as many payments as it takes, and linked to the note:
    Stripe itself would give back of one payment only.
    """
    if invoice.status != UsageStatus.PAID:
        return {}
    if note.settle != Settle.REFUND:
        return {_SETTLING[Settle(note.settle)]: total}
    parts = refund_for_note(note, total)
    return {
        "refunds": [
            {"type": "refund", "refund": part.stripe_refund_id, "amount_refunded": part.amount_cents}
            for part in parts
        ]
    }


def _note(note: CreditNote, failure: StripeFailed) -> None:
    """Why it is not there yet; a refusal for good gives back what it held, unless money went back for it:
    then it stays on its way, to be looked at and tried again.
    """
    changes: dict[str, Any] = {"failure": f"{failure.code}: {failure.message}"[:500]}
    refunded = note.refunds.filter(state__in=GIVEN_BACK).exists()
    if not failure.retryable and not failure.outcome_unknown and not refunded:
        changes["state"] = NoteState.REFUSED
    with transaction.atomic():
        made = CreditNote.objects.filter(pk=note.pk, state=NoteState.MAKING).update(**changes)
        if made and "state" in changes:
            facts = {"was": NoteState.MAKING, "now": NoteState.REFUSED, "failure": changes["failure"]}
            record(Kind.CREDIT_NOTE_CHANGED, "system", f"credit_note:{note.pk}", **facts)
