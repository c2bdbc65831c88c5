"""Telling an instance what its client may use. The version number makes order and repetition harmless."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.database import lend_connection
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.shim import Answered, BadAnswer, Call, Outcome, call_now
from provider_federation.portal.subscriptions.entitlements import update_entitlement
from provider_federation.portal.subscriptions.jobs import defer_publishing
from provider_federation.portal.subscriptions.models import Entitlement

PATH = "/api/federation/entitlements"
_HIGHEST = 9_007_199_254_740_990  # JSON's whole numbers, with room for ours above it
_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(hours=1)


@dataclass(frozen=True)
class Coverage:
    """How many instances confirmed the newest version of how many that were told; `waiting_since` is the
    oldest version that nobody confirmed yet.
    """

    acknowledged: int
    of: int
    failing: int
    waiting_since: datetime | None

    @property
    def complete(self) -> bool:
        return self.acknowledged == self.of


def publish_entitlement(instance_id: UUID) -> None:
    """One attempt, and what came of it in the row. Never raises for what the instance does."""
    row = Entitlement.objects.select_related("instance").filter(pk=instance_id).first()
    if row is None or row.acknowledged or not row.instance.enabled:
        return
    target = target_of(row.instance)
    key = f"entitlement-{row.pk}-{row.version}"
    call = Call("POST", PATH, body=message_of(row), idempotency_key=key)
    lend_connection()
    outcome = call_now(target, call)
    confirmed = _confirmed(outcome)
    if confirmed is None or confirmed < row.version:
        _note_failure(row, outcome)
    else:
        _note_confirmed(row, confirmed)


def message_of(row: Entitlement) -> dict[str, Any]:
    """What the instance is told: the body of the call."""
    return {
        "version": row.version,
        "plan": row.plan,
        "state": row.state,
        "limits": {"leads": row.leads, "users": row.users, "aiCredits": row.ai_credits},
        "support": row.support,
        "validFrom": row.valid_from.isoformat().replace("+00:00", "Z"),
    }


def publish_again(instance: Instance, *, actor: str) -> Entitlement:
    """A person's word: compute it, and tell the instance now, whether or not it has confirmed it before."""
    if not instance.enabled:
        raise Problem(409, "instance_disabled", "This instance is disabled; enable it first.")
    with transaction.atomic():
        row = update_entitlement(instance)
        Entitlement.objects.filter(pk=row.pk).update(acknowledged_version=0, due_at=clock.now(), failures=0)
        record(Kind.ENTITLEMENT_PUBLISHED, actor, f"instance:{instance.name}", version=row.version)
        defer_publishing(row)
    row.refresh_from_db()
    return row


def coverage() -> Coverage:
    """Over all enabled instances that there is something to tell."""
    rows = Entitlement.objects.filter(instance__enabled=True)
    waiting = rows.filter(acknowledged_version__lt=F("version"))
    oldest = waiting.order_by("valid_from").values_list("valid_from", flat=True).first()
    total = rows.count()
    return Coverage(total - waiting.count(), total, waiting.filter(failures__gt=0).count(), oldest)


def _confirmed(outcome: Outcome) -> int | None:
    """The version that the instance holds now, or None for anything that is no version."""
    version = outcome.data.get("version") if isinstance(outcome, Answered) else None
    known = isinstance(version, int) and not isinstance(version, bool) and 0 < version <= _HIGHEST
    return version if known else None


def _note_confirmed(row: Entitlement, version: int) -> None:
    with transaction.atomic():
        locked = Entitlement.objects.select_for_update().get(pk=row.pk)
        if version > locked.version:
            # The instance knows a later one: our database was restored from a backup. What holds is said
            # anew, above it; not at once, or one that always says so would keep us talking.
            locked.version = version + 1
            _say_later(locked, "version_ahead", "The instance knows a later version; it is told above it.")
        elif version == row.version:
            locked.acknowledged_version = max(locked.acknowledged_version, version)
            locked.acknowledged_at = clock.now()
            locked.failures, locked.last_code, locked.last_sentence = 0, "ok", ""
        locked.save()


def _note_failure(row: Entitlement, outcome: Outcome) -> None:
    if isinstance(outcome, Answered):
        outcome = BadAnswer("unexpected_shape", "it does not confirm the version it was told", outcome.status)
    with transaction.atomic():
        locked = Entitlement.objects.select_for_update().get(pk=row.pk)
        if locked.version != row.version:
            return  # a newer one has its own job
        _say_later(locked, outcome.code, outcome.sentence)
        locked.save()


def _say_later(row: Entitlement, code: str, sentence: str) -> None:
    row.due_at = clock.now() + min(_FIRST_PAUSE * 2 ** min(row.failures, 10), _LONGEST_PAUSE)
    row.failures += 1
    row.last_code, row.last_sentence = code[:80], sentence[:500]
