"""Telling a client's instance what became of its dispute. The version number makes order and repetition harmless."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.portal.database import lend_connection
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.receivables.models import ClientDispute, DisputeState, LeadDispute, NoteState
from provider_federation.portal.receivables.services.jobs import defer_telling
from provider_federation.portal.receivables.wire import HIGHEST_VERSION
from provider_federation.portal.shim import Answered, BadAnswer, Call, Outcome, RefusedThere, call_now

PATH = "/api/federation/disputes"
_LONGEST_ANSWER = 65_536
_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(hours=1)


def update_told(disputes: Iterable[LeadDispute]) -> None:
    """Whoever filed them is told what holds now, where it is something else than before. Call inside the
    transaction that changed them.
    """
    for dispute in disputes:
        wanted = answer_of(dispute)
        for row in dispute.filings.select_for_update():
            if any(getattr(row, name) != value for name, value in wanted.items()):
                for name, value in wanted.items():
                    setattr(row, name, value)
                _say_anew(row, above=row.version)


def answer_of(dispute: LeadDispute) -> dict[str, Any]:
    """The columns of what is told of a dispute of ours. The number is there once Stripe has made the note."""
    accepted = dispute.state == DisputeState.ACCEPTED
    note = dispute.credit_note if accepted else None
    return {
        "state": dispute.state,
        "decision": dispute.decision,
        "decided_at": dispute.decided_at,
        "credit_note_number": note.number if note and note.state == NoteState.ISSUED else "",
        "lead_freed": accepted and dispute.charge.released_at is not None,
    }


def message_of(row: ClientDispute) -> dict[str, Any]:
    """What the instance is told: the body of the call."""
    return {
        "version": row.version,
        "state": row.state,
        "decision": row.decision,
        "decidedAt": row.decided_at.isoformat().replace("+00:00", "Z") if row.decided_at else None,
        "creditNoteNumber": row.credit_note_number,
        "leadFreed": row.lead_freed,
    }


def tell_client(filing_id: UUID) -> None:
    """One attempt, and what came of it in the row. Never raises for what the instance does."""
    row = ClientDispute.objects.select_related("instance").filter(pk=filing_id).first()
    if row is None or row.acknowledged or row.lost_at or not row.instance.enabled:
        return
    target = target_of(row.instance)
    key = f"dispute-{row.pk}-{row.version}"
    path = f"{PATH}/{row.remote_id}"
    call = Call("POST", path, body=message_of(row), idempotency_key=key, max_bytes=_LONGEST_ANSWER)
    lend_connection()
    outcome = call_now(target, call)
    with transaction.atomic():
        locked = ClientDispute.objects.select_for_update().get(pk=row.pk)
        if locked.version != row.version:
            return  # a newer one has its own job
        held = _held_there(outcome)
        if held == row.version:
            note_held(locked, held)
        elif held is not None and held > row.version:
            _step_above(locked, held)
        else:
            _note_failure(locked, outcome)


def note_held(row: ClientDispute, version: int) -> None:
    """The instance holds this version of a locked row. An older one is replaced; a later one was said before
    our database was restored from a backup, and what holds is said anew, above it.
    """
    row.lost_at = None
    if version > row.version:
        _say_anew(row, above=version)
        return
    row.acknowledged_version = version
    if version == row.version:
        row.acknowledged_at = clock.now()
        row.failures, row.last_code, row.last_sentence = 0, "ok", ""
        row.save()
    else:
        _say_anew(row, above=row.version - 1)


def _say_anew(row: ClientDispute, *, above: int) -> None:
    row.version = above + 1
    row.due_at = clock.now()
    row.failures, row.last_code, row.last_sentence = 0, "", ""
    row.save()
    defer_telling(row)


def _held_there(outcome: Outcome) -> int | None:
    """The version that the instance holds now, or None for anything that is no version."""
    version = outcome.data.get("version") if isinstance(outcome, Answered) else None
    known = isinstance(version, int) and not isinstance(version, bool) and 0 < version <= HIGHEST_VERSION
    return version if known else None


def _note_failure(row: ClientDispute, outcome: Outcome) -> None:
    if isinstance(outcome, RefusedThere) and outcome.code == "dispute_conflict":
        row.version += 1  # before a restored backup we said something else with this number
    if isinstance(outcome, Answered):
        outcome = BadAnswer("unexpected_shape", "it does not confirm the version it was told", outcome.status)
    if isinstance(outcome, RefusedThere) and (outcome.status, outcome.code) == (404, "not_found"):
        row.lost_at = clock.now()
    _say_later(row, outcome.code, outcome.sentence)


def _step_above(row: ClientDispute, version: int) -> None:
    """It holds a later word than ours, of before our restored backup. Not at once: one that always says so would
    keep us talking.
    """
    row.version = version + 1
    _say_later(row, "version_ahead", "The instance holds a later word than ours; it is told again, above it.")


def _say_later(row: ClientDispute, code: str, sentence: str) -> None:
    row.due_at = clock.now() + min(_FIRST_PAUSE * 2 ** min(row.failures, 10), _LONGEST_PAUSE)
    row.failures += 1
    row.last_code, row.last_sentence = code[:80], sentence[:500]
    row.save()
