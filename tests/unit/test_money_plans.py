"""The price list and its history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.money import (
    DEFAULT_AI_CAP_CENTS,
    LEAD_PRICE_CENTS,
    PLANS,
    Period,
    PlanTerms,
    UnknownPlan,
    find_plan,
    plan_in_force,
    terms_in_force,
    terms_of_period,
)

DAY = timedelta(days=1)
FEBRUARY = Period.month("2026-02")


def test_the_price_list():
    assert {
        code: (plan.fee_cents, plan.limits.leads, plan.limits.users, plan.limits.ai_credits)
        for code, plan in PLANS.items()
    } == {
        "BASE": (0, 100, 3, 1_000),
        "PRO": (9_700, 1_000, 10, 5_000),
        "ELITE": (29_700, None, None, 25_000),
    }
    assert (LEAD_PRICE_CENTS, DEFAULT_AI_CAP_CENTS) == (10_000, 5_000)
    assert [plan.support for plan in PLANS.values()] == ["community", "email", "priority"]


def test_finding_a_plan():
    assert find_plan("pro") is PLANS["PRO"]
    for bad in ("", "GOLD", None, 3):
        with pytest.raises(UnknownPlan):
            find_plan(bad)


def test_a_change_holds_from_its_very_instant():
    history = [
        PlanTerms(FEBRUARY.start, "BASE"),
        PlanTerms(FEBRUARY.end, "PRO"),
        PlanTerms(FEBRUARY.end + DAY, None),
    ]
    assert plan_in_force(history, FEBRUARY.start - timedelta(microseconds=1)) is None
    assert plan_in_force(history, FEBRUARY.start) is PLANS["BASE"]
    assert plan_in_force(history, FEBRUARY.end - timedelta(microseconds=1)) is PLANS["BASE"]
    assert plan_in_force(history, FEBRUARY.end) is PLANS["PRO"]
    assert plan_in_force(history, FEBRUARY.end + 2 * DAY) is None


def test_of_two_changes_in_one_instant_the_one_recorded_last_holds():
    history = [PlanTerms(FEBRUARY.start, "BASE"), PlanTerms(FEBRUARY.start, "ELITE")]
    assert plan_in_force(history, FEBRUARY.start) is PLANS["ELITE"]


def test_a_month_is_priced_by_the_terms_at_its_beginning():
    before = PlanTerms(FEBRUARY.start - DAY, "PRO", ai_cap_cents=1_000, ai_markup=Decimal("0.1"))
    raised = PlanTerms(FEBRUARY.start + DAY, "PRO", ai_cap_cents=9_000)
    assert terms_of_period([before, raised], FEBRUARY) is before
    assert terms_of_period([before, raised], FEBRUARY.next()) is raised


def test_a_client_that_joins_inside_the_month_has_its_first_terms():
    joined = PlanTerms(FEBRUARY.start + DAY, "PRO")
    later = PlanTerms(FEBRUARY.start + 2 * DAY, "ELITE")
    assert terms_of_period([later, joined], FEBRUARY) is joined
    assert terms_of_period([later, joined], FEBRUARY.previous()) is None


instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001  the strategy adds the zone


@given(
    st.lists(
        st.builds(PlanTerms, instants, st.sampled_from(["BASE", "PRO", "ELITE", None])),
        unique_by=lambda t: t.since,
    ),
    instants,
    st.randoms(),
)
def test_the_order_of_the_history_does_not_matter(history, at, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    assert terms_in_force(history, at) == terms_in_force(shuffled, at)
