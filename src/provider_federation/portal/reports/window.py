"""Which months a report is about, and the buckets that the database sorts instants into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import DateTimeField, F, Func, IntegerField, Value

from provider_federation.kit.problem import Problem
from provider_federation.money import Period
from provider_federation.portal.revenue.periods import month, month_now

MOST_MONTHS = 60
USUAL_MONTHS = 12


@dataclass(frozen=True)
class Window:
    """Billing months without a gap, oldest first."""

    months: tuple[Period, ...]

    @property
    def start(self) -> datetime:
        return self.months[0].start

    @property
    def end(self) -> datetime:
        return self.months[-1].end

    @property
    def labels(self) -> list[str]:
        return [one.label for one in self.months]

    @property
    def label(self) -> str:
        """`2026-01` or `2026-01 to 2026-03`."""
        first, last = self.months[0].label, self.months[-1].label
        return first if first == last else f"{first} to {last}"

    def bucket(self, column: str) -> Func:
        """The number of the month (from 1) that an instant in `column` falls into, by the months' own bounds: the
        billing zone's midnights, daylight saving included.
        """
        bounds = [one.start for one in self.months]
        array: Any = Value(bounds, output_field=ArrayField(DateTimeField()))
        return Func(F(column), array, function="width_bucket", output_field=IntegerField())

    def month_of(self, bucket: int) -> str:
        return self.months[bucket - 1].label


def window_asked(first: str | None, last: str | None) -> Window:
    """The months from `first` to `last`, both included; the last twelve with the running one when nothing is
    given, up to the running one without `last`. Problem 400 `bad_date`.
    """
    end = month(last) if last else month_now()
    if first is None:
        return _last(USUAL_MONTHS, end)
    months = [month(first)]
    if months[0].start > end.start:
        raise Problem(400, "bad_date", "The first month comes after the last one.")
    while months[-1].start < end.start:
        if len(months) == MOST_MONTHS:
            raise Problem(400, "bad_date", f"A report covers at most {MOST_MONTHS} months.")
        months.append(months[-1].next())
    return Window(tuple(months))


def _last(count: int, end: Period) -> Window:
    months: Sequence[Period] = [end]
    while len(months) < count:
        months = [months[0].previous(), *months]
    return Window(tuple(months))
