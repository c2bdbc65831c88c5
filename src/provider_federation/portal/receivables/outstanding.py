"""What is open and owed, over both kinds of invoice: pages, batches and sums, none of which needs all of it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from django.db.models import CharField, Count, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Lower, NullIf

from provider_federation.kit import clock
from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.ledger import KINDS, total
from provider_federation.portal.receivables.models import Receivable
from provider_federation.portal.receivables.queries import BUCKETS
from provider_federation.portal.revenue.models import EventState, StripeEvent, UsageInvoice, UsageStatus

Order: TypeAlias = Literal["age", "amount", "client"]
_ORDERS: Mapping[str, tuple[str, ...]] = {
    "age": ("due", "key"),
    "amount": ("money", "-owed", "due", "key"),
    "client": ("client", "due", "key"),
}
_BATCH = 200


@dataclass(frozen=True)
class Asked:
    """Which open invoices: of one client or of all, past their due date or all."""

    client: Instance | None = None
    overdue: bool = False


@dataclass(frozen=True)
class OpenPage:
    """The longest overdue first. `next_cursor` is None on the last page."""

    items: list[Receivable]
    next_cursor: str | None


@dataclass(frozen=True)
class Ages:
    """What is outstanding in one currency, by how long it is overdue. Currencies are never added up."""

    currency: str
    invoices: int
    outstanding: int
    overdue: int
    buckets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unknown:
    """What the sums cannot hold yet: Stripe's events that were not applied, usage invoices that are not out."""

    events_waiting: int
    events_parked: int
    held: int
    on_the_way: int

    @property
    def complete(self) -> bool:
        """Nothing is known to be missing."""
        return not (self.events_waiting or self.events_parked or self.held or self.on_the_way)


def list_open(asked: Asked, *, cursor: str = "", limit: int = 50) -> OpenPage:
    """One page, oldest due date first. Rows that come or go meanwhile move no other over the edge of a page.
    Problem 400 `bad_cursor`.
    """
    behind = _behind(cursor) if cursor else Q()
    found = _rows(_keys(asked, behind=behind)[: limit + 1])
    items = found[:limit]
    return OpenPage(items, _cursor(items[-1]) if len(found) > limit else None)


def open_slice(asked: Asked, order: Order, start: int, stop: int) -> list[Receivable]:
    """The rows from `start` until before `stop` in one of the page's orders."""
    return _rows(_keys(asked, order)[start:stop])


def every_open(asked: Asked, order: Order = "age") -> Iterator[Receivable]:
    """All of them, a few hundred rows in memory at a time."""
    keys = list(_keys(asked, order))
    for start in range(0, len(keys), _BATCH):
        yield from _rows(keys[start : start + _BATCH])


def open_batches(due_before: datetime) -> Iterator[list[Receivable]]:
    """Whatever was due by then, in batches by id: each is read when the one before it is done with."""
    for kind in KINDS:
        last = ""
        while batch := list(
            _open(kind, Asked()).filter(due__lte=due_before, key__gt=last).order_by("key")[:_BATCH]
        ):
            yield batch
            last = str(batch[-1].stripe_invoice_id)


def count_open(asked: Asked) -> int:
    return sum(_open(kind, asked).count() for kind in KINDS)


def ages(client: Instance | None = None) -> list[Ages]:
    """The sums of all that is open, an entry a currency: one grouped query a table, however many rows."""
    counts: dict[str, int] = {}
    sums: dict[str, dict[str, int]] = {}
    aged = {f"aged_{low}": total("remaining_cents", _aged(place)) for place, (low, _) in enumerate(BUCKETS)}
    for kind in KINDS:
        groups = _open(kind, Asked(client)).order_by().values("currency")
        for group in groups.annotate(invoices=Count("pk"), **aged):
            currency = group["currency"]
            buckets = sums.setdefault(currency, dict.fromkeys((name for _, name in BUCKETS), 0))
            counts[currency] = counts.get(currency, 0) + group["invoices"]
            for low, name in BUCKETS:
                buckets[name] += group[f"aged_{low}"]
    return [_ages(currency, counts[currency], buckets) for currency, buckets in sorted(sums.items())]


def unknown() -> Unknown:
    """As of now."""
    events = dict(
        StripeEvent.objects.filter(state__in=(EventState.PENDING, EventState.PARKED))
        .order_by()
        .values_list("state")
        .annotate(count=Count("pk"))
    )
    unsent = (UsageStatus.HELD, UsageStatus.PLANNED, UsageStatus.PLACING)
    rows = UsageInvoice.objects.filter(status__in=unsent).order_by()
    counts = rows.aggregate(held=Count("pk", filter=Q(status=UsageStatus.HELD)), every=Count("pk"))
    return Unknown(
        events.get(EventState.PENDING, 0),
        events.get(EventState.PARKED, 0),
        counts["held"],
        counts["every"] - counts["held"],
    )


def _open(kind: str, asked: Asked) -> QuerySet[Any]:
    """With `due`, and `key`: Stripe's id, which every open invoice has."""
    rows = KINDS[kind].objects.filter(status=UsageStatus.OPEN, remaining_cents__gt=0)
    rows = rows.exclude(stripe_invoice_id=None).annotate(
        due=Coalesce("due_at", "finalized_at"), key=F("stripe_invoice_id")
    )
    rows = rows if asked.client is None else rows.filter(instance=asked.client)
    rows = rows.filter(due__lt=clock.now()) if asked.overdue else rows
    return _whole(kind, rows)


def _whole(kind: str, rows: QuerySet[Any]) -> QuerySet[Any]:
    rows = rows.select_related("instance")
    return rows.defer("usage") if KINDS[kind] is UsageInvoice else rows.select_related("subscription")


def _keys(asked: Asked, order: str = "age", behind: Q = Q()) -> Any:  # noqa: B008  never changed
    """(kind, Stripe's id) of both tables in one order, so that a page of them is a page of all."""
    name = Coalesce(NullIf("instance__title", Value("")), "instance__name", output_field=CharField())
    parts = [
        _open(kind, asked)
        .filter(behind)
        .order_by()
        .annotate(
            kind_=Value(kind, output_field=CharField()),
            client=Lower(name),
            owed=F("remaining_cents"),
            money=F("currency"),
        )
        .values_list("kind_", "key", "due", "client", "owed", "money")
        for kind in KINDS
    ]
    return parts[0].union(*parts[1:], all=True).order_by(*_ORDERS[order])


def _rows(keys: Any) -> list[Receivable]:
    """The invoices behind the keys, in their order."""
    wanted = [(kind, key) for kind, key, *_ in keys]
    found: dict[str, Receivable] = {}
    for kind, model in KINDS.items():
        ids = [key for name, key in wanted if name == kind]
        if ids:
            rows = _whole(kind, model.objects.filter(stripe_invoice_id__in=ids))
            found |= {row.stripe_invoice_id: row for row in rows}
    return [found[key] for _, key in wanted if key in found]


def _cursor(row: Receivable) -> str:
    due = row.due_at or row.finalized_at
    assert due is not None
    return encode_cursor(due.isoformat(), str(row.stripe_invoice_id))


def _behind(cursor: str) -> Q:
    at, key = decode_cursor(cursor, (str, str))
    try:
        due = datetime.fromisoformat(str(at))
    except ValueError:
        due = None
    if due is None or due.tzinfo is None or "\x00" in str(key):
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    return Q(due__gt=due) | Q(due=due, key__gt=key)


def _aged(place: int) -> Q:
    """Whose whole days overdue fall into the bucket: `low` days are begun when `low - 1` are over."""
    now = clock.now()
    until = Q(due__lt=now) if place == 1 else Q(due__lte=now - timedelta(days=BUCKETS[place][0] - 1))
    if place == 0:
        return Q(due__gte=now)
    older = BUCKETS[place + 1][0] if place + 1 < len(BUCKETS) else None
    return until if older is None else until & Q(due__gt=now - timedelta(days=older - 1))


def _ages(currency: str, invoices: int, buckets: Mapping[str, int]) -> Ages:
    outstanding = sum(buckets.values())
    return Ages(currency, invoices, outstanding, outstanding - buckets[BUCKETS[0][1]], tuple(buckets.items()))
