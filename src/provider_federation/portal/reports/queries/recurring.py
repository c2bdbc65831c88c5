"""Monthly recurring revenue and why it moved, from the history of plans.

A client's MRR is the monthly fee of the plan in force. A trial does not recur: it counts from its end, if the
plan still is in force then. A client in arrears counts until its plan ends. What a change belongs to is the
month it took effect in, `[start, end)`; movements are the difference between a month's opening and its close,
so that a month's `closing` is `opening` and its movements, to the cent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
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


@dataclass(frozen=True)
class MovementRow:
    """`month` is `YYYY-MM`."""

    month: str
    currency: str
    movement: Movement


def mrr(window: Window, *, client: Instance | None = None) -> list[MovementRow]:
    """Every month of the window in every currency that ever recurred in it, oldest first. One query."""
    sums: dict[str, list[Counter[str]]] = {}
    bounds = [*(one.start for one in window.months), window.end]
    for _, events in _timelines(window, client):
        for currency in {currency for _, currency, _ in events}:
            months = sums.setdefault(currency, [Counter() for _ in window.months])
            for number, name, cents in _movements([one for one in events if one[1] == currency], bounds):
                months[number][name] += cents
    return [
        MovementRow(month.label, currency, Movement(**sums[currency][number]))
        for number, month in enumerate(window.months)
        for currency in sorted(sums)
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


def _movements(events: list[Event], bounds: list[datetime]) -> Iterator[tuple[int, str, int]]:
    """A client's part of each month: its number, which figure of `Movement`, how much."""
    at = 0
    level, paid_before = 0, False
    for number, end in enumerate(bounds, -1):
        before, paid = level, paid_before
        while at < len(events) and events[at][0] < end:
            level = events[at][2]
            paid_before = paid_before or level > 0
            at += 1
        if number < 0:
            continue
        if before:
            yield number, "opening", before
        if level:
            yield number, "clients", 1
        if level != before:
            yield number, _name(before, level, paid_before=paid), level - before


def _name(before: int, after: int, *, paid_before: bool) -> str:
    if not before:
        return "reactivation" if paid_before else "new"
    if not after:
        return "churn"
    return "expansion" if after > before else "contraction"
