"""Fetching what clients dispute in their own instances: page by page, each once, and never an amount.

A page and the cursor behind it commit together under the lock of the instance's DisputeReading, so a crash loses
at most a page that is then read again; an entry that was read before changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.kit.text import clean_text
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.fleet.driving import in_database, run_each
from provider_federation.portal.fleet.feeds import read_page, wants_restart
from provider_federation.portal.fleet.sync import SECONDS_AT_ONCE
from provider_federation.portal.receivables.models import (
    Answer,
    ClientDispute,
    DisputeReading,
    DisputeState,
    LeadDispute,
)
from provider_federation.portal.receivables.services.disputes import raise_dispute
from provider_federation.portal.receivables.services.jobs import defer_readings, defer_telling
from provider_federation.portal.receivables.services.telling import PATH, answer_of, note_held
from provider_federation.portal.receivables.wire import PAGE, DisputesPage, FiledDispute
from provider_federation.portal.revenue.models import LeadCharge
from provider_federation.portal.shim import Call, Outcome, RefusedThere, Shim, Target

MOST_A_DAY = 1_000
"""New disputes of one client in 24 hours; the rest waits there."""
_PAGES_AT_ONCE = 20
# While a reading is queued or at work its instance is not due; should the job be lost, it is due after this.
_LEASE = timedelta(minutes=10)
_LONGEST_PAUSE = timedelta(hours=1)
_CLAIM = 1000
_NOT_BILLED = "This lead has not been billed to you."
_TAKEN_BACK = "The charge of this lead was taken back already."
_TOO_MANY = f"More than {MOST_A_DAY:,} disputes were filed within a day; the rest is read later."
_NOT_OFFERED = "This instance offers no disputes."
_INTERNAL = "Something went wrong on the portal's side; its log says what."
_log = get_logger(__name__)


def schedule_readings() -> int:
    """Queue the reading of every enabled instance whose turn it is; how many. Any number of processes may
    call it at once.
    """
    missing = Instance.objects.filter(dispute_reading__isnull=True).values_list("pk", flat=True)
    new = [DisputeReading(instance_id=pk, due_at=Now()) for pk in missing]
    DisputeReading.objects.bulk_create(new, ignore_conflicts=True)
    with transaction.atomic():
        due = DisputeReading.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            instance__enabled=True, due_at__lte=Now()
        )
        chosen = list(due.order_by("due_at").values_list("pk", flat=True)[:_CLAIM])
        DisputeReading.objects.filter(pk__in=chosen).update(due_at=Now() + _LEASE)
        defer_readings(chosen)
    return len(chosen)


def read_many(instance_ids: Sequence[uuid.UUID]) -> None:
    """Fetch what is new from these instances, all at once; a failing one stops none of the others."""
    run_each(Instance.objects.filter(pk__in=instance_ids, enabled=True), _read)


async def _read(shim: Shim, instance: Instance) -> None:
    try:
        target = await in_database(target_of)(instance)
        await _read_instance(shim, target, instance.pk)
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged and spoils this instance's turn only
        _log.exception("disputes cannot be read, on our side", instance=instance.name)
        await in_database(_note_failure)(instance.pk, "internal_error", _INTERNAL)


async def _read_instance(shim: Shim, target: Target, instance_id: uuid.UUID) -> None:
    """To the feed's end, or as far as one job may."""
    state = await in_database(DisputeReading.objects.get)(pk=instance_id)
    restarted, until = False, clock.monotonic() + SECONDS_AT_ONCE
    for _ in range(_PAGES_AT_ONCE):
        room = await in_database(_room)(instance_id)
        if room <= 0:
            return await in_database(_note_failure)(instance_id, "too_many_disputes", _TOO_MANY)
        outcome = await shim.call(target, _call(state.cursor, min(PAGE, room)))
        page = read_page(outcome, DisputesPage, state.cursor)
        if wants_restart(state.cursor, state.epoch, outcome, page) and not restarted:
            state, restarted = await in_database(_start_over)(state), True
            continue
        if not isinstance(page, DisputesPage):
            return await in_database(_note_outcome)(instance_id, page)
        following = await in_database(_apply)(state, page)
        if following is None or not page.has_more:
            return await in_database(_note_success)(instance_id, caught_up=True)
        state = following
        if clock.monotonic() >= until:
            break
    return await in_database(_note_success)(instance_id, caught_up=False)


def _call(cursor: str, limit: int) -> Call:
    return Call("GET", PATH, query={"cursor": cursor or None, "limit": limit})


def _room(instance_id: uuid.UUID) -> int:
    since = clock.now() - timedelta(days=1)
    return MOST_A_DAY - ClientDispute.objects.filter(instance=instance_id, read_at__gt=since).count()


def _start_over(state: DisputeReading) -> DisputeReading:
    """From nothing: what was read before is met again, and tells what the instance still holds of our word."""
    state.cursor = state.epoch = ""
    state.save(update_fields=["cursor", "epoch"])
    return state


def _apply(state: DisputeReading, page: DisputesPage) -> DisputeReading | None:
    """Record a page and move the cursor; None when another worker has moved it meanwhile, or the instance was
    disabled.
    """
    with transaction.atomic():
        rows = DisputeReading.objects.select_for_update(of=("self",)).select_related("instance")
        locked = rows.get(pk=state.pk)
        if (locked.cursor, locked.epoch) != (state.cursor, state.epoch) or not locked.instance.enabled:
            return None
        newest = {item.dispute.id: item.dispute for item in page.items}
        for filed in newest.values():
            record_filing(locked.instance, filed)
        locked.cursor, locked.epoch = page.next_cursor, page.epoch
        if not page.has_more:
            locked.read_at = clock.now()
        locked.save()
    return locked


def record_filing(instance: Instance, filed: FiledDispute) -> ClientDispute:
    """Keep it and answer it, once; one that is known only tells which version of our word the instance holds."""
    with transaction.atomic():
        known = ClientDispute.objects.select_for_update(of=("self",)).filter(instance=instance)
        row = known.filter(remote_id=filed.id).first()
        if row is None:
            return _record_new(instance, filed)
        if row.lost_at or filed.version != row.acknowledged_version:
            note_held(row, filed.version)
    return row


def _record_new(instance: Instance, filed: FiledDispute) -> ClientDispute:
    now = clock.now()
    dispute, sentence = _raise(instance, filed)
    answer = answer_of(dispute) if dispute else _nothing_to_decide(sentence)
    row = ClientDispute.objects.create(
        instance=instance,
        remote_id=filed.id,
        lead_id=filed.lead_id,
        lead_public_id=filed.lead_public_id,
        claim=filed.claim,
        evidence=filed.evidence,
        filed_at=filed.filed_at,
        read_at=now,
        due_at=now,
        dispute=dispute,
        version=filed.version + 1,  # above 0 when we said something before our database was restored
        **answer,
    )
    facts = {"lead": filed.lead_id, "claim": filed.claim, "state": row.state}
    record(Kind.DISPUTE_FILED, f"client:{instance.org_id}", f"client_dispute:{row.pk}", **facts)
    defer_telling(row)
    return row


def _raise(instance: Instance, filed: FiledDispute) -> tuple[LeadDispute | None, str]:
    """The dispute of ours that it is about: a new one, one that is open, or one that was accepted before; without
    one, why there is nothing to decide. Only this client's own charges are looked at.
    """
    charges = LeadCharge.objects.filter(instance=instance, lead_id=filed.lead_id)
    charge = charges.filter(released_at=None).first() or charges.order_by("released_at").last()
    if charge is None:
        return None, _NOT_BILLED
    try:
        return raise_dispute(charge, filed.claim, actor=f"client:{instance.org_id}"), ""
    except Problem as problem:
        if problem.code not in {"dispute_decided", "lead_released"}:
            raise
    return charge.disputes.filter(state=DisputeState.ACCEPTED).first(), _TAKEN_BACK


def _nothing_to_decide(sentence: str) -> dict[str, Any]:
    return {"state": Answer.NOT_BILLED, "decision": sentence, "decided_at": clock.now()}


def _note_outcome(instance_id: uuid.UUID, outcome: Outcome) -> None:
    if isinstance(outcome, RefusedThere) and outcome.status == 404:
        # An app of its own may do without: that is no failure, and it is asked again now and then.
        _note(instance_id, "not_offered", _NOT_OFFERED, failures=0, pause=_LONGEST_PAUSE)
    else:
        _note_failure(instance_id, outcome.code, outcome.sentence)


def _note_success(instance_id: uuid.UUID, *, caught_up: bool) -> None:
    """A feed that is longer than one job may read goes on at once, in the next."""
    pause = timedelta(seconds=settings.DISPUTES_EVERY_SECONDS if caught_up else 0)
    _note(instance_id, "ok", "", failures=0, pause=pause)


def _note_failure(instance_id: uuid.UUID, code: str, sentence: str) -> None:
    """Asked again later and later, so that a dead instance costs little; at least every hour."""
    failures = DisputeReading.objects.values_list("failures", flat=True).get(pk=instance_id)
    usual = timedelta(seconds=settings.DISPUTES_EVERY_SECONDS)
    pause = max(min(usual * 2 ** min(failures, 10), _LONGEST_PAUSE), usual)
    _note(instance_id, code, sentence, failures=failures + 1, pause=pause)


def _note(instance_id: uuid.UUID, code: str, sentence: str, *, failures: int, pause: timedelta) -> None:
    DisputeReading.objects.filter(pk=instance_id).update(
        failures=failures,
        last_code=code[:80],
        last_sentence=clean_text(sentence, 500),
        due_at=Now() + pause,
    )
