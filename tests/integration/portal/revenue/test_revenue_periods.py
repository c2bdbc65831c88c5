"""Billing months: every spelling of one means the same, in any zone, and what is read is frozen without loss."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.kit.problem import Problem
from provider_federation.money import Period, Usage, UsageLead
from provider_federation.portal.revenue.periods import month, month_between, months_asked
from provider_federation.portal.revenue.usage import usage_from_json, usage_to_json

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
MONTHS = st.builds(
    lambda year, number: f"{year:04d}-{number:02d}", st.integers(2000, 2040), st.integers(1, 12)
)


@given(MONTHS, ZONES)
def test_every_spelling_of_a_month_is_that_month(label, zone):
    with override_settings(PROVIDER_TIME_ZONE=zone):
        wanted = month(label)
        following = wanted.next().label
        last = datetime.fromisoformat(f"{following}-01").date() - timedelta(days=1)
        assert month_between(f"{label}-01", last.isoformat()) == wanted
        assert month_between(f"{label}-01", f"{following}-01") == wanted
        assert month_between(wanted.start.isoformat(), wanted.end.isoformat()) == wanted
        assert months_asked(label, None, None) == [wanted]


@given(MONTHS, ZONES, st.integers(1, 23))
def test_several_months_are_seamless(label, zone, count):
    with override_settings(PROVIDER_TIME_ZONE=zone):
        last = month(label)
        for _ in range(count):
            last = last.next()
        months = months_asked(None, f"{label}-01", f"{last.next().label}-01")
        assert len(months) == count + 1
        assert (months[0].start, months[-1].end) == (month(label).start, last.end)


@given(MONTHS, ZONES, st.integers(1, 3_000_000))
def test_a_window_that_cuts_a_month_is_refused(label, zone, seconds):
    with override_settings(PROVIDER_TIME_ZONE=zone):
        wanted = month(label)
        cut = wanted.start + timedelta(seconds=seconds)
        if cut < wanted.end:
            with pytest.raises(Problem):
                months_asked(None, cut.isoformat(), wanted.end.isoformat())
            with pytest.raises(Problem):
                months_asked(None, wanted.start.isoformat(), cut.isoformat())


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_is_anything_but_a_month_or_a_problem(start, end):
    with suppress(Problem):
        assert months_asked(None, start, end)


INSTANTS = st.datetimes(timezones=st.just(UTC))
LEADS = st.builds(
    lambda lead_id, public_id, at, evidence: UsageLead(lead_id, public_id, at, evidence, at.isoformat()),
    st.text(min_size=1, max_size=20),
    st.text(max_size=20),
    INSTANTS,
    st.text(max_size=80),
)


@given(
    st.lists(LEADS, max_size=5),
    st.decimals(0, 10**6, places=6),
    st.integers(0, 10**9),
    st.none() | st.integers(0, 9),
)
def test_usage_is_frozen_without_loss(leads, cost, calls, count):
    import json

    usage = Usage("org", Period.month("2026-02"), "usd", tuple(leads), Decimal(cost), calls, count)
    assert usage_from_json(json.loads(json.dumps(usage_to_json(usage)))) == usage
