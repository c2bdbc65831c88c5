"""Voiding an invoice and writing it off, in the provider's Stripe account: once, however often it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.receivables.models import CreditNote, NoteState, Receivable
from provider_federation.portal.receivables.queries import about
from provider_federation.portal.revenue.models import UsageStatus
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions.account import provider_account, stripe_problems
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.stripe_account import Patience, StripeAccount, StripeInvoice
from provider_federation.stripe_account.steps import Step, run_step


@dataclass(frozen=True)
class _Way:
    """One way out: what Stripe calls it, from where it is possible, and its call."""

    status: str
    sources: tuple[str, ...]
    verb: str
    kind: Kind
    call: Callable[..., StripeInvoice]


_VOID = _Way(
    "void",
    (UsageStatus.OPEN, UsageStatus.UNCOLLECTIBLE),
    "voided",
    Kind.INVOICE_VOIDED,
    StripeAccount.void_invoice,
)
_WRITE_OFF = _Way(
    "uncollectible",
    (UsageStatus.OPEN,),
    "written off",
    Kind.INVOICE_WRITTEN_OFF,
    StripeAccount.mark_uncollectible,
)


def void_invoice(invoice: Receivable, *, actor: str) -> Receivable:
    """Nothing is owed any more and its leads may be billed again. A void one is answered as it is.

    Problem 409 `not_open` when it is paid, `correction_in_progress` while a credit note is on its way; 422
    `stripe_refused`, 503 when it may work later.
    """
    return _go(invoice, _VOID, actor)


def write_off(invoice: Receivable, *, actor: str) -> Receivable:
    """The provider no longer expects the money (Stripe: uncollectible); it can still be paid or voided.
    Problems as for `void_invoice`.
    """
    return _go(invoice, _WRITE_OFF, actor)


def _go(invoice: Receivable, way: _Way, actor: str) -> Receivable:
    if invoice.status == way.status:
        return invoice
    stripe_id = invoice.stripe_invoice_id
    if invoice.status not in way.sources or stripe_id is None:
        raise Problem(409, "not_open", f"This invoice is {invoice.status}; it cannot be {way.verb}.")
    if CreditNote.objects.filter(**about(invoice), state=NoteState.MAKING).exists():
        sentence = "A credit note of this invoice is on its way to Stripe; ask again when it is there."
        raise Problem(409, "correction_in_progress", sentence)
    with transaction.atomic():
        facts = {"client": invoice.instance.org_id, "remaining_cents": invoice.remaining_cents}
        record(way.kind, actor, f"stripe_invoice:{stripe_id}", currency=invoice.currency, **facts)
    with stripe_problems():
        run_step(_step(stripe_id, way), DatabaseJournal(), clock.now, Patience())
        return refresh_any_invoice(stripe_id)


def _step(stripe_id: str, way: _Way) -> Step:
    account = provider_account()

    def find(_since: object) -> str | None:
        return stripe_id if account.retrieve_invoice(stripe_id).status == way.status else None

    def make(key: str) -> str:
        return way.call(account, stripe_id, idempotency_key=key).id

    return Step(f"invoice:{stripe_id}", way.status, find, make, look_first=True)
