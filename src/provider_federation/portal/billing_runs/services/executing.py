"""The second phase: exactly the approved plan goes to Stripe, by any number of workers, through any crash.

An item is taken under its row's lock, and from then on it is the ledger's row that says how far it is: two workers
on one item meet in the same journal and make one invoice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, transaction

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.money import HeldReason
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.billing_runs.models import (
    UNDER_WAY,
    BillingPlanItem,
    BillingRun,
    ItemState,
    RunStatus,
)
from provider_federation.portal.billing_runs.services.approving import check_untouched
from provider_federation.portal.billing_runs.services.billing_together import bill_together
from provider_federation.portal.billing_runs.services.comparing import books_changed, usage_changed
from provider_federation.portal.billing_runs.services.jobs import (
    defer_execution,
    defer_item,
    defer_preparation,
)
from provider_federation.portal.billing_runs.services.planning import HELD_ELSEWHERE
from provider_federation.portal.billing_runs.services.settling import locked_run, settle_run
from provider_federation.portal.billing_runs.services.stopping import resume_order
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.planned import ClientPlan, PlannedLine
from provider_federation.portal.revenue.queries import live_usage_invoice
from provider_federation.portal.revenue.services import place_usage_invoice
from provider_federation.portal.revenue.services.ordering import new_invoice, order_invoice, settle_months
from provider_federation.portal.subscriptions.services import provider_account
from provider_federation.stripe_account import KEY_LIFE, StripeFailed

_CLOCKS_DIFFER = timedelta(days=1)
_CLIENT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_log = get_logger(__name__)


def execute_plan(run_id: UUID, *, actor: str) -> BillingRun:
    """Begin to bill what was approved; a run that was cancelled on its way goes on where it stopped.

    Problem 404; 409 `not_approved`, `plan_tampered`, `run_exists`; 503 `stripe_not_configured`.
    """
    provider_account()
    try:
        with transaction.atomic():
            run = locked_run(run_id)
            if run.status != RunStatus.APPROVED and not (
                run.status == RunStatus.CANCELLED and run.approved_hash
            ):
                sentence = f"This run is {run.status}; only an approved one is executed."
                raise Problem(409, "not_approved", sentence)
            check_untouched(run, run.approved_hash)
            run.items.filter(state=ItemState.CANCELLED).update(state=ItemState.READY)
            run.status, run.executed_by = RunStatus.EXECUTING, actor
            run.started_at, run.finished_at = clock.now(), None
            run.save(update_fields=["status", "executed_by", "started_at", "finished_at"])
            defer_preparation(run)
            record(Event.BILLING_EXECUTED, actor, f"billing_run:{run.pk}", hash=run.approved_hash)
    except IntegrityError:
        raise Problem(409, "run_exists", "This month has another billing run by now.") from None
    return run


def prepare_execution(run_id: UUID) -> None:
    """List Stripe once for the whole run, so that no client's order has to be looked up by itself; then
    queue the work. Raises `StripeFailed` when Stripe should be asked later.
    """
    run = BillingRun.objects.get(pk=run_id)
    if run.status != RunStatus.EXECUTING:
        return
    known = _orders_there(run)
    with transaction.atomic():
        run = locked_run(run_id)
        if run.status != RunStatus.EXECUTING:
            return
        under_way = run.items.filter(state__in=UNDER_WAY)
        met = under_way if known is None else under_way.filter(instance__in=known)
        met.update(look_first=True)
        run.started_at = clock.now()
        run.save(update_fields=["started_at"])
        _settle_idle(run)
        defer_execution(run)


def _orders_there(run: BillingRun) -> set[UUID] | None:
    """The clients of whom Stripe has an order for this month already; None when that cannot be told."""
    try:
        since = run.period_end - _CLOCKS_DIFFER
        found = provider_account().list_invoices(since=since)
    except StripeFailed as failure:
        if failure.retryable:
            raise
        _log.warning("orders are looked up one by one", run=str(run.pk), code=failure.code)
        return None
    keys = (invoice.metadata.get("pf_key", "").split(":") for invoice in found)
    ours = (key for key in keys if len(key) == 4 and key[0] == "usage" and key[2] == run.period)
    return {UUID(key[1]) for key in ours if _CLIENT.fullmatch(key[1])}


def _settle_idle(run: BillingRun) -> None:
    """Clients with nothing to bill: what they used is the measure for later months all the same."""
    for item in run.items.filter(state=ItemState.NOTHING).select_related("instance").iterator(chunk_size=100):
        settle_months(item.instance, item.usage)


def execute_items(run_id: UUID, item_ids: Sequence[int]) -> None:
    """Bill those of these items that are still to be billed, then close the run if they were its last."""
    run = BillingRun.objects.get(pk=run_id)
    rows = BillingPlanItem.objects.filter(pk__in=item_ids, run=run, state__in=UNDER_WAY)
    items = list(rows.select_related("instance").order_by("pk").defer("lines", "over_limits"))
    fresh = [item for item in items if item.state == ItemState.READY and item.invoice_id is None]
    changed = usage_changed(run.period, fresh)
    same = [item for item in fresh if item.pk not in changed and _vouched(run, item)]
    billed = bill_together(run, same)
    for item in items:
        if item.pk not in billed:
            _execute(run, item, changed.get(item.pk))
    settle_run(run_id)


def _execute(run: BillingRun, item: BillingPlanItem, changed: HeldReason | None) -> None:
    """One client; a fault of our own spoils this one only, a database that is away ends the job."""
    try:
        if changed is not None:
            _hold(item.pk, changed)
        elif _take_up(run, item):
            _place(run, item)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged, and the others go on
        _log.exception("a client could not be billed", run=str(run.pk), instance=item.instance.name)
        sentence = "Something went wrong on the portal's side; its log says what."
        _hold(item.pk, HeldReason("internal_error", sentence))
        defer_item(item)  # does nothing for one that is held; one that is on its way must arrive


def place_item(item_id: int) -> None:
    """One client alone. Raises `StripeFailed` when it may work later."""
    item = BillingPlanItem.objects.select_related("instance", "run").get(pk=item_id)
    if item.state == ItemState.PLACING:
        place_usage_invoice(_invoice_of(item), vouched=_vouched(item.run, item))
        _conclude(item.pk)
    settle_run(item.run_id)


def _take_up(run: BillingRun, item: BillingPlanItem) -> bool:
    """Whether the item is on its way: its rows are in the ledger, made now or before."""
    if item.state == ItemState.PLACING:
        return True
    try:
        with transaction.atomic():
            return _order(run, item)
    except IntegrityError:
        # Another invoice charged one of its leads since it was planned; nothing of ours was written.
        sentence = "A lead of this plan was charged on another invoice since; plan this client again."
        _hold(item.pk, HeldReason("lead_already_charged", sentence))
        return False


def _order(run: BillingRun, item: BillingPlanItem) -> bool:
    # The client first, then its item: the order of locks of everybody who orders an invoice.
    instance = Instance.objects.select_for_update(no_key=True).get(pk=item.instance_id)
    fresh = BillingPlanItem.objects.select_for_update().get(pk=item.pk)
    if fresh.state != ItemState.READY:
        return fresh.state == ItemState.PLACING
    if fresh.invoice is not None:
        resume_order(fresh.invoice)
    else:
        existing = live_usage_invoice(instance, run.period)
        if existing is not None and existing.status != UsageStatus.HELD:
            _change(fresh, state=ItemState.ALREADY, invoice=existing)
            return False
        if existing is not None and existing.lines.exists():
            _change(
                fresh, state=ItemState.HELD, hold_code=HELD_ELSEWHERE.code, hold_reason=HELD_ELSEWHERE.message
            )
            return False
        changed = books_changed(run.period, [fresh], {instance.pk: instance}).get(fresh.pk)
        if changed is not None:
            _hold(fresh.pk, changed)
            return False
        fresh.invoice = _ledger_row(run, fresh, instance, existing)
    _change(fresh, state=ItemState.PLACING, invoice=fresh.invoice)
    item.invoice = fresh.invoice
    return True


def _ledger_row(
    run: BillingRun, item: BillingPlanItem, instance: Instance, existing: UsageInvoice | None
) -> UsageInvoice:
    row = existing or new_invoice(instance, month(run.period), run.executed_by[:254])
    lines = tuple(PlannedLine.from_json(line) for line in item.lines)
    order_invoice(row, ClientPlan(lines, (), item.usage, item.usage_digest), billing_run=run.pk)
    facts = {"period": row.period, "total_cents": row.total_cents, "currency": row.currency}
    subject = f"usage_invoice:{row.pk}"
    record(Event.USAGE_INVOICED, run.executed_by, subject, client=instance.org_id, **facts)
    return row


def _place(run: BillingRun, item: BillingPlanItem) -> None:
    try:
        place_usage_invoice(_invoice_of(item), vouched=_vouched(run, item))
    except StripeFailed as failure:
        _log.warning("placed later", run=str(run.pk), instance=item.instance.name, code=failure.code)
        defer_item(item)
        return
    _conclude(item.pk)


def _invoice_of(item: BillingPlanItem) -> UUID:
    assert item.invoice_id is not None, "an item that is placed has its row in the ledger"
    return item.invoice_id


def _vouched(run: BillingRun, item: BillingPlanItem) -> bool:
    """Whether the list at the start of this execution still speaks for Stripe."""
    young = run.started_at is not None and abs(clock.now() - run.started_at) < KEY_LIFE
    return young and not item.look_first


def _conclude(item_id: int) -> None:
    with transaction.atomic():
        item = (
            BillingPlanItem.objects.select_for_update(of=("self",)).select_related("invoice").get(pk=item_id)
        )
        row = item.invoice
        if item.state != ItemState.PLACING or row is None:
            return
        if row.status == UsageStatus.HELD:
            _change(item, state=ItemState.HELD, hold_code=row.hold_code, hold_reason=row.hold_reason)
        elif row.status == UsageStatus.VOID:
            sentence = "Its invoice was voided; plan this client again to bill it."
            _change(item, state=ItemState.HELD, hold_code="invoice_void", hold_reason=sentence)
        elif row.status not in {UsageStatus.PLANNED, UsageStatus.PLACING}:
            _change(item, state=ItemState.BILLED)


def _hold(item_id: int, reason: HeldReason) -> None:
    with transaction.atomic():
        item = BillingPlanItem.objects.select_for_update().get(pk=item_id)
        if item.state != ItemState.READY:
            return
        _change(item, state=ItemState.HELD, hold_code=reason.code[:64], hold_reason=reason.message[:500])
        record(Event.BILLING_ITEM_HELD, "system", f"billing_item:{item.pk}", code=reason.code)


def _change(item: BillingPlanItem, **changes: object) -> None:
    for name, value in changes.items():
        setattr(item, name, value)
    item.updated_at = clock.now()
    item.save(update_fields=[*changes, "updated_at"])
