"""Deferring this room's jobs by name (the tasks stand above the services), inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.portal.billing_runs.models import (
    UNDER_WAY,
    BillingPlanItem,
    BillingRun,
    ItemState,
    RunStatus,
)

PLAN = "billing_runs.plan_shard"
PREPARE = "billing_runs.prepare_execution"
EXECUTE = "billing_runs.execute_shard"
PLACE = "billing_runs.place_item"
SHARD = 100
"""The most clients of one job: each step's commit is shared by all of them."""
_FEWEST = 10
_JOBS = 4  # of a worker, unless it was told otherwise
_MANY = 500


def defer_planning(run: BillingRun) -> None:
    """A job for each shard of items that wait; one empty job when none does, so that the plan is closed."""
    _defer_shards(PLAN, run.pk, _ids(run, (ItemState.WAITING,)))


def defer_preparation(run: BillingRun) -> None:
    """Before anything is placed, Stripe is listed once."""
    app.configure_task(PREPARE, lock=f"billing-run:{run.pk}").defer(run_id=str(run.pk))


def defer_execution(run: BillingRun) -> None:
    """A job for each shard of what is still to be billed; one empty job when there is nothing."""
    _defer_shards(EXECUTE, run.pk, _ids(run, UNDER_WAY))


def defer_item(item: BillingPlanItem) -> None:
    """One client alone, later: Stripe did not take it now."""
    app.configure_task(PLACE, lock=f"billing-item:{item.pk}", schedule_in={"seconds": 5}).defer(
        run_id=str(item.run_id), item_id=item.pk
    )


def wake_forgotten() -> int:
    """Jobs for every run that has work and none; returns how many runs. What a job finds done stays done."""
    with transaction.atomic():
        working = BillingRun.objects.select_for_update(skip_locked=True).filter(finished_at=None)
        runs = [run for run in working if str(run.pk) not in _alive()]
        woken = [run for run in runs if _wake(run)]
    return len(woken)


def _wake(run: BillingRun) -> bool:
    if run.status == RunStatus.PLANNING:
        defer_planning(run)
    elif run.status == RunStatus.EXECUTING:
        defer_preparation(run)
    elif run.status == RunStatus.CANCELLED and run.items.filter(state=ItemState.PLACING).exists():
        defer_execution(run)
    else:
        return False
    return True


def _alive() -> set[str]:
    jobs = ProcrastinateJob.objects.filter(
        task_name__in=(PLAN, PREPARE, EXECUTE, PLACE), status__in=("todo", "doing")
    )
    return {str(run_id) for run_id in jobs.values_list("args__run_id", flat=True).distinct()}


def _ids(run: BillingRun, states: Iterable[ItemState]) -> Sequence[int]:
    rows = BillingPlanItem.objects.filter(run=run, state__in=states).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def _defer_shards(task: str, run_id: UUID, ids: Sequence[int]) -> None:
    rounds = max(1, math.ceil(len(ids) / (_JOBS * SHARD)))
    # As many for each job, so that all end together.
    size = max(_FEWEST, math.ceil(len(ids) / (_JOBS * rounds)))
    shards = [ids[at : at + size] for at in range(0, len(ids), size)] or [[]]
    for at in range(0, len(shards), _MANY):
        jobs: list[dict[str, Any]] = [
            {"run_id": str(run_id), "item_ids": [*shard]} for shard in shards[at : at + _MANY]
        ]
        app.configure_task(task).batch_defer(*jobs)
