"""Monthly recurring revenue and why it moved, from the history of plans.

A client's MRR is the monthly fee of the plan in force. A trial does not recur: it counts from its end, if the
plan still is in force then. A client in arrears counts until its plan ends. What a change belongs to is the
month it took effect in, `[start, end)`; movements are the difference between a month's opening and its close,
so that a month's `closing` is `opening` and its movements, to the cent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any
from uuid import UUID

from provider_federation.money import find_plan
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.reports.window import Window
from provider_federation.portal.subscriptions.models import PlanChange

Event = tuple[datetime, str, int]
"""From then on: currency, monthly fee in minor units."""


@dataclass(frozen=True)
class Movement:
    """One month in one currency, in minor units. `contraction` and `churn` are negative. `clients` pay at its
    close.
    """

    opening: int = 0
    new: int = 0
    expansion: int = 0
    contraction: int = 0
    churn: int = 0
    reactivation: int = 0
    clients: int = 0

    @property
    def closing(self) -> int:
        return self.opening + self.new + self.expansion + self.contraction + self.churn + self.reactivation

    def plus(self, other: Movement) -> Movement:
        """Field by field."""
        return Movement(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Movement)}
        )


@dataclass(frozen=True)
class MovementRow:
    """`month` is `YYYY-MM`."""

    month: str
    currency: str
    movement: Movement


def mrr(window: Window, *, client: Instance | None = None) -> list[MovementRow]:
    """Every month of the window in every currency that ever recurred in it, oldest first. One query."""
    sums: dict[tuple[int, str], Movement] = {}
    bounds = [*(one.start for one in window.months), window.end]
    for _, events in _timelines(window, client):
        for currency in {currency for _, currency, _ in events}:
            for number, movement in _movements([one for one in events if one[1] == currency], bounds):
                sums[number, currency] = sums.get((number, currency), Movement()).plus(movement)
    currencies = sorted({currency for _, currency in sums})
    return [
        MovementRow(month.label, currency, sums.get((number, currency), Movement()))
        for number, month in enumerate(window.months)
        for currency in currencies
    ]


def _timelines(window: Window, client: Instance | None) -> Iterator[tuple[UUID, list[Event]]]:
    rows = PlanChange.objects.filter(effective_at__lt=window.end)
    rows = rows.filter(instance=client) if client is not None else rows
    names = ("instance_id", "plan", "effective_at", "subscription__trial_end", "subscription__currency")
    found = rows.order_by("instance_id", "effective_at", "id").values_list(*names, "instance__currency")
    for key, changes in groupby(found.iterator(chunk_size=5000), key=lambda row: row[0]):
        yield key, list(_events(list(changes)))


def _events(changes: list[Any]) -> Iterator[Event]:
    """A client's changes as what recurs from when on; in the currency it pays in."""
    for number, (_, plan, at, trial_end, currency, own) in enumerate(changes):
        until = changes[number + 1][2] if number + 1 < len(changes) else None
        fee = find_plan(plan).fee_cents
        money = currency or own
        if fee and trial_end is not None and trial_end > at:
            yield at, money, 0
            if until is None or trial_end < until:
                yield trial_end, money, fee
        else:
            yield at, money, fee


def _movements(events: list[Event], bounds: list[datetime]) -> Iterator[tuple[int, Movement]]:
    """The months in which the client recurs or moves, by number."""
    instants = [at for at, _, _ in events]
    before = 0
    paid_before = False
    for number, (start, end) in enumerate(pairwise(bounds)):
        first, last = bisect_left(instants, start), bisect_left(instants, end)
        if number == 0:
            before = events[first - 1][2] if first else 0
            paid_before = any(fee for _, _, fee in events[:first])
        after = events[last - 1][2] if last else 0
        if before or after:
            yield number, _movement(before, after, paid_before=paid_before)
        paid_before = paid_before or any(fee for _, _, fee in events[first:last])
        before = after


def _movement(before: int, after: int, *, paid_before: bool) -> Movement:
    here = Movement(opening=before, clients=1 if after else 0)
    if before == after:
        return here
    if not before:
        return replace(here, reactivation=after) if paid_before else replace(here, new=after)
    if not after:
        return replace(here, churn=-before)
    return replace(here, **{"expansion" if after > before else "contraction": after - before})


def latest(rows: Iterable[MovementRow]) -> dict[str, Movement]:
    """The newest month's movement, by currency."""
    return {row.currency: row.movement for row in rows}
