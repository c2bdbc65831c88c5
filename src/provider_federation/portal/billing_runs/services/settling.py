"""Closing a phase when its last item is through; any number of workers may ask at once."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import not_found
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.billing_runs.models import (
    UNDER_WAY,
    BillingPlanItem,
    BillingRun,
    ItemState,
    RunStatus,
)
from provider_federation.portal.billing_runs.services.hashing import hash_plan

_OVER = (RunStatus.EXECUTING, RunStatus.CANCELLED)


def settle_plan(run_id: UUID) -> None:
    """Hash the plan once nobody waits any more; from then on it may be approved."""
    with transaction.atomic():
        run = locked_run(run_id)
        if run.status != RunStatus.PLANNING or run.items.filter(state=ItemState.WAITING).exists():
            return
        run.status, run.planned_at, run.plan_hash = RunStatus.PLANNED, clock.now(), hash_plan(run)
        run.save(update_fields=["status", "planned_at", "plan_hash"])
        held = run.items.filter(state=ItemState.HELD).count()
        facts = {"period": run.period, "hash": run.plan_hash, "held": held}
        record(Event.BILLING_PLANNED, run.planned_by, f"billing_run:{run.pk}", **facts)


def settle_run(run_id: UUID) -> None:
    """The run is over when nothing of it is under way: done, or stopped where it was cancelled."""
    busy = BillingPlanItem.objects.filter(run=run_id, state__in=UNDER_WAY)
    if busy.exists():
        return  # whoever commits the last of them asks after that
    with transaction.atomic():
        run = locked_run(run_id)
        if run.status not in _OVER or run.finished_at is not None or busy.exists():
            return
        if run.status == RunStatus.EXECUTING:
            run.status = RunStatus.DONE
        run.finished_at = clock.now()
        run.save(update_fields=["status", "finished_at"])
        held = run.items.filter(state=ItemState.HELD).count()
        record(Event.BILLING_FINISHED, "system", f"billing_run:{run.pk}", status=run.status, held=held)


def locked_run(run_id: UUID) -> BillingRun:
    """The run, its row locked. Problem 404."""
    run = BillingRun.objects.select_for_update().filter(pk=run_id).first()
    if run is None:
        raise not_found("billing run")
    return run
