"""Refunds: money that goes back to where it came from. Never more than came in, and each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import Sum

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import format_amount
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.receivables.models import (
    GIVEN_BACK,
    CreditNote,
    Receivable,
    Refund,
    RefundState,
)
from provider_federation.portal.receivables.queries import about, locked_invoice, refundable
from provider_federation.portal.receivables.services.jobs import defer_refund
from provider_federation.portal.receivables.services.mirror import REFUND_MARK, refresh_refund
from provider_federation.portal.subscriptions.account import problem_of, provider_account, stripe_problems
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.stripe_account import Patience, StripeFailed, StripePayment
from provider_federation.stripe_account.steps import Step, run_step

REASONS = ("duplicate", "fraudulent", "requested_by_customer")


@dataclass(frozen=True)
class RefundRequest:
    """`amount_cents` None gives back all that is left. `reference` is the asker's own name for it."""

    reference: str
    amount_cents: int | None = None
    reason: str = "requested_by_customer"

    @property
    def digest(self) -> str:
        """The same for the same request."""
        values = [self.reference, self.amount_cents, self.reason]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@dataclass(frozen=True)
class Refunded:
    """One row for each payment that something went back of. `reused` when this reference had made them before."""

    parts: tuple[Refund, ...]
    reused: bool

    @property
    def refund(self) -> Refund:
        """The first part; most refunds have no other."""
        return self.parts[0]

    @property
    def amount_cents(self) -> int:
        return sum(part.amount_cents for part in self.parts)

    @property
    def state(self) -> str:
        """Of the part that is the farthest from having arrived."""
        return min((part.state for part in self.parts), key=_FARTHEST.index)


_FARTHEST = (
    RefundState.REFUSED,
    RefundState.FAILED,
    RefundState.CANCELED,
    RefundState.MAKING,
    RefundState.PENDING,
    RefundState.SUCCEEDED,
)


def refund_payment(invoice: Receivable, wanted: RefundRequest, *, actor: str) -> Refunded:
    """Give cash back, once: the same reference answers the same refund. What is owed does not change; for
    that there are credit notes. The newest payments give first, as many as it takes.

    Problem 409 `reference_used`, 422 `refund_refused` (more than came in and is still here, or no payment
    through Stripe), `stripe_refused`; 503 when it may work later.
    """
    earlier = _earlier(invoice, wanted)
    if not earlier:
        with stripe_problems():
            payments = provider_account().list_payments(invoice_id=str(invoice.stripe_invoice_id))
        rows, reused = _claimed(invoice, wanted, payments, actor)
    else:
        rows, reused = _same(earlier, invoice, wanted), True
    return Refunded(tuple(finish_refund(row.pk) for row in rows), reused)


def finish_refund(refund_id: UUID) -> Refund:
    """Bring a claimed refund to Stripe; the same one however often this runs. Call outside of transactions.

    A refusal for good frees what it held. Problem 422 `stripe_refused`, 503 when it may work later.
    """
    row = Refund.objects.get(pk=refund_id)
    try:
        return _made(row) if row.state == RefundState.MAKING else row
    except StripeFailed as failure:
        raise problem_of(failure) from failure


def refund_for_note(note: CreditNote, total: int) -> list[Refund]:
    """What a credit note gives back, `total` in all: a row and a journalled step for each payment it takes,
    the same ones however often this runs. Raises `StripeFailed`; once something went back it is retryable,
    and what was refused is tried again: a refund without its note would be a gift.
    """
    rows = list(note.refunds.order_by("part")) or _claimed_for(note, total)
    try:
        return [_made_again(row) for row in rows]
    except StripeFailed as failure:
        gone = note.refunds.filter(state__in=GIVEN_BACK)
        if failure.retryable or failure.outcome_unknown or not gone.exists():
            raise
        raise StripeFailed(failure.code, failure.message, retryable=True) from failure


def _made_again(row: Refund) -> Refund:
    if row.state in (RefundState.PENDING, RefundState.SUCCEEDED):
        return row
    if row.state in (RefundState.FAILED, RefundState.CANCELED):
        raise StripeFailed("refund_failed", f"The refund {row} did not arrive: {row.failure or row.state}.")
    Refund.objects.filter(pk=row.pk, state=RefundState.REFUSED).update(state=RefundState.MAKING)
    return _made(row)


def _made(row: Refund) -> Refund:
    try:
        done = run_step(_step(row), DatabaseJournal(), clock.now, Patience())
        return refresh_refund(done.result_id)
    except StripeFailed as failure:
        _note(row, failure)
        raise


def _claimed_for(note: CreditNote, total: int) -> list[Refund]:
    """The rows of a note's refunds, all or none. What was given back by hand and nobody told us of is read
    first, of the payments that are to give.
    """
    payments = provider_account().list_payments(invoice_id=str(note.invoice.stripe_invoice_id))
    try:
        while _news_of(intent for intent, _ in _split(total, payments)):
            pass  # what was chosen had less left than we knew: others are, and each look finds something
        wanted = RefundRequest(reference="", amount_cents=total, reason="")
        with transaction.atomic():
            locked = locked_invoice(note.invoice)
            rows = list(note.refunds.order_by("part"))
            return rows or _claim(locked, wanted, payments, note.asked_by, note)
    except Problem as problem:
        raise StripeFailed(problem.code, problem.message) from problem


def _news_of(intents: Iterable[str]) -> int:
    """How many refunds of these payments are new to our books; they are written."""
    found = [one.id for intent in intents for one in provider_account().list_refunds(intent_id=intent)]
    known = set(Refund.objects.filter(stripe_refund_id__in=found).values_list("stripe_refund_id", flat=True))
    for refund_id in set(found) - known:
        refresh_refund(refund_id)
    return len(set(found) - known)


def _earlier(invoice: Receivable, wanted: RefundRequest) -> list[Refund]:
    rows = Refund.objects.filter(instance=invoice.instance, reference=wanted.reference)
    return list(rows.order_by("part"))


def _same(earlier: list[Refund], invoice: Receivable, wanted: RefundRequest) -> list[Refund]:
    if earlier[0].request_digest != wanted.digest or earlier[0].invoice != invoice:
        raise Problem(409, "reference_used", "This reference was used for another refund; take a new one.")
    return earlier


def _claimed(
    invoice: Receivable, wanted: RefundRequest, payments: list[StripePayment], actor: str
) -> tuple[list[Refund], bool]:
    try:
        with transaction.atomic():
            locked = locked_invoice(invoice)
            earlier = _earlier(locked, wanted)
            if earlier:
                return _same(earlier, locked, wanted), True
            return _claim(locked, wanted, payments, actor), False
    except IntegrityError:
        raise Problem(409, "reference_used", "This reference is being used for another refund.") from None


def _claim(
    invoice: Receivable,
    wanted: RefundRequest,
    payments: list[StripePayment],
    actor: str,
    note: CreditNote | None = None,
) -> list[Refund]:
    """All parts, or none: together they hold the amount before Stripe hears of the first."""
    left = refundable(invoice, note)
    amount = left if wanted.amount_cents is None else wanted.amount_cents
    if not 0 < amount <= left:
        shown = format_amount(left, invoice.currency)
        raise Problem(422, "refund_refused", f"Of what was paid through Stripe, {shown} is left to go back.")
    return [
        _claimed_part(
            Refund(
                **about(invoice),
                id=uuid4(),
                instance=invoice.instance,
                reference=wanted.reference,
                request_digest=wanted.digest,
                part=number,
                reason=wanted.reason,
                currency=invoice.currency,
                amount_cents=cents,
                payment_intent=intent,
                credit_note=note,
                asked_by=actor,
                created_at=clock.now(),
            )
        )
        for number, (intent, cents) in enumerate(_split(amount, payments))
    ]


def _claimed_part(row: Refund) -> Refund:
    row.save(force_insert=True)
    defer_refund(row)
    facts = {
        "invoice": row.invoice.stripe_invoice_id,
        "amount_cents": row.amount_cents,
        "currency": row.currency,
    }
    record(Kind.REFUND_ASKED, row.asked_by, f"refund:{row.pk}", reason=row.reason, part=row.part, **facts)
    return row


def _split(amount: int, payments: list[StripePayment]) -> list[tuple[str, int]]:
    """Payment intents and what goes back of each, the newest payment first; one that can give it all goes alone."""
    left = [(intent, cents) for intent, cents in _still_there(payments) if cents > 0]
    alone = next((intent for intent, cents in left if cents >= amount), None)
    if alone is not None:
        return [(alone, amount)]
    split = []
    for intent, cents in left:
        given = min(cents, amount)
        split.append((intent, given))
        amount -= given
        if not amount:
            return split
    raise Problem(
        422, "refund_refused", "The payments of this invoice do not have that much left to go back."
    )


def _still_there(payments: list[StripePayment]) -> Iterator[tuple[str, int]]:
    """What of each payment came through Stripe and did not go back, as Stripe lists them: newest first."""
    for payment in payments:
        if payment.intent_id is not None and payment.status == "paid":
            back = Refund.objects.filter(payment_intent=payment.intent_id, state__in=GIVEN_BACK)
            gone = int(back.aggregate(sum=Sum("amount_cents"))["sum"] or 0)
            yield payment.intent_id, payment.amount_paid - gone


def _step(row: Refund) -> Step:
    account, mark = provider_account(), {REFUND_MARK: str(row.pk)}

    def find(_since: object) -> str | None:
        found = account.list_refunds(intent_id=row.payment_intent, metadata=mark)
        return found[0].id if found else None

    def make(key: str) -> str:
        made = account.create_refund(
            row.payment_intent,
            row.amount_cents,
            metadata={**mark, **({"reference": row.reference} if row.reference else {})},
            idempotency_key=key,
            reason=row.reason,
        )
        return made.id

    return Step(f"refund:{row.pk}", "refund", find, make)


def _note(row: Refund, failure: StripeFailed) -> None:
    """Why it is not there yet; a refusal for good gives back what it held."""
    text = f"{failure.code}: {failure.message}"[:500]
    for_good = not failure.retryable and not failure.outcome_unknown
    with transaction.atomic():
        held = Refund.objects.filter(pk=row.pk, state=RefundState.MAKING)
        changed = held.update(failure=text, state=RefundState.REFUSED if for_good else RefundState.MAKING)
        if changed and for_good:
            facts = {"was": RefundState.MAKING, "now": RefundState.REFUSED, "failure": text}
            record(Kind.REFUND_CHANGED, "system", f"refund:{row.pk}", **facts)
