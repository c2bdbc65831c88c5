"""Periods of time that are billed or looked at: half open, `[start, end)`, in UTC, made from a calendar in
the provider's zone.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from provider_federation.money.errors import BadDate, BadZone

RANGES = {"d7": 7, "d30": 30, "d90": 90, "all": 365}
"""`?range=` of the contract to days, including today (UTC)."""

_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


@dataclass(frozen=True)
class Period:
    """From `start` until before `end`, both aware and kept in UTC. Two periods are equal when their
    instants are.
    """

    start: datetime
    end: datetime
    label: str = field(default="", compare=False)
    zone: str = field(default="UTC", compare=False)

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise BadDate("A period needs instants with a time zone.")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))
        if self.start >= self.end:
            raise BadDate("A period ends after it starts.")
        if not self.label:
            last = self.end - timedelta(microseconds=1)
            object.__setattr__(self, "label", f"{self.start:%Y-%m-%d} to {last:%Y-%m-%d}")

    @classmethod
    def month(cls, label: str, zone: str = "UTC") -> Period:
        """The calendar month "YYYY-MM" in the IANA `zone`; BadDate or BadZone."""
        year, month = _read_month(label)
        start, end = _midnight(year, month, zone), _midnight(*_later(year, month), zone)
        return cls(start, end, label, zone)

    @classmethod
    def month_of(cls, at: datetime, zone: str = "UTC") -> Period:
        """The calendar month in `zone` that contains the instant `at`."""
        if at.tzinfo is None:
            raise BadDate("An instant needs a time zone.")
        local = at.astimezone(read_zone(zone))
        return cls.month(f"{local.year:04d}-{local.month:02d}", zone)

    @property
    def is_month(self) -> bool:
        return _MONTH.fullmatch(self.label) is not None

    def contains(self, at: datetime) -> bool:
        return self.start <= at < self.end

    def closed(self, now: datetime) -> bool:
        """Nothing more can fall into it."""
        return self.end <= now

    def next(self) -> Period:
        """The month after a month; for any other period the one of the same length right after it."""
        if self.is_month:
            year, month = _later(*_read_month(self.label))
            return Period.month(f"{year:04d}-{month:02d}", self.zone)
        return Period(self.end, self.end + (self.end - self.start), zone=self.zone)

    def previous(self) -> Period:
        """The month before a month; for any other period the one of the same length right before it."""
        if self.is_month:
            year, month = _read_month(self.label)
            year, month = (year - 1, 12) if month == 1 else (year, month - 1)
            return Period.month(f"{year:04d}-{month:02d}", self.zone)
        return Period(self.start - (self.end - self.start), self.start, zone=self.zone)


def read_zone(name: str) -> ZoneInfo:
    """The IANA zone; BadZone for a name that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadZone("This is not a time zone we know; give an IANA name such as Europe/Berlin.") from None


def parse_day(text: str) -> date:
    """A date written YYYY-MM-DD and nothing else; BadDate otherwise."""
    try:
        day = date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except (TypeError, ValueError):
        raise BadDate("This is not a date; write it as YYYY-MM-DD.") from None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise BadDate(f"This date is out of range; give a year from {_FIRST_YEAR} to {_LAST_YEAR}.")
    return day


def days(first: date, last: date) -> Period:
    """Both days included, in UTC, swapped when they are the wrong way round."""
    first, last = min(first, last), max(first, last)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    return Period(start, end, f"{first.isoformat()} to {last.isoformat()}")


def parse_window(
    now: datetime,
    *,
    range_name: str | None = None,
    start: str | None = None,
    end: str | None = None,
    default: str = "d30",
) -> Period:
    """The window of the contract (section 3): `?range=d7|d30|d90|all`, or `?start=&end=`; `default` when
    nothing is given.
    """
    if start is not None or end is not None:
        if range_name is not None or start is None or end is None:
            raise BadDate("Give either range, or both start and end.")
        return days(parse_day(start), parse_day(end))
    name = default if range_name is None else range_name
    if name not in RANGES:
        raise BadDate("This range is none of ours; use d7, d30, d90 or all.")
    today = now.astimezone(UTC).date()
    window = days(today - timedelta(days=RANGES[name] - 1), today)
    return Period(window.start, window.end, f"Last {RANGES[name]} days")


def month_name(label: str) -> str:
    """`2026-11` as a person says it, "November 2026"; any other text stays as it is."""
    match = _MONTH.fullmatch(label)
    if match is None or not 1 <= int(match[2]) <= 12:
        return label
    return f"{calendar.month_name[int(match[2])]} {match[1]}"


def _read_month(label: str) -> tuple[int, int]:
    match = _MONTH.fullmatch(label) if isinstance(label, str) else None
    if match is None:
        raise BadDate("This is not a month; write it as YYYY-MM.")
    year, month = int(match[1]), int(match[2])
    if not (_FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12):
        raise BadDate("There is no such month; write it as YYYY-MM.")
    return year, month


def _later(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _midnight(year: int, month: int, zone: str) -> datetime:
    # A month that begins inside a daylight-saving gap or overlap: fold=0 gives one instant, and the month
    # before ends at the same one.
    try:
        return datetime(year, month, 1, tzinfo=read_zone(zone)).astimezone(UTC)
    except OverflowError:
        raise BadDate("This month is out of range.") from None
