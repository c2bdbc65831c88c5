"""Credit notes and refunds: each is in both books, with the same amount and state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from provider_federation.money import Period
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import CreditNote, Refund
from provider_federation.portal.reconciliation.classes import REFETCH
from provider_federation.portal.reconciliation.differences import Difference, in_words
from provider_federation.portal.reconciliation.services.stripe_side import MOST, Scope
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.models import SubscriptionInvoice
from provider_federation.stripe_account import StripeCreditNote, StripeRefund


@dataclass(frozen=True)
class _Correction:
    """One credit note or refund as one of the books has it; `amount` in minor units of `currency`."""

    amount: int
    state: str
    currency: str
    instance: Instance | None = None


def compare_corrections(scope: Scope) -> Iterator[Difference]:
    """Those made in the scope's month, or of all time. A credit note of an invoice that the ledger does not
    hold is told of with that invoice. Raises `StripeFailed`.
    """
    found = _notes(scope)
    held = _held({one.invoice_id for one in found}, scope.instance)
    notes = {one.id: _note(one) for one in found if one.invoice_id in held}
    yield from _compare("credit_note", _our_notes(scope), notes)
    ours = _our_refunds(scope)
    refunds = {one.id: _refund(one) for one in _refunds(scope) if one.id in ours or scope.instance is None}
    yield from _compare("refund", ours, refunds)


def _compare(
    kind: str, ours: Mapping[str, _Correction], theirs: Mapping[str, _Correction]
) -> Iterator[Difference]:
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key), theirs.get(key)
        if here is not None and there is not None:
            if (here.amount, here.currency) != (there.amount, there.currency):
                yield _difference(kind, key, here, there.currency, here.amount, there.amount)
            elif here.state != there.state:
                yield _difference(kind, key, here, "", here.state, there.state)
        elif here is not None:
            yield _difference(kind, key, here, here.currency, here.amount, None, repair="")
        elif there is not None:
            yield _difference(kind, key, there, there.currency, None, there.amount)


def _difference(
    kind: str,
    key: str,
    one: _Correction,
    currency: str,
    here: str | int | None,
    there: str | int | None,
    *,
    repair: str = REFETCH,
) -> Difference:
    words = kind.replace("_", " ")
    return Difference(
        kind=kind,
        subject=f"{kind}:{key}",
        message=f"The {words} {key}: {in_words(here, currency)} in the portal, {in_words(there, currency)} in Stripe.",
        instance=one.instance,
        currency=currency,
        portal=here,
        stripe=there,
        repair=repair,
        target=key,
    )


def _held(stripe_invoice_ids: set[str], instance: Instance | None) -> set[str]:
    """Which of these invoices the ledger holds; for one client when it is given."""
    held: set[str] = set()
    for model in (UsageInvoice, SubscriptionInvoice):
        rows = model.objects.filter(stripe_invoice_id__in=stripe_invoice_ids)
        rows = rows.filter(instance=instance) if instance else rows
        held.update(one or "" for one in rows.values_list("stripe_invoice_id", flat=True))
    return held


def _our_notes(scope: Scope) -> dict[str, _Correction]:
    rows = CreditNote.objects.exclude(stripe_credit_note_id=None).select_related("instance")
    rows = rows.filter(instance=scope.instance) if scope.instance else rows
    if scope.period:
        rows = rows.filter(issued_at__gte=scope.period.start, issued_at__lt=scope.period.end)
    return {
        row.stripe_credit_note_id or "": _Correction(row.total_cents, row.state, row.currency, row.instance)
        for row in rows
    }


def _our_refunds(scope: Scope) -> dict[str, _Correction]:
    rows = Refund.objects.exclude(stripe_refund_id=None).select_related("instance")
    rows = rows.filter(instance=scope.instance) if scope.instance else rows
    if scope.period:
        rows = rows.filter(refunded_at__gte=scope.period.start, refunded_at__lt=scope.period.end)
    return {
        row.stripe_refund_id or "": _Correction(row.amount_cents, row.state, row.currency, row.instance)
        for row in rows
    }


def _notes(scope: Scope) -> list[StripeCreditNote]:
    found = provider_account().list_credit_notes(since=_since(scope.period), most=MOST)
    return [one for one in found if scope.period is None or scope.period.contains(one.created)]


def _refunds(scope: Scope) -> list[StripeRefund]:
    found = provider_account().list_refunds(since=_since(scope.period), most=MOST)
    return [one for one in found if scope.period is None or scope.period.contains(one.created)]


def _since(period: Period | None) -> datetime | None:
    return period.start if period else None


def _note(one: StripeCreditNote) -> _Correction:
    return _Correction(one.total, one.status, one.currency.lower())


def _refund(one: StripeRefund) -> _Correction:
    state = "pending" if one.status == "requires_action" else one.status
    return _Correction(one.amount, state, one.currency.lower())
