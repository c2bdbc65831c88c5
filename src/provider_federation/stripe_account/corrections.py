"""The calls of a Stripe account that correct an invoice after it left, and those that list what paid it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from provider_federation.stripe_account.calls import (
    MOST,
    Metadata,
    carries,
    every,
    given,
    read,
    window,
    write,
)
from provider_federation.stripe_account.shapes_corrections import (
    StripeCharge,
    StripeCreditNote,
    StripePayment,
    StripeRefund,
)


class Corrections:
    """Mixed into `StripeAccount`."""

    _v1: Any

    # --- credit notes

    def preview_credit_note(
        self, invoice_id: str, lines: Sequence[Mapping[str, Any]], **settling: int
    ) -> StripeCreditNote:
        """What such a credit note would come to, tax included; nothing is made."""
        call = self._v1.credit_notes.preview
        return StripeCreditNote.read(read(call, invoice=invoice_id, lines=_plain(lines), **settling))

    def create_credit_note(
        self,
        invoice_id: str,
        lines: Sequence[Mapping[str, Any]],
        *,
        metadata: Metadata,
        idempotency_key: str,
        reason: str = "",
        memo: str = "",
        **settling: Any,
    ) -> StripeCreditNote:
        """`lines` as Stripe's `CreditNoteCreateParamsLine`. On a paid invoice `settling` (`credit_amount`,
        `refund_amount`, `out_of_band_amount`, `refunds` that were made before) adds up to the note's total; on
        an unpaid one there is none.
        """
        answer = write(
            self._v1.credit_notes.create,
            key=idempotency_key,
            invoice=invoice_id,
            lines=_plain(lines),
            metadata=dict(metadata),
            reason=reason or None,
            memo=memo or None,
            **given(settling),
        )
        return StripeCreditNote.read(answer)

    def retrieve_credit_note(self, credit_note_id: str) -> StripeCreditNote:
        """With the first of its lines."""
        return StripeCreditNote.read(read(self._v1.credit_notes.retrieve, credit_note_id))

    def list_credit_notes(
        self,
        *,
        invoice_id: str | None = None,
        since: datetime | None = None,
        metadata: Metadata | None = None,
        most: int = MOST,
    ) -> list[StripeCreditNote]:
        """Newest first, those that carry all of `metadata`."""
        found = every(self._v1.credit_notes.list, most, invoice=invoice_id, created=window(since, None))
        return [note for note in map(StripeCreditNote.read, found) if carries(note.metadata, metadata)]

    # --- what paid an invoice, and what went back

    def list_payments(
        self, *, invoice_id: str | None = None, intent_id: str | None = None
    ) -> list[StripePayment]:
        """The payments of an invoice, or of a payment intent; paid, open and cancelled ones."""
        payment = {"type": "payment_intent", "payment_intent": intent_id} if intent_id else None
        found = every(self._v1.invoice_payments.list, MOST, invoice=invoice_id, payment=payment)
        return [StripePayment.read(item) for item in found]

    def list_charges(self, intent_id: str) -> list[StripeCharge]:
        """The tries to take a payment, newest first; those that failed took nothing."""
        return [
            StripeCharge.read(item) for item in every(self._v1.charges.list, MOST, payment_intent=intent_id)
        ]

    def create_refund(
        self, intent_id: str, amount: int, *, metadata: Metadata, idempotency_key: str, reason: str = ""
    ) -> StripeRefund:
        """Give back `amount` of what a payment intent took; Stripe refuses more than is left of it."""
        answer = write(
            self._v1.refunds.create,
            key=idempotency_key,
            payment_intent=intent_id,
            amount=amount,
            metadata=dict(metadata),
            reason=reason or None,
        )
        return StripeRefund.read(answer)

    def retrieve_refund(self, refund_id: str) -> StripeRefund:
        return StripeRefund.read(read(self._v1.refunds.retrieve, refund_id))

    def list_refunds(
        self,
        *,
        intent_id: str | None = None,
        since: datetime | None = None,
        metadata: Metadata | None = None,
        most: int = MOST,
    ) -> list[StripeRefund]:
        """Newest first, those that carry all of `metadata`."""
        found = every(self._v1.refunds.list, most, payment_intent=intent_id, created=window(since, None))
        return [refund for refund in map(StripeRefund.read, found) if carries(refund.metadata, metadata)]


def _plain(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(line) for line in lines]
