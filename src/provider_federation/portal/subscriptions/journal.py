"""The journal of what we do in the provider's Stripe account, as a table (stripe_account.Journal)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import connection

from provider_federation.portal.subscriptions.models import JournalStep
from provider_federation.stripe_account import StepRecord, StripeFailed


class DatabaseJournal:
    """Each call commits by itself, so it refuses to run inside a transaction that could take it back."""

    def load(self, key: str) -> Mapping[str, StepRecord]:
        rows = JournalStep.objects.filter(key=key)
        return {
            row.step: StepRecord(row.idempotency_key, row.at, row.result_id or None, row.first_at)
            for row in rows
        }

    def begin(self, key: str, step: str, idempotency_key: str, at: datetime) -> None:
        _outside_of_transactions()
        row, made = JournalStep.objects.get_or_create(
            key=key, step=step, defaults={"idempotency_key": idempotency_key, "at": at, "first_at": at}
        )
        if not made:
            unfinished = JournalStep.objects.filter(pk=row.pk, result_id="")
            unfinished.update(idempotency_key=idempotency_key, at=at)

    def finish(self, key: str, step: str, result_id: str, at: datetime) -> None:
        _outside_of_transactions()
        first = {"idempotency_key": "", "at": at, "first_at": at}
        row, _ = JournalStep.objects.get_or_create(key=key, step=step, defaults=first)
        JournalStep.objects.filter(pk=row.pk, result_id="").update(result_id=result_id, finished_at=at)
        row.refresh_from_db()
        if row.result_id != result_id:
            raise JournalContradicted(f"{key} {step} led to {row.result_id} before and to {result_id} now")


class JournalContradicted(StripeFailed):
    """One step led to two objects in Stripe: not retried, a person must look before anything else is sent."""

    def __init__(self, message: str) -> None:
        super().__init__("journal_contradicted", message)


def _outside_of_transactions() -> None:
    if connection.in_atomic_block:
        raise RuntimeError("the Stripe journal must commit at once; call Stripe outside of any transaction")
