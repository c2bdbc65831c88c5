"""The journal of steps towards Stripe, in a table. Each method commits by itself: never call it inside a
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from provider_federation.instance.invoicing.models import StripeStep
from provider_federation.stripe_account import StepRecord


class TableJournal:
    """`stripe_account.Journal`."""

    def load(self, key: str) -> Mapping[str, StepRecord]:
        return {
            row.step: StepRecord(row.idempotency_key, row.at, row.result_id, row.first_at)
            for row in StripeStep.objects.filter(journal_key=key)
        }

    def begin(self, key: str, step: str, idempotency_key: str, at: datetime) -> None:
        with transaction.atomic(durable=True):
            row, made = StripeStep.objects.select_for_update().get_or_create(
                journal_key=key,
                step=step,
                defaults={"idempotency_key": idempotency_key, "at": at, "first_at": at},
            )
            if not made and row.result_id is None:
                row.idempotency_key, row.at = idempotency_key, at
                row.save(update_fields=["idempotency_key", "at"])

    def finish(self, key: str, step: str, result_id: str, at: datetime) -> str:
        with transaction.atomic(durable=True):
            steps = StripeStep.objects.filter(journal_key=key, step=step)
            steps.filter(result_id__isnull=True).update(result_id=result_id, finished_at=at)
            kept = steps.values_list("result_id", flat=True).first()
        return kept or result_id
