"""A worker's part of a run: take up the calls of one shard, ask the instances all at once, write down what
came of it.

A worker may die anywhere in here. Another one then does the shard again: calls that are over stay over,
and the others
are asked again with the same idempotency key, so that each instance sees each effect once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import DatabaseError, transaction
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.kit.text import clean_text
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.directory.rows import is_still_meant
from provider_federation.portal.directory.services import probe, store_check
from provider_federation.portal.fleet.actions import ACTIONS, WRITES, Ask, Finding, Stopped
from provider_federation.portal.fleet.driving import in_database, run_each
from provider_federation.portal.fleet.models import (
    UNFINISHED,
    Action,
    CallStatus,
    FleetCall,
    FleetRun,
    OutcomeKind,
    RunStatus,
)
from provider_federation.portal.fleet.schemas import RunParams
from provider_federation.portal.fleet.services import settle_run
from provider_federation.portal.fleet.sync import note_failure, request_sync, sync_instance
from provider_federation.portal.shim import Call, Outcome, Shim, Target

_log = get_logger(__name__)
_DISABLED = "This instance was disabled before its turn came; enable it first."
_CANCELLED = "The run was cancelled; the invoices that were left are not sent."
_CHANGED = (
    "The instance was disabled, moved or given another key meanwhile; what was left is sent by a retry."
)
_INTERNAL = "Something went wrong on the portal's side; its log says what."


def work_on_calls(run_id: uuid.UUID, call_ids: Sequence[int]) -> None:
    """Do the unfinished ones of these calls, then close the run if they were its last."""
    now = clock.now()
    FleetRun.objects.filter(pk=run_id, status=RunStatus.QUEUED).update(
        status=RunStatus.RUNNING, started_at=now
    )
    calls = list(
        FleetCall.objects.filter(pk__in=call_ids, run=run_id, status__in=UNFINISHED).select_related(
            "run", "instance"
        )
    )
    run_each(calls, _work)
    with transaction.atomic():
        # What we wrote there belongs into the mirror soon; a job of its own, so that the run need not wait
        # for it.
        if calls and calls[0].run.action in WRITES:
            request_sync([call.instance for call in calls])
        settle_run(run_id)


def sync_many(instance_ids: Sequence[uuid.UUID]) -> None:
    """Bring the mirror of these instances up to date, all at once."""
    run_each(Instance.objects.filter(pk__in=instance_ids, enabled=True), _sync)


async def _sync(shim: Shim, instance: Instance) -> None:
    try:
        target = await in_database(target_of)(instance)
        finding = await sync_instance(shim.call, target, instance.pk)
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged and spoils this instance's turn only
        _log.exception("sync failed on our side", instance=instance.name)
        await in_database(note_failure)(instance.pk, "internal_error", _INTERNAL)
        return
    _log.info("synced", instance=instance.name, code=finding.code, **finding.result)


def fail_orphans() -> int:
    """Calls that wait although no job for their run is left (one was given up, or deleted by hand) become
    failures that
    an operator can see and retry; how many.
    """
    with transaction.atomic():
        # Runs first: a run and its jobs became visible together, so a job that is missing now is gone.
        unfinished = list(
            FleetRun.objects.select_for_update(skip_locked=True).filter(finished_at__isnull=True)
        )
        jobs = ProcrastinateJob.objects.filter(task_name="fleet.run_shard", status__in=["todo", "doing"])
        alive = set(jobs.values_list("args__run_id", flat=True))
        runs = [run for run in unfinished if str(run.pk) not in alive]
        orphans = FleetCall.objects.filter(run__in=runs, status__in=UNFINISHED).update(
            status=CallStatus.FAILED,
            outcome=OutcomeKind.INTERNAL,
            code="job_lost",
            sentence="The job behind this call was given up; retry it.",
            finished_at=clock.now(),
        )
        for run in runs:
            settle_run(run.pk)
    return orphans


async def _work(shim: Shim, call: FleetCall) -> None:
    if not await in_database(_take_up)(call):
        return
    started = clock.monotonic()
    finding = await _find_out(shim, call)
    await in_database(_conclude)(call, finding)
    _log.info(
        "fleet call",
        run=str(call.run_id),
        action=call.run.action,
        instance=call.instance.name,
        attempt=call.attempt,
        code=finding.code,
        ms=round((clock.monotonic() - started) * 1000),
    )


async def _find_out(shim: Shim, call: FleetCall) -> Finding:
    """Ask the instance. A fault of our own spoils this call only; a database that is away ends the job."""
    try:
        if not await in_database(_still_enabled)(call):
            return Finding(False, OutcomeKind.SKIPPED, "instance_disabled", _DISABLED)
        target = await in_database(target_of)(call.instance)
        if call.run.action == Action.SYNC:
            return await sync_instance(shim.call, target, call.instance_id)
        if call.run.action == Action.CHECK:
            return await _check(shim, target, call)
        params = RunParams.model_validate(call.run.params)
        ask = _watched(shim, call)
        return await ACTIONS[call.run.action](ask, target, params, call.idempotency_key, call.subject)
    except Problem as problem:
        return Finding.internal(problem.code, problem.message)
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged and spoils this call only
        _log.exception("fleet call failed on our side", run=str(call.run_id), instance=call.instance.name)
        return Finding.internal("internal_error", _INTERNAL)


def _watched(shim: Shim, call: FleetCall) -> Ask:
    """The shim's call, with a look before each further write: many drafts take hours at a slow instance, and who
    cancels the run, disables or moves the instance or revokes its key means now. A repeat of a write goes through.
    """
    begun: set[str] = set()

    async def ask(target: Target, wanted: Call) -> Outcome:
        if wanted.write:
            if begun and wanted.idempotency_key not in begun:
                await in_database(_stop_if_changed)(call, target)
            begun.add(wanted.idempotency_key)
        return await shim.call(target, wanted)

    return ask


def _stop_if_changed(call: FleetCall, target: Target) -> None:
    if FleetRun.objects.filter(pk=call.run_id, status=RunStatus.CANCELLED).exists():
        raise Stopped("run_cancelled", _CANCELLED)
    instance = Instance.objects.filter(pk=call.instance_id, enabled=True).first()
    if instance is None or not is_still_meant(instance, target):
        raise Stopped("instance_changed", _CHANGED)


async def _check(shim: Shim, target: Target, call: FleetCall) -> Finding:
    check = await probe(shim, target)
    await in_database(store_check)(call.instance_id, check, actor=call.run.requested_by, target=target)
    kind = OutcomeKind.ANSWERED if check.ok else OutcomeKind.REFUSED
    result = {"mode": check.mode, "version": check.version, "clockOffsetMs": check.clock_offset_ms}
    return Finding(check.ok, kind, check.code, check.message, result)


def _still_enabled(call: FleetCall) -> bool:
    return Instance.objects.filter(pk=call.instance_id, enabled=True).exists()


def _take_up(call: FleetCall) -> bool:
    """Mark the call as ours, or find that it is over. One that a dead worker left under way is taken up
    again.
    """
    with transaction.atomic():
        fresh = FleetCall.objects.select_for_update().get(pk=call.pk)
        if fresh.status not in UNFINISHED:
            return False
        call.attempt = fresh.attempt = fresh.attempt + 1
        call.idempotency_key = fresh.idempotency_key
        fresh.status, fresh.started_at = CallStatus.RUNNING, clock.now()
        fresh.save(update_fields=["attempt", "status", "started_at"])
    return True


def _conclude(call: FleetCall, finding: Finding) -> None:
    """Write the outcome, unless another worker has taken the call up since: then its outcome counts."""
    FleetCall.objects.filter(pk=call.pk, status=CallStatus.RUNNING, attempt=call.attempt).update(
        status=CallStatus.OK if finding.ok else CallStatus.FAILED,
        outcome=finding.kind,
        code=finding.code[:80],
        sentence=clean_text(finding.sentence, 500),
        result=dict(finding.result),
        finished_at=clock.now(),
    )
