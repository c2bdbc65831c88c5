"""Starting, cancelling and retrying runs. A run, its calls and the jobs that will make them commit
together.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from procrastinate.contrib.django import app as jobs
from pydantic import ValidationError

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.models import (
    UNFINISHED,
    Action,
    CallStatus,
    FleetCall,
    FleetRun,
    OutcomeKind,
    RunStatus,
)
from provider_federation.portal.fleet.schemas import MOST_INSTANCES, RunParams

SHARD = 50
QUEUE = "fleet"
_WINDOWED = frozenset({Action.PREVIEW, Action.DRAFT})


def start_run(
    actor: str,
    action: str,
    instances: Iterable[Instance],
    params: RunParams | Mapping[str, Any] | None = None,
    *,
    request_key: str = "",
) -> FleetRun:
    """Queue one action over some instances and return its run.

    `request_key` makes a repeat harmless: the same actor and key get the same run again, or a 422
    `idempotency_mismatch` when they ask for something else. Problem 400 `invalid_field`, `no_instances`.
    """
    chosen = list({instance.pk: instance for instance in instances}.values())
    wanted = checked_params(action, params, len(chosen))
    key = hashlib.sha256(f"{actor}\n{request_key}".encode()).hexdigest() if request_key else None
    if key and (earlier := FleetRun.objects.filter(request_key=key).first()):
        return _same(earlier, action, wanted, chosen)
    try:
        return _new_run(actor, action, chosen, wanted, key)
    except IntegrityError:
        if key is None:
            raise
        # Somebody sent the same key at the same moment and was first.
        return _same(FleetRun.objects.get(request_key=key), action, wanted, chosen)


def cancel_run(actor: str, run_id: uuid.UUID) -> FleetRun:
    """Stop what has not begun; what is under way still finishes. Problem 404, 409 `run_finished`."""
    with transaction.atomic():
        run = _locked(run_id)
        if run.status not in {RunStatus.QUEUED, RunStatus.RUNNING}:
            raise Problem(409, "run_finished", "This run is over; there is nothing left to cancel.")
        stopped = run.calls.filter(status=CallStatus.WAITING).update(
            status=CallStatus.CANCELLED,
            finished_at=clock.now(),
            code="cancelled",
            sentence="Cancelled before it began.",
        )
        run.status = RunStatus.CANCELLED
        if not run.calls.filter(status__in=UNFINISHED).exists():
            run.finished_at = clock.now()
        run.save(update_fields=["status", "finished_at"])
        record(Kind.RUN_CANCELLED, actor, f"run:{run.pk}", stopped=stopped)
    return run


def retry_failed(actor: str, run_id: uuid.UUID) -> FleetRun:
    """Queue the failed calls of a run again. Problem 404, 409 `run_cancelled`, `nothing_failed`.

    A call whose fate is unknown keeps its idempotency key; one that was plainly refused gets a new key,
    because the old
    one would only replay the refusal.
    """
    with transaction.atomic():
        run = _locked(run_id)
        if run.status == RunStatus.CANCELLED:
            raise Problem(409, "run_cancelled", "This run was cancelled; start a new one.")
        failed = list(run.calls.select_for_update().filter(status=CallStatus.FAILED))
        if not failed:
            raise Problem(409, "nothing_failed", "Nothing in this run has failed.")
        for call in failed:
            _reopen(call)
        FleetCall.objects.bulk_update(
            failed, ["status", "outcome", "code", "sentence", "result", "idempotency_key", "finished_at"]
        )
        run.status, run.finished_at = RunStatus.RUNNING if run.started_at else RunStatus.QUEUED, None
        run.save(update_fields=["status", "finished_at"])
        _defer_shards(run, failed)
        record(Kind.RUN_RETRIED, actor, f"run:{run.pk}", calls=len(failed))
    return run


def settle_run(run_id: uuid.UUID) -> None:
    """Close the run when its last call is over. Any number of workers may ask at once."""
    with transaction.atomic():
        run = _locked(run_id)
        if run.finished_at is not None or run.calls.filter(status__in=UNFINISHED).exists():
            return
        if run.status != RunStatus.CANCELLED:
            run.status = RunStatus.DONE
        run.finished_at = clock.now()
        run.save(update_fields=["status", "finished_at"])
        failed = run.calls.filter(status=CallStatus.FAILED).count()
        record(Kind.RUN_FINISHED, "system", f"run:{run.pk}", status=run.status, failed=failed)


def _new_run(
    actor: str, action: str, instances: Sequence[Instance], params: RunParams, key: str | None
) -> FleetRun:
    """The row, its calls, its jobs and its audit event, or none of them."""
    with transaction.atomic():
        run = FleetRun.objects.create(
            action=action,
            params=params.stored(),
            requested_by=actor,
            request_key=key,
            created_at=clock.now(),
        )
        _defer_shards(run, _add_calls(run, instances, params))
        record(
            Kind.RUN_STARTED,
            actor,
            f"run:{run.pk}",
            action=action,
            params=run.params,
            instances=len(instances),
        )
    return run


def checked_params(action: str, params: RunParams | Mapping[str, Any] | None, instances: int) -> RunParams:
    """What `start_run` makes of them for so many instances. Problem 400 `invalid_field`, `no_instances`."""
    if action not in Action.values:
        raise Problem(
            400, "invalid_field", f"The action must be one of {', '.join(Action.values)}.", field="action"
        )
    try:
        wanted = params if isinstance(params, RunParams) else RunParams.model_validate(params or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise Problem(400, "invalid_field", f"params: {first['msg']}.", field="params") from None
    if (wanted.range or wanted.start) and action not in _WINDOWED:
        raise Problem(400, "invalid_field", f"{action} takes no window.", field="params")
    if wanted.invoice_ids and (action != Action.SEND or instances != 1):
        raise Problem(
            400, "invalid_field", "invoiceIds go with send, on one instance.", field="params.invoiceIds"
        )
    if not 1 <= instances <= MOST_INSTANCES:
        raise Problem(
            400, "no_instances", f"Choose from 1 to {MOST_INSTANCES} instances.", field="instanceIds"
        )
    return wanted


def _add_calls(run: FleetRun, instances: Sequence[Instance], params: RunParams) -> list[FleetCall]:
    """One call for each instance (and invoice id); those of disabled instances are over before they begin."""
    subjects = params.invoice_ids or [""]
    calls = [
        FleetCall(run=run, instance=instance, subject=subject, idempotency_key=_new_key())
        for instance in instances
        for subject in subjects
    ]
    for call in calls:
        if not call.instance.enabled:
            call.status, call.outcome, call.code = CallStatus.FAILED, OutcomeKind.SKIPPED, "instance_disabled"
            call.sentence, call.finished_at = "This instance is disabled; enable it first.", run.created_at
    return FleetCall.objects.bulk_create(calls, batch_size=1000)


def _defer_shards(run: FleetRun, calls: Sequence[FleetCall]) -> None:
    waiting = [call.pk for call in calls if call.status == CallStatus.WAITING]
    shards = [waiting[at : at + SHARD] for at in range(0, len(waiting), SHARD)]
    # A run without work still gets its (empty) shard: settling it is the worker's business, after the commit.
    for shard in shards or [[]]:
        jobs.configure_task("fleet.run_shard", queue=QUEUE).defer(run_id=str(run.pk), call_ids=[*shard])


def _same(run: FleetRun, action: str, params: RunParams, instances: Sequence[Instance]) -> FleetRun:
    asked = {instance.pk for instance in instances}
    if (run.action, run.params) != (action, params.stored()) or set(
        run.calls.values_list("instance_id", flat=True)
    ) != asked:
        raise Problem(
            422, "idempotency_mismatch", "This Idempotency-Key was used for another run; take a new one."
        )
    return run


def _reopen(call: FleetCall) -> None:
    if call.outcome in {OutcomeKind.REFUSED, OutcomeKind.SKIPPED}:
        call.idempotency_key = _new_key()
    call.status, call.outcome, call.code, call.sentence = CallStatus.WAITING, "", "", ""
    call.result, call.finished_at = {}, None


def _locked(run_id: uuid.UUID) -> FleetRun:
    run = FleetRun.objects.select_for_update().filter(pk=run_id).first()
    if run is None:
        raise not_found("run")
    return run


def _new_key() -> str:
    return f"fleet-{uuid.uuid4()}"
