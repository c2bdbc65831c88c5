"""Cancelling a run, and taking what was held up again."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import IntegrityError, transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.billing_runs.models import (
    LIVING,
    BillingPlanItem,
    BillingRun,
    ItemState,
    RunStatus,
)
from provider_federation.portal.billing_runs.services.jobs import defer_planning
from provider_federation.portal.billing_runs.services.settling import locked_run
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.services import abandon_order

_RETRIED = (RunStatus.PLANNED, RunStatus.APPROVED, RunStatus.DONE)


def cancel_run(run_id: UUID, *, actor: str) -> BillingRun:
    """Nobody is billed any more whose invoice is not on its way yet; what is on its way still finishes.
    Problem 404, 409 `run_finished`.
    """
    with transaction.atomic():
        run = locked_run(run_id)
        if run.status not in LIVING:
            raise Problem(409, "run_finished", f"This run is {run.status}; there is nothing left to cancel.")
        # Locked in this order by whoever executes: an item is stopped or on its way, never both.
        waiting = run.items.filter(state__in=(ItemState.WAITING, ItemState.READY))
        locked = list(waiting.select_for_update().order_by("pk").values_list("pk", flat=True))
        stopped = run.items.filter(pk__in=locked).update(state=ItemState.CANCELLED, updated_at=clock.now())
        run.status = RunStatus.CANCELLED
        if not run.items.filter(state=ItemState.PLACING).exists():
            run.finished_at = clock.now()
        run.save(update_fields=["status", "finished_at"])
        record(Event.BILLING_CANCELLED, actor, f"billing_run:{run.pk}", period=run.period, stopped=stopped)
    return run


def retry_held(run_id: UUID, *, actor: str, only: Collection[str] = (), reviewed: bool = False) -> BillingRun:
    """Plan the held clients again (`only` these clientOrgIds, or all): a new hash, and a new approval.

    `reviewed`: this person looked, so jumps and shrunken counters pass. An order that Stripe refused goes on
    as it was frozen, or is planned anew when Stripe lost it. Problem 404; 409 `not_retryable`,
    `nothing_held`, `run_exists`.
    """
    held = _held(run_id, only)
    lost = {item.pk for item in held if item.invoice and _is_lost(item.invoice, actor)}
    try:
        with transaction.atomic():
            run = locked_run(run_id)
            _check_retryable(run)
            # What others planned and nobody billed yet waits for the same approval.
            waits = run.items.filter(state=ItemState.READY).exists()
            earlier = [run.planned_by, *run.planners] if waits else []
            for item in held:
                _reopen(item, actor if reviewed else "", lost=item.pk in lost)
            run.status, run.finished_at = RunStatus.PLANNING, None
            run.plan_hash = run.approved_hash = run.approved_by = ""
            run.planned_by, run.approved_at = actor, None
            run.planners = list(dict.fromkeys([*earlier, actor]))
            run.save()
            defer_planning(run)
            facts = {"clients": len(held), "reviewed": reviewed}
            record(Event.BILLING_RETRIED, actor, f"billing_run:{run.pk}", period=run.period, **facts)
    except IntegrityError:
        raise Problem(409, "run_exists", "This month has another billing run by now.") from None
    return run


def _held(run_id: UUID, only: Collection[str]) -> list[BillingPlanItem]:
    with transaction.atomic():
        _check_retryable(locked_run(run_id))
        rows = BillingPlanItem.objects.filter(run=run_id, state=ItemState.HELD)
        if only:
            rows = rows.filter(instance__org_id__in=list(only))
        held = list(rows.select_related("instance", "invoice").defer("usage"))
    if not held:
        raise Problem(409, "nothing_held", "None of these clients is held in this run.")
    return held


def _is_lost(invoice: UsageInvoice, actor: str) -> bool:
    return invoice.status == UsageStatus.VOID or abandon_order(invoice, actor=actor)


def _check_retryable(run: BillingRun) -> None:
    if run.status not in _RETRIED:
        raise Problem(409, "not_retryable", f"This run is {run.status}; wait for it, or plan a new one.")


def _reopen(item: BillingPlanItem, reviewer: str, *, lost: bool) -> None:
    fresh = BillingPlanItem.objects.select_for_update().get(pk=item.pk)
    if fresh.state != ItemState.HELD:
        return
    fresh.hold_code = fresh.hold_reason = ""
    fresh.reviewed_by, fresh.updated_at = reviewer, clock.now()
    if fresh.invoice_id is not None and not lost:
        fresh.state = ItemState.READY  # its lines are frozen and charged: the same order goes on
    else:
        fresh.state, fresh.invoice, fresh.lines, fresh.total_cents = ItemState.WAITING, None, [], 0
        fresh.usage, fresh.usage_digest = {}, ""
    fresh.save()


def resume_order(invoice: UsageInvoice) -> None:
    """A held order is on its way again."""
    held = UsageInvoice.objects.filter(pk=invoice.pk, status=UsageStatus.HELD)
    held.update(status=UsageStatus.PLANNED, hold_code="", hold_reason="", updated_at=clock.now())
