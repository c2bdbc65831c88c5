"""Which billing months a caller means, in the provider's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from django.conf import settings

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import BadDate, MoneyError, Period, parse_day

MOST_MONTHS = 24


@contextmanager
def money_problems(status: int = 400) -> Iterator[None]:
    """What money refuses becomes a Problem with the same code."""
    try:
        yield
    except MoneyError as error:
        raise Problem(status, error.code, error.message) from None


def month(label: str) -> Period:
    """The billing month `YYYY-MM`. Problem 400 `bad_date`."""
    with money_problems():
        return Period.month(label, settings.PROVIDER_TIME_ZONE)


def month_now() -> Period:
    """The billing month that runs now."""
    return Period.month_of(clock.now(), settings.PROVIDER_TIME_ZONE)


def latest_months(count: int) -> list[Period]:
    """The last billing months, the running one first."""
    months = [month_now()]
    while len(months) < count:
        months.append(months[-1].previous())
    return months


def months_asked(period: str | None, start: str | None, end: str | None) -> list[Period]:
    """The whole months of `?period=` or `?startDate=&endDate=`; the running month when nothing is given.

    Days are both included; instants (with a zone) are half open, and so is an end on the first of a month.
    AI usage is capped and rounded by the month, so a window that cuts one is a 400 `not_whole_months`.
    """
    if period is not None:
        if start is not None or end is not None:
            raise Problem(400, "bad_date", "Give either period, or both startDate and endDate.")
        return [month(period)]
    if start is None and end is None:
        return [month_now()]
    if start is None or end is None:
        raise Problem(400, "bad_date", "Give both startDate and endDate, or period=YYYY-MM.")
    with money_problems():
        return _whole_months(start, end)


def month_between(start: str, end: str) -> Period:
    """The one billing month from `periodStart` to `periodEnd`, written as in `months_asked`."""
    months = months_asked(None, start, end)
    if len(months) != 1:
        raise Problem(
            400, "not_one_month", "An invoice is for one billing month; give its first and its last day."
        )
    return months[0]


def label_of(months: list[Period]) -> str:
    """`2026-02`, or `2026-01 to 2026-03`."""
    return months[0].label if len(months) == 1 else f"{months[0].label} to {months[-1].label}"


def _whole_months(start: str, end: str) -> list[Period]:
    opens, closes = _first_instant(start), _last_instant(end)
    if closes <= opens:
        raise BadDate("The window ends before it starts.")
    months = [Period.month_of(opens, settings.PROVIDER_TIME_ZONE)]
    while months[-1].end < closes:
        if len(months) == MOST_MONTHS:
            raise BadDate(f"A window may have at most {MOST_MONTHS} months.")
        months.append(months[-1].next())
    if months[0].start != opens or months[-1].end != closes:
        raise Problem(
            400,
            "not_whole_months",
            "Usage is billed by the month; give whole months, for instance period=2026-02.",
        )
    assert all(one.end == other.start for one, other in pairwise(months))
    return months


def _first_instant(text: str) -> datetime:
    return _instant(text) if "T" in text else _midnight(parse_day(text))


def _last_instant(text: str) -> datetime:
    if "T" in text:
        return _instant(text)
    day = parse_day(text)
    return _midnight(day if day.day == 1 else day + timedelta(days=1))


def _midnight(day: date) -> datetime:
    # The start of that day in the billing zone: only the first of a month can begin or end a billing month.
    first = Period.month(f"{day.year:04d}-{day.month:02d}", settings.PROVIDER_TIME_ZONE).start
    return first if day.day == 1 else first + timedelta(days=day.day - 1)


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadDate("This is not a date; write it as YYYY-MM-DD.") from None
    if at.tzinfo is None:
        raise BadDate("This instant has no time zone; end it with Z, or write a day as YYYY-MM-DD.")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise BadDate("This date is out of range.") from None
