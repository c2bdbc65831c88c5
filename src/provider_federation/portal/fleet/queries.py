"""What the mirror and the runs tell. Every sum over instances comes with its coverage; nothing here calls
an instance.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import BigIntegerField, Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncMonth

from provider_federation.kit import clock
from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.models import (
    CallStatus,
    ClientInvoice,
    FleetCall,
    FleetRun,
    InvoiceStatus,
    SyncState,
)

Grouping = Literal["status", "client", "month"]
_BILLED = Q(status__in=[InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.UNCOLLECTIBLE])
_LEAST_PATIENCE = timedelta(minutes=3)


@dataclass(frozen=True)
class Stale:
    """An instance whose figures are old: since when (None: it never answered), and why."""

    instance: Instance
    since: datetime | None
    code: str
    sentence: str


@dataclass(frozen=True)
class Coverage:
    """How much of the truth a sum holds: `answered` of `of` enabled instances, the others in `stale`.

    `as_of` is the oldest of the fresh instances' times. `disabled` instances are in no sum; here is how
    many they are.
    """

    answered: int
    of: int
    stale: tuple[Stale, ...]
    as_of: datetime | None
    disabled: int = 0

    @property
    def complete(self) -> bool:
        return self.answered == self.of

    def __str__(self) -> str:
        when = f", as of {self.as_of:%Y-%m-%d %H:%M} UTC" if self.as_of else ""
        return f"{self.answered} of {self.of}{when}"


@dataclass(frozen=True)
class TotalsRow:
    """Sums of one group in one currency, in its minor unit. Paid is what was collected on the invoices;
    drafts are not billed.
    """

    key: str
    label: str
    currency: str
    count: int
    total_cents: int
    draft_cents: int
    billed_cents: int
    paid_cents: int
    outstanding_cents: int


@dataclass(frozen=True)
class Totals:
    """Rows of one grouping (newest month, largest client first), the sum per currency, and what they
    cover.
    """

    rows: tuple[TotalsRow, ...]
    sums: tuple[TotalsRow, ...]
    coverage: Coverage


@dataclass(frozen=True)
class InvoiceFilter:
    """Which invoices; everything may be left out. `since` and `before` bound `created_at`, half open.
    `search` is plain text.
    """

    instance_ids: tuple[uuid.UUID, ...] = ()
    statuses: tuple[str, ...] = ()
    currency: str = ""
    since: datetime | None = None
    before: datetime | None = None
    search: str = ""


@dataclass(frozen=True)
class InvoicePage:
    """Newest first; `next_cursor` is empty on the last page."""

    items: tuple[ClientInvoice, ...]
    next_cursor: str
    coverage: Coverage


@dataclass(frozen=True)
class Progress:
    """How a run stands: calls by status. `finished` of `total` are over, whatever came of them."""

    total: int = 0
    waiting: int = 0
    running: int = 0
    ok: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        return self.ok + self.failed + self.cancelled


@dataclass(frozen=True)
class RunView:
    """A run with its progress and, where asked for, a page of its calls in the order they were made."""

    run: FleetRun
    progress: Progress
    calls: tuple[FleetCall, ...] = field(default=())
    next_cursor: str = ""


def coverage() -> Coverage:
    """How fresh the mirror is right now, over all enabled instances."""
    instances = list(Instance.objects.select_related("sync_state").order_by("name"))
    enabled = [instance for instance in instances if instance.enabled]
    stale = tuple(found for instance in enabled if (found := _stale(instance)) is not None)
    behind = {one.instance.pk for one in stale}
    fresh = [instance.sync_state.synced_at for instance in enabled if instance.pk not in behind]
    return Coverage(
        answered=len(enabled) - len(stale),
        of=len(enabled),
        stale=stale,
        as_of=min((at for at in fresh if at is not None), default=None),
        disabled=len(instances) - len(enabled),
    )


def totals(by: Grouping = "status", chosen: InvoiceFilter | None = None) -> Totals:
    """Sums by status, client or month (of `created_at`, in the provider's time zone), each currency by
    itself.
    """
    invoices = _filtered(chosen or InvoiceFilter())
    rows = [_row(group, *_name(by, group)) for group in _grouped(invoices, by)]
    rows.sort(
        key=lambda row: (row.key, row.currency) if by != "client" else (row.label, row.currency),
        reverse=by == "month",
    )
    sums = [
        _row(group, "all", "All")
        for group in _summed(invoices.order_by().values("currency")).order_by("currency")
    ]
    return Totals(tuple(rows), tuple(sums), coverage())


def page_of_invoices(chosen: InvoiceFilter | None = None, cursor: str = "", limit: int = 50) -> InvoicePage:
    """A page of the mirror. Problem 400 `bad_cursor`."""
    invoices = _filtered(chosen or InvoiceFilter()).select_related("instance").order_by("-created_at", "-id")
    if cursor:
        at, last = decode_cursor(cursor, (str, int))
        invoices = invoices.filter(_after(_read_instant(str(at)), int(last)))
    items = list(invoices[: limit + 1])
    more = items[limit - 1] if len(items) > limit else None
    following = encode_cursor(more.created_at.isoformat(), more.pk) if more else ""
    return InvoicePage(tuple(items[:limit]), following, coverage())


def all_invoices(chosen: InvoiceFilter | None = None) -> Iterable[ClientInvoice]:
    """Every invoice that the filter lets through, newest first, streamed."""
    found = _filtered(chosen or InvoiceFilter()).select_related("instance").order_by("-created_at", "-id")
    return found.iterator(chunk_size=1000)


def page_of_runs(cursor: str = "", limit: int = 25) -> tuple[tuple[RunView, ...], str]:
    """Runs, newest first, with their progress, and the next cursor. Problem 400 `bad_cursor`."""
    runs = FleetRun.objects.order_by("-created_at", "-id")
    if cursor:
        at, last = decode_cursor(cursor, (str, str))
        instant, run_id = _read_instant(str(at)), _cursor_uuid(str(last))
        runs = runs.filter(Q(created_at__lt=instant) | Q(created_at=instant, id__lt=run_id))
    found = list(runs[: limit + 1])
    more = found[limit - 1] if len(found) > limit else None
    following = encode_cursor(more.created_at.isoformat(), str(more.pk)) if more else ""
    standing = _progress([run.pk for run in found[:limit]])
    return tuple(RunView(run, standing.get(run.pk, Progress())) for run in found[:limit]), following


def run_with_calls(run_id: uuid.UUID, cursor: str = "", limit: int = 100, status: str = "") -> RunView:
    """One run, its progress, and a page of its calls. Problem 404, 400 `bad_cursor`."""
    run = FleetRun.objects.filter(pk=run_id).first()
    if run is None:
        raise not_found("run")
    calls = run.calls.select_related("instance").order_by("id")
    if status:
        calls = calls.filter(status=status)
    if cursor:
        calls = calls.filter(pk__gt=decode_cursor(cursor, (int,))[0])
    found = list(calls[: limit + 1])
    following = encode_cursor(found[limit - 1].pk) if len(found) > limit else ""
    return RunView(run, _progress([run.pk]).get(run.pk, Progress()), tuple(found[:limit]), following)


def instances_named(ids: Sequence[str]) -> list[Instance]:
    """The instances with these ids. Problem 404 when one is unknown: a typo never narrows a run in
    silence.
    """
    wanted = {read_uuid(one, "instance") for one in ids}
    found = list(Instance.objects.filter(pk__in=wanted))
    if len(found) != len(wanted):
        raise not_found("instance")
    return found


def enabled_instances() -> list[Instance]:
    return list(Instance.objects.filter(enabled=True))


def read_uuid(text: str, what: str) -> uuid.UUID:
    """An id from the wire; what cannot be one is as unknown as any other."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise not_found(what) from None


def _stale(instance: Instance) -> Stale | None:
    state: SyncState | None = getattr(instance, "sync_state", None)
    if state is None or state.synced_at is None:
        code = state.last_outcome if state and state.failures else "never_synced"
        return Stale(
            instance,
            None,
            code,
            (state.last_sentence if state else "") or "It was never read to the end yet.",
        )
    if state.failures:
        return Stale(instance, state.synced_at, state.last_outcome, state.last_sentence)
    if state.rebuilding:
        return Stale(
            instance, state.synced_at, "rebuilding", "Its invoices are being read again from the beginning."
        )
    patience = max(_LEAST_PATIENCE, timedelta(seconds=3 * settings.SYNC_EVERY_SECONDS))
    if clock.now() - state.synced_at > patience:
        return Stale(
            instance, state.synced_at, "overdue", "Its turn has passed; check that a worker is running."
        )
    return None


def _filtered(chosen: InvoiceFilter) -> QuerySet[ClientInvoice]:
    invoices = ClientInvoice.objects.filter(instance__enabled=True)
    if chosen.instance_ids:
        invoices = invoices.filter(instance_id__in=chosen.instance_ids)
    if chosen.statuses:
        invoices = invoices.filter(status__in=chosen.statuses)
    if chosen.currency:
        invoices = invoices.filter(currency=chosen.currency.lower())
    if chosen.since:
        invoices = invoices.filter(created_at__gte=chosen.since)
    if chosen.before:
        invoices = invoices.filter(created_at__lt=chosen.before)
    if chosen.search:
        word = chosen.search.replace("\x00", "")[:100]
        invoices = invoices.filter(
            Q(number__icontains=word)
            | Q(customer_name__icontains=word)
            | Q(customer_email__icontains=word)
            | Q(stripe_invoice_id=word)
        )
    return invoices


def _grouped(invoices: QuerySet[ClientInvoice], by: Grouping) -> Iterable[Mapping[str, Any]]:
    bare = invoices.order_by()
    if by == "status":
        return _summed(bare.values("status", "currency"))
    if by == "client":
        return _summed(bare.values("instance_id", "instance__title", "instance__name", "currency"))
    month = TruncMonth("created_at", tzinfo=ZoneInfo(settings.PROVIDER_TIME_ZONE))
    return _summed(bare.annotate(month=month).values("month", "currency"))


def _summed(groups: QuerySet[ClientInvoice, Any]) -> QuerySet[ClientInvoice, Any]:
    outstanding = F("total_cents") - F("amount_paid_cents")
    return groups.annotate(
        count=Count("pk"),
        total=_sum("total_cents"),
        draft=_sum("total_cents", Q(status=InvoiceStatus.DRAFT)),
        billed=_sum("total_cents", _BILLED),
        paid=_sum("amount_paid_cents", _BILLED),
        outstanding=_sum(outstanding, Q(status=InvoiceStatus.OPEN)),
    )


def _sum(what: Any, condition: Q | None = None) -> Coalesce:
    return Coalesce(Sum(what, filter=condition), 0, output_field=BigIntegerField())


def _name(by: Grouping, group: Mapping[str, Any]) -> tuple[str, str]:
    if by == "status":
        return group["status"], InvoiceStatus(group["status"]).label
    if by == "client":
        return str(group["instance_id"]), group["instance__title"] or group["instance__name"]
    return f"{group['month']:%Y-%m}", f"{group['month']:%b %Y}"


def _row(group: Mapping[str, Any], key: str, label: str) -> TotalsRow:
    return TotalsRow(
        key=key,
        label=label,
        currency=group["currency"],
        count=group["count"],
        total_cents=group["total"],
        draft_cents=group["draft"],
        billed_cents=group["billed"],
        paid_cents=group["paid"],
        outstanding_cents=group["outstanding"],
    )


def _progress(run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Progress]:
    counts: dict[uuid.UUID, dict[str, int]] = {}
    grouped = (
        FleetCall.objects.filter(run__in=run_ids)
        .order_by()
        .values_list("run_id", "status")
        .annotate(count=Count("pk"))
    )
    for run_id, status, count in grouped:
        counts.setdefault(run_id, {})[CallStatus(status).value] = count
    return {run_id: Progress(total=sum(each.values()), **each) for run_id, each in counts.items()}


def _after(at: datetime, last: int) -> Q:
    return Q(created_at__lt=at) | Q(created_at=at, id__lt=last)


def _read_instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _not_ours() from None
    if at.tzinfo is None:
        raise _not_ours()
    return at


def _cursor_uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise _not_ours() from None


def _not_ours() -> Problem:
    return Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
