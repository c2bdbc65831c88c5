"""Billing periods: calendar months keep the anchor's day, and fall back to a shorter month's last day."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from fractions import Fraction

from provider_federation.testing.stripe_sim.objects.common import DAY

_SECONDS = {"day": DAY, "week": 7 * DAY}


def after_intervals(anchor: int, interval: str, count: int) -> int:
    """The moment `count` intervals after the anchor (negative: before)."""
    if interval in _SECONDS:
        return anchor + count * _SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + count * (12 if interval == "year" else 1)
    year, month = months // 12, months % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int(start.replace(year=year, month=month, day=day).timestamp())


def next_boundary(anchor: int, interval: str, count: int, moment: int) -> int:
    """The first period boundary strictly after `moment`, counted from the anchor."""
    periods = 0
    if moment >= anchor:
        rough = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY, "year": 366 * DAY}[interval] * count
        periods = (moment - anchor) // rough
    while after_intervals(anchor, interval, periods * count) <= moment:
        periods += 1
    return after_intervals(anchor, interval, periods * count)


def share(amount: int, start: int, end: int, moment: int) -> int:
    """The part of an amount that falls on [moment, end) of [start, end), by the second, rounded half up."""
    if end <= start:
        return 0
    part = Fraction(amount * (end - max(start, min(moment, end))), end - start)
    half_up = (abs(part) + Fraction(1, 2)).__floor__()
    return half_up if part >= 0 else -half_up
