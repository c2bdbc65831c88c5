"""A shard of an execution in few transactions: what is new and goes as planned, which is nearly everything.

Ordered in one transaction, placed side by side (`stripe_account.place_abreast`), applied in one. Whoever meets anything
else is left as far as it came, for the way of one client at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import OuterRef, Subquery

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.portal.audit.services import Happened, record_all
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun, ItemState
from provider_federation.portal.billing_runs.services.comparing import books_changed
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.planned import ClientPlan, PlannedLine
from provider_federation.portal.revenue.services.applying import apply_together
from provider_federation.portal.revenue.services.ordering import Ordered, first_invoices, order_together
from provider_federation.portal.revenue.services.placing import place_together
from provider_federation.portal.subscriptions.customers import known_customers
from provider_federation.stripe_account import StripeInvoice

_log = get_logger(__name__)


def bill_together(run: BillingRun, items: Sequence[BillingPlanItem]) -> set[int]:
    """The ids of those of these ready, vouched items that are billed now.

    The others are as far as `state` and `invoice` of the given items say afterwards. Raises OperationalError or
    InterfaceError when the database is away.
    """
    try:
        customers = known_customers([item.instance for item in items])
        ordered = _order(run, [item for item in items if item.instance_id in customers])
        return _conclude(place_together(ordered, customers)) if ordered else set()
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # noqa: BLE001  whatever it was, it is logged, and each client is tried alone
        _log.exception("clients could not be billed together", run=str(run.pk), clients=len(items))
        return set()


def _order(run: BillingRun, items: Sequence[BillingPlanItem]) -> list[Ordered]:
    try:
        with transaction.atomic():
            made = _ledger_rows(run, items)
    except (
        IntegrityError
    ):  # another invoice charged a lead of one of them: which one shows when they go alone
        return []
    ordered = {row.instance_id: row for row, _ in made}
    for item in items:
        if item.instance_id in ordered:
            item.state, item.invoice = ItemState.PLACING, ordered[item.instance_id]
    return made


def _ledger_rows(run: BillingRun, items: Sequence[BillingPlanItem]) -> list[Ordered]:
    # The clients first, then their items: the order of locks of everybody who orders an invoice.
    clients = Instance.objects.select_for_update(no_key=True).filter(
        pk__in=[one.instance_id for one in items]
    )
    instances = {one.pk: one for one in clients.order_by("pk").only("org_id", "currency")}
    ready = BillingPlanItem.objects.select_for_update().filter(
        pk__in=[item.pk for item in items], state=ItemState.READY, invoice=None
    )
    columns = ("instance_id", "currency", "usage", "usage_digest", "lines")
    fresh = {item.instance_id: item for item in ready.order_by("pk").only(*columns)}
    changed = books_changed(run.period, list(fresh.values()), instances)
    fresh = {key: item for key, item in fresh.items() if item.pk not in changed}
    rows = first_invoices([instances[key] for key in fresh], month(run.period), run.executed_by[:254])
    if not rows:
        return []
    plans = [_plan(fresh[row.instance_id]) for row in rows]
    ordered = order_together(list(zip(rows, plans, strict=True)), billing_run=run.pk)
    _send_off(run, [fresh[row.instance_id].pk for row in rows])
    record_all(_invoiced(run, row) for row in rows)
    return ordered


def _plan(item: BillingPlanItem) -> ClientPlan:
    lines = tuple(PlannedLine.from_json(line) for line in item.lines)
    return ClientPlan(lines, (), item.usage, item.usage_digest)


def _send_off(run: BillingRun, item_ids: Sequence[int]) -> None:
    mine = UsageInvoice.objects.filter(instance=OuterRef("instance"), period=run.period, billing_run=run.pk)
    BillingPlanItem.objects.filter(pk__in=item_ids).update(
        state=ItemState.PLACING, invoice=Subquery(mine.values("pk")[:1]), updated_at=clock.now()
    )


def _invoiced(run: BillingRun, row: UsageInvoice) -> Happened:
    facts = {
        "client": row.instance.org_id,
        "period": row.period,
        "total_cents": row.total_cents,
        "currency": row.currency,
    }
    return Happened(Event.USAGE_INVOICED, run.executed_by, f"usage_invoice:{row.pk}", facts)


def _conclude(placed: Sequence[tuple[UsageInvoice, StripeInvoice]]) -> set[int]:
    with transaction.atomic():
        # The items before their invoices, as everywhere.
        items = BillingPlanItem.objects.select_for_update().filter(
            invoice__in=[row for row, _ in placed], state=ItemState.PLACING
        )
        invoices = dict(items.order_by("pk").values_list("pk", "invoice_id"))
        applied = apply_together(placed)
        billed = {pk for pk, invoice in invoices.items() if invoice in applied}
        BillingPlanItem.objects.filter(pk__in=billed).update(state=ItemState.BILLED, updated_at=clock.now())
    return billed
