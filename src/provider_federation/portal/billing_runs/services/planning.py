"""The first phase: every client's usage is pulled and rated, its lines are frozen, and the whole is hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import F, Sum

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.money import HeldReason, MoneyError, Period
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
from provider_federation.portal.billing_runs.services.settling import settle_plan
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.planned import ClientPlan
from provider_federation.portal.revenue.queries import live_usage_invoice
from provider_federation.portal.revenue.services.invoicing import too_early
from provider_federation.portal.revenue.services.rating import months_to_read, plan_client
from provider_federation.portal.revenue.usage import Reading, pull_many
from provider_federation.portal.subscriptions.queries import plan_in_force

Readings = Mapping[tuple[UUID, str], Reading | Problem]
HELD_ELSEWHERE = HeldReason(
    "invoice_held", "Its invoice of this month is held on its way to Stripe; release or void that one first."
)
_BATCH = 1000
_log = get_logger(__name__)


def start_plan(label: str, *, actor: str) -> BillingRun:
    """Begin planning one month over all enabled clients. Problem 400 `bad_date`, 409 `period_open`,
    `run_exists`.
    """
    period = month(label)
    now = clock.now()
    if not period.closed(now):
        sentence = f"{label} is not over; plan it after {period.end:%Y-%m-%d %H:%M} UTC."
        raise Problem(409, "period_open", sentence)
    run = BillingRun(
        period=label,
        period_start=period.start,
        period_end=period.end,
        planned_by=actor,
        planners=[actor],
        created_at=now,
    )
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            clients = _add_items(run)
            defer_planning(run)
            record(Event.BILLING_PLAN_STARTED, actor, f"billing_run:{run.pk}", period=label, clients=clients)
    except IntegrityError:
        raise _exists(label) from None
    return run


def plan_items(run_id: UUID, item_ids: Sequence[int]) -> None:
    """Pull and rate those of these items that wait, then close the plan if they were its last."""
    run = BillingRun.objects.get(pk=run_id)
    if run.status == RunStatus.PLANNING:
        items = list(
            BillingPlanItem.objects.filter(pk__in=item_ids, run=run, state=ItemState.WAITING).select_related(
                "instance"
            )
        )
        period = month(run.period)
        months = {item.pk: months_to_read(item.instance, period) for item in items}
        readings = pull_many([(item.instance, one) for item in items for one in months[item.pk]])
        for item in items:
            rate_item(item, months[item.pk], readings)
    settle_plan(run_id)


def rate_item(item: BillingPlanItem, months: Sequence[Period], readings: Readings) -> None:
    """Freeze what one client is billed, or why it is held. A fault of our own holds this client only."""
    try:
        with transaction.atomic():
            locked = BillingPlanItem.objects.select_for_update().get(pk=item.pk)
            if locked.state != ItemState.WAITING:
                return
            locked.instance = item.instance
            _freeze(locked, months, readings)
            locked.save()
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged and spoils this client only
        _log.exception("a client could not be planned", run=str(item.run_id), instance=item.instance.name)
        reason = HeldReason("internal_error", "Something went wrong on the portal's side; its log says what.")
        _hold(item, [reason])
        item.save()


def _freeze(item: BillingPlanItem, months: Sequence[Period], readings: Readings) -> None:
    instance, period = item.instance, months[0]
    existing = live_usage_invoice(instance, period.label)
    item.previous_cents = _previous(instance, period)
    item.plan, item.currency = plan_in_force(instance, period.start), instance.currency
    item.updated_at = clock.now()
    if existing is not None and existing.status != UsageStatus.HELD:
        item.state, item.invoice = ItemState.ALREADY, existing
        return
    if existing is not None and existing.lines.exists():
        _hold(item, [HELD_ELSEWHERE])
        return
    found = [readings[instance.pk, one.label] for one in months]
    problem = next((one for one in found if isinstance(one, Problem)), None)
    if problem is not None:
        _hold(item, [HeldReason(problem.code, problem.message)])
        return
    _rate(item, months, [one for one in found if isinstance(one, Reading)])


def _rate(item: BillingPlanItem, months: Sequence[Period], readings: Sequence[Reading]) -> None:
    try:
        plan = plan_client(item.instance, months, readings, reviewed=bool(item.reviewed_by))
    except MoneyError as error:
        _hold(item, [HeldReason(error.code, error.message)])
        return
    item.usage, item.usage_digest = dict(plan.usage), plan.digest
    item.over_limits = list(plan.over_limits)
    held = plan.held or too_early(months[0], readings[0])
    if held:
        _hold(item, held)
        return
    _ready(item, plan)


def _ready(item: BillingPlanItem, plan: ClientPlan) -> None:
    item.lines = [line.to_json() for line in plan.lines]
    item.total_cents = plan.total_cents
    item.state = ItemState.READY if plan.lines else ItemState.NOTHING


def _hold(item: BillingPlanItem, reasons: Sequence[HeldReason]) -> None:
    item.state, item.lines, item.total_cents = ItemState.HELD, [], 0
    item.hold_code = reasons[0].code[:64]
    item.hold_reason = " ".join(reason.message for reason in reasons)[:500]
    item.updated_at = clock.now()


def _previous(instance: Instance, period: Period) -> int | None:
    """Before tax, as what is planned is."""
    rows = UsageInvoice.objects.filter(
        instance=instance, period=period.previous().label, currency=instance.currency
    )
    standing = rows.exclude(status__in=(UsageStatus.VOID, UsageStatus.HELD))
    return standing.annotate(net=Sum("lines__amount_cents")).values_list("net", flat=True).first()


def _add_items(run: BillingRun) -> int:
    enabled = Instance.objects.filter(enabled=True).order_by("pk").iterator(chunk_size=_BATCH)
    items = (
        BillingPlanItem(run=run, instance=one, currency=one.currency, updated_at=run.created_at)
        for one in enabled
    )
    return len(BillingPlanItem.objects.bulk_create(items, batch_size=_BATCH))


def _exists(label: str) -> Problem:
    living = BillingRun.objects.filter(period=label, status__in=LIVING).annotate(key=F("pk")).first()
    which = f" ({living.status}, {living.pk})" if living else ""
    return Problem(409, "run_exists", f"{label} has a billing run already{which}; go on with that one.")
