"""The journal of what we do in the provider's Stripe account, as a table (stripe_account.Journal)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import connection, transaction

from provider_federation.portal.subscriptions.models import JournalStep
from provider_federation.stripe_account import JOURNAL_CONTRADICTED, Began, Finished, StepRecord, StripeFailed

# One statement each, and so one commit: four steps of an order cost eight of them.
_BEGIN = """
INSERT INTO subscriptions_journalstep AS row (key, step, idempotency_key, at, first_at, result_id)
VALUES (%s, %s, %s, %s, %s, '')
    ON CONFLICT (key, step) DO UPDATE SET idempotency_key = excluded.idempotency_key, at = excluded.at
 WHERE row.result_id = ''
"""
_FINISH = """
INSERT INTO subscriptions_journalstep AS row (key, step, idempotency_key, at, first_at, result_id, finished_at)
VALUES (%s, %s, '', %s, %s, %s, %s)
    ON CONFLICT (key, step) DO UPDATE
   SET result_id = CASE WHEN row.result_id = '' THEN excluded.result_id ELSE row.result_id END,
       finished_at = coalesce(row.finished_at, excluded.finished_at)
RETURNING result_id
"""
_BEGIN_NEW = """
INSERT INTO subscriptions_journalstep (key, step, idempotency_key, at, first_at, result_id)
SELECT given.key, given.step, given.idempotency_key, %s, %s, ''
  FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (key, step, idempotency_key)
    ON CONFLICT (key, step) DO NOTHING
RETURNING key
"""
_FINISH_ALL = """
INSERT INTO subscriptions_journalstep AS row (key, step, idempotency_key, at, first_at, result_id, finished_at)
SELECT given.key, given.step, '', %s, %s, given.result_id, %s
  FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (key, step, result_id)
    ON CONFLICT (key, step) DO UPDATE
   SET result_id = CASE WHEN row.result_id = '' THEN excluded.result_id ELSE row.result_id END,
       finished_at = coalesce(row.finished_at, excluded.finished_at)
RETURNING key, result_id
"""


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
        with connection.cursor() as cursor:
            cursor.execute(_BEGIN, [key, step, idempotency_key, at, at])

    def finish(self, key: str, step: str, result_id: str, at: datetime) -> str:
        _outside_of_transactions()
        with connection.cursor() as cursor:
            cursor.execute(_FINISH, [key, step, at, at, result_id, at])
            kept = str(cursor.fetchone()[0])
        if kept != result_id:
            raise JournalContradicted(f"{key} {step} led to {kept} before and to {result_id} now")
        return kept

    def turn(
        self, finished: Sequence[Finished], began: Sequence[Began], at: datetime
    ) -> tuple[Mapping[str, str], set[str]]:
        """See `stripe_account.ManyJournal`. Everybody takes the rows in the order of their keys."""
        _outside_of_transactions()
        kept: dict[str, str] = {}
        new: set[str] = set()
        with transaction.atomic(), connection.cursor() as cursor:
            if finished:
                cursor.execute(_FINISH_ALL, [at, at, at, *_columns(finished)])
                kept = dict(cursor.fetchall())
            if began:
                cursor.execute(_BEGIN_NEW, [at, at, *_columns(began)])
                new = {key for (key,) in cursor.fetchall()}
        return kept, new


def _columns(rows: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    return [list(column) for column in zip(*sorted(rows), strict=True)]


class JournalContradicted(StripeFailed):
    """One step led to two objects in Stripe: not retried, a person must look before anything else is sent."""

    def __init__(self, message: str) -> None:
        super().__init__(JOURNAL_CONTRADICTED, message)


def _outside_of_transactions() -> None:
    if connection.in_atomic_block:
        raise RuntimeError("the Stripe journal must commit at once; call Stripe outside of any transaction")
