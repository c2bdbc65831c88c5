"""Periods: half open, contiguous, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.money import BadDate, BadZone, Period, parse_window
from provider_federation.money.period import month_name

ZONES = st.sampled_from(
    [
        "UTC",
        "America/New_York",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "Africa/Cairo",
        "America/Asuncion",
        "Australia/Lord_Howe",
    ]
)
months = st.builds("{:04d}-{:02d}".format, st.integers(1990, 2090), st.integers(1, 12))
NOW = datetime(2026, 11, 22, 14, 2, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("label", "zone", "start", "end"),
    [
        ("2026-02", "UTC", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("2028-02", "UTC", "2028-02-01T00:00", "2028-03-01T00:00"),  # leap: 29 days
        ("2026-12", "UTC", "2026-12-01T00:00", "2027-01-01T00:00"),
        (
            "2026-03",
            "America/New_York",
            "2026-03-01T05:00",
            "2026-04-01T04:00",
        ),  # clocks go forward inside it
        ("2026-11", "America/New_York", "2026-11-01T04:00", "2026-12-01T05:00"),  # back, on its first day
        ("2026-03", "Europe/Berlin", "2026-02-28T23:00", "2026-03-31T22:00"),
        ("2026-01", "Asia/Kathmandu", "2025-12-31T18:15", "2026-01-31T18:15"),
        (
            "2023-10",
            "America/Asuncion",
            "2023-10-01T04:00",
            "2023-11-01T03:00",
        ),  # its first midnight does not exist
    ],
)
def test_golden_months(label, zone, start, end):
    month = Period.month(label, zone)
    assert (month.start, month.end, month.label) == (at(start), at(end), label)


@given(months, ZONES)
def test_months_touch_and_never_overlap(label, zone):
    month = Period.month(label, zone)
    assert month.next().start == month.end
    assert month.previous().end == month.start
    assert month.next().previous() == month
    assert month.contains(month.start)
    assert not month.contains(month.end)
    assert month.next().contains(month.end)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)), ZONES)  # noqa: DTZ001  the strategy adds the zone
def test_every_instant_is_in_exactly_one_month(instant, zone):
    month = Period.month_of(instant, zone)
    assert [period.contains(instant) for period in (month.previous(), month, month.next())] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "label",
    [
        "",
        "2026",
        "2026-2",
        "2026-00",
        "2026-13",
        "2026-02-01",
        "0000-01",
        "9999-12",
        "\u0662\u0660\u0662\u0666-\u0660\u0662",
        " 2026-02",
        "2026-02\n",
        None,
        202602,
    ],
)
def test_unreadable_months(label):
    with pytest.raises(BadDate) as refused:
        Period.month(label)
    assert refused.value.code == "bad_date"


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "UTC\0"])
def test_unknown_zones(zone):
    with pytest.raises(BadZone):
        Period.month("2026-02", zone)


def test_a_period_needs_zones_and_an_order():
    with pytest.raises(BadDate):
        Period(datetime(2026, 1, 1), datetime(2026, 2, 1))  # noqa: DTZ001  no zone is the point
    with pytest.raises(BadDate):
        Period(at("2026-01-01"), at("2026-01-01"))


def test_other_periods_have_neighbours_of_their_own_length():
    week = Period(at("2026-01-08"), at("2026-01-15"))
    assert week.previous() == Period(at("2026-01-01"), at("2026-01-08"))
    assert week.next().start == week.end
    assert week.label == "2026-01-08 to 2026-01-14"


@pytest.mark.parametrize(("name", "length"), [("d7", 7), ("d30", 30), ("d90", 90), ("all", 365)])
def test_ranges_end_with_today(name, length):
    window = parse_window(NOW, range_name=name)
    assert window.end == at("2026-11-23")
    assert window.end - window.start == timedelta(days=length)
    assert window.contains(NOW)


def test_without_anything_it_is_the_last_30_days():
    assert parse_window(NOW) == parse_window(NOW, range_name="d30")
    assert parse_window(NOW).label == "Last 30 days"


@given(st.dates(date(1990, 1, 1), date(2090, 1, 1)), st.dates(date(1990, 1, 1), date(2090, 1, 1)))
def test_both_days_are_included_and_swapped_when_reversed(one, other):
    window = parse_window(NOW, start=one.isoformat(), end=other.isoformat())
    assert window == parse_window(NOW, start=other.isoformat(), end=one.isoformat())
    assert (window.end - window.start).days == abs((other - one).days) + 1
    assert window.start.date() == min(one, other)


@pytest.mark.parametrize(
    "query",
    [
        {"range_name": "d8"}, {"range_name": ""}, {"range_name": "ALL"}, {"start": "2026-01-01"}, {"end": "2026-01-01"},
        {"start": "2026-01-01", "end": "2026-02-30"}, {"start": "20260101", "end": "20260102"}, {"start": "2026-1-1", "end": "2026-01-02"},
        {"start": "2026-01-01T00:00", "end": "2026-01-02"}, {"start": "0001-01-01", "end": "2026-01-02"}, {"start": "2026-01-01", "end": "9999-12-31"},
        {"start": "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661", "end": "2026-01-02"}, {"range_name": "d7", "start": "2026-01-01", "end": "2026-01-02"}, {"start": "", "end": ""},
    ],
)  # fmt: skip
def test_unreadable_windows(query):
    with pytest.raises(BadDate):
        parse_window(NOW, **query)


@given(st.text(), st.text())
def test_no_text_does_anything_but_parse_or_refuse(start, end):
    try:
        parse_window(NOW, start=start, end=end)
    except BadDate:
        return


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("2026-11", "November 2026"),
        ("0001-01", "January 0001"),
        ("2026-13", "2026-13"),
        ("2026-00", "2026-00"),
        ("2026-02-01 to 2026-02-03", "2026-02-01 to 2026-02-03"),
        ("", ""),
    ],
)
def test_a_month_as_a_person_says_it(label: str, said: str) -> None:
    assert month_name(label) == said
