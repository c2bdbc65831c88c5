"""Reading billing runs: the review of a plan, how far its execution is, and the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

from django.db.models import BigIntegerField, Count, F, Q, QuerySet, Sum
from django.db.models.functions import Abs, Cast, Coalesce

from provider_federation.kit.csv_cells import csv_lines
from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.billing_runs.models import UNDER_WAY, BillingPlanItem, BillingRun, ItemState
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.queries import after_cursor

UNAVAILABLE = ("instance_unavailable", "instance_bad_answer")
"""Held because the instance could not be read: these are what coverage misses."""
SORTS = ("client", "difference", "total")
_TO_BILL = (ItemState.READY, ItemState.PLACING, ItemState.BILLED)


@dataclass(frozen=True)
class Sums:
    """Amounts in minor units of one currency, before tax. `planned`: what the plan bills; `billed`: what of it is final in
    Stripe; `before`: the same clients' invoices of the month before; `to_bill`: what of the plan is still to come.
    """

    planned: int = 0
    billed: int = 0
    before: int = 0
    to_bill: int = 0


@dataclass(frozen=True)
class Report:
    """A run by its rows, now. `states` counts items by state, `holds` those held by code, `totals` is by
    currency. Of `clients` that should be billed `read` could be asked; `disabled` clients are in no run.
    """

    run: BillingRun
    clients: int
    read: int
    disabled: int
    states: dict[str, int]
    holds: dict[str, int]
    totals: dict[str, Sums]

    @property
    def finished(self) -> int:
        """Items that nothing more happens to in this phase."""
        return self.clients - sum(self.states.get(state, 0) for state in ("waiting", "ready", "placing"))


@dataclass(frozen=True)
class ItemPage:
    """`next_cursor` is None on the last page."""

    items: list[BillingPlanItem]
    next_cursor: str | None


@dataclass(frozen=True)
class RunPage:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[BillingRun]
    next_cursor: str | None


def get_run(run_id: str) -> BillingRun:
    """Problem 404 when there is none, or the id is not one."""
    try:
        key = UUID(run_id)
    except ValueError:
        raise not_found("billing run") from None
    found = BillingRun.objects.filter(pk=key).first()
    if found is None:
        raise not_found("billing run")
    return found


def list_runs(*, cursor: str = "", limit: int = 50) -> RunPage:
    """One page of runs. Problem 400 `bad_cursor`."""
    rows = BillingRun.objects.order_by("-created_at", "-id")
    if cursor:
        rows = rows.filter(after_cursor(cursor))
    items = list(rows[: limit + 1])
    more, items = len(items) > limit, items[:limit]
    return RunPage(
        items, encode_cursor(items[-1].created_at.isoformat(), str(items[-1].pk)) if more else None
    )


def report(run: BillingRun) -> Report:
    """Three grouped queries, however many clients."""
    items = BillingPlanItem.objects.filter(run=run).order_by()
    states = dict(items.values_list("state").annotate(count=Count("pk")))
    held = items.filter(state=ItemState.HELD)
    holds = dict(held.values_list("hold_code").annotate(count=Count("pk")).order_by("-count", "hold_code"))
    clients = sum(states.values())
    unread = sum(count for code, count in holds.items() if code in UNAVAILABLE)
    return Report(
        run=run,
        clients=clients,
        read=clients - unread - states.get(ItemState.WAITING, 0),
        disabled=Instance.objects.filter(enabled=False).count(),
        states=states,
        holds=holds,
        totals=_totals(items),
    )


def _totals(items: QuerySet[BillingPlanItem]) -> dict[str, Sums]:
    rows = items.values("currency").annotate(
        planned=Coalesce(Sum("total_cents", filter=Q(state__in=_TO_BILL)), 0),
        billed=Coalesce(Sum("total_cents", filter=Q(state=ItemState.BILLED)), 0),
        before=Coalesce(Sum("previous_cents"), 0),
        to_bill=Coalesce(Sum("total_cents", filter=Q(state__in=UNDER_WAY)), 0),
    )
    return {
        row["currency"]: Sums(row["planned"], row["billed"], row["before"], row["to_bill"])
        for row in rows.order_by("currency")
    }


def list_items(
    run: BillingRun, *, state: str = "", sort: str = "client", cursor: str = "", limit: int = 50
) -> ItemPage:
    """One page of the review. `sort`: by client, by `difference` from last month (largest first), or by `total`.
    Problem 400 `invalid_field`, `bad_cursor`.
    """
    rows = _sorted(run, state, sort)
    start = _position(cursor)
    items = list(rows[start : start + limit + 1])
    more = len(items) > limit
    return ItemPage(items[:limit], encode_cursor(start + limit) if more else None)


def review(run: BillingRun, state: str = "") -> QuerySet[BillingPlanItem]:
    """The items of a run with `change`: how far each total is from last month's, up or down."""
    return _sorted(run, state, "client")


def every_item(run: BillingRun) -> Iterator[BillingPlanItem]:
    """All items by client name, a chunk at a time."""
    return _sorted(run, "", "client").iterator(chunk_size=200)


def report_csv(run: BillingRun) -> Iterator[str]:
    """A row a client, a line at a time; amounts are whole numbers in minor units."""
    return csv_lines(chain([_HEADER], map(_cells, every_item(run))))


def _sorted(run: BillingRun, state: str, sort: str) -> QuerySet[BillingPlanItem]:
    if state and state not in ItemState.values:
        raise Problem(400, "invalid_field", f"state: one of {', '.join(ItemState.values)}.", field="state")
    if sort not in SORTS:
        raise Problem(400, "invalid_field", f"sort: one of {', '.join(SORTS)}.", field="sort")
    rows = BillingPlanItem.objects.filter(run=run).select_related("instance", "invoice")
    rows = rows.defer("usage", "invoice__usage")
    if state:
        rows = rows.filter(state=state)
    change = Abs(F("total_cents") - Cast(Coalesce("previous_cents", 0), BigIntegerField()))
    orders = {
        "client": ("instance__name", "pk"),
        "total": ("-total_cents", "pk"),
        "difference": ("-change", "pk"),
    }
    return rows.annotate(change=change).order_by(*orders[sort])


def _position(cursor: str) -> int:
    """Where a page begins: the order may be by figures that change, so a page is counted off."""
    return max(0, int(decode_cursor(cursor, (int,))[0])) if cursor else 0


_HEADER = [
    "client",
    "instance",
    "state",
    "currency",
    "total (minor units)",
    "last month (minor units)",
    "lines",
    "leads",
    "late lines",
    "hold code",
    "hold reason",
    "invoice",
    "stripe invoice",
    "usage digest",
    "updated at",
]


def _cells(item: BillingPlanItem) -> list[str | int]:
    leads = sum(line["quantity"] for line in item.lines if line["kind"] == "leads")
    invoice = item.invoice
    return [
        item.instance.org_id,
        item.instance.name,
        item.state,
        item.currency.upper(),
        item.total_cents,
        item.previous_cents if item.previous_cents is not None else "",
        len(item.lines),
        leads,
        sum(1 for line in item.lines if line["lateFor"]),
        item.hold_code,
        item.hold_reason,
        invoice.number if invoice else "",
        (invoice.stripe_invoice_id or "") if invoice else "",
        item.usage_digest,
        _iso(item.updated_at),
    ]


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
