"""Rating: order and repetition do not matter, the cap holds, a lead is paid once, and what looks wrong is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.money import (
    BadAmount,
    Period,
    Usage,
    UsageLead,
    ai_amount,
    exact_sum,
    lead_evidence,
    rate,
    round_half_up,
)

FEBRUARY = Period.month("2026-02")


def lead(number: int, **changes) -> UsageLead:
    made = UsageLead(f"l{number}", f"L-{number:04d}", FEBRUARY.start + timedelta(minutes=number), "")
    changed = replace(made, **changes)
    return changed if changed.evidence else replace(changed, evidence=lead_evidence(changed))


def usage(leads=(), cost="0", **changes) -> Usage:
    return replace(Usage("acme", FEBRUARY, "USD", tuple(leads), Decimal(cost)), **changes)


def rated(given_usage: Usage, **changes):
    terms = {"client": "acme", "period": FEBRUARY, "already_billed": frozenset(), "cap": 5_000} | changes
    return rate(given_usage, **terms)


def codes(rating) -> set[str]:
    assert rating.held
    assert rating.lines == ()
    assert rating.subtotal == 0
    return {reason.code for reason in rating.held_reasons}


def test_two_leads_and_some_ai():
    rating = rated(usage([lead(2), lead(1)], "12.345678"))
    assert [(line.key, line.amount_cents) for line in rating.lines] == [
        ("lead:l1", 10_000),
        ("lead:l2", 10_000),
        ("ai:2026-02-01T00:00:00+00:00", 1_235),
    ]
    assert rating.subtotal == 21_235
    assert {line.currency for line in rating.lines} == {"USD"}
    assert rating.lines[0].evidence == lead(1).evidence


def test_the_subscription_fee_is_no_usage():
    assert {line.kind for line in rated(usage([lead(1)], "5")).lines} == {"lead", "ai"}


def test_nothing_used_is_no_line():
    assert rated(usage()).lines == ()
    assert not rated(usage()).held
    assert rated(usage(cost="0.0049")).lines == ()


def test_a_lead_is_billed_once_in_its_life():
    rating = rated(usage([lead(1), lead(2)]), already_billed={"l1"})
    assert [line.lead_id for line in rating.lines] == ["l2"]
    assert rating.already_billed == ("l1",)


@pytest.mark.parametrize(
    ("cost", "cap", "markup", "cents"),
    [
        ("49.994", 5_000, "0", 4_999), ("49.995", 5_000, "0", 5_000), ("50.01", 5_000, "0", 5_000), ("999999", 5_000, "0", 5_000),
        ("10", 5_000, "0.10", 1_100), ("10", 1_050, "0.10", 1_050), ("3.337", 0, "0", 0), ("0.005", 5_000, "0", 1), ("1.005", 5_000, "0.1", 111),
    ],
)  # fmt: skip
def test_ai_is_the_rounded_cost_up_to_the_cap(cost, cap, markup, cents):
    assert ai_amount(Decimal(cost), cap=cap, markup=Decimal(markup)) == cents


costs = st.lists(st.decimals(min_value=0, max_value=100, places=8), max_size=20)
numbers = st.lists(st.integers(1, 40), max_size=30)


@given(numbers, costs, st.sets(st.integers(1, 40)), st.integers(0, 20_000), st.randoms())
def test_order_and_repetition_do_not_matter(chosen, parts, billed, cap, random):
    leads = [lead(number) for number in chosen]
    shuffled = list(leads) + leads[:3]
    random.shuffle(shuffled)
    already = {f"l{number}" for number in billed}
    one = rated(usage(leads, ai_cost=exact_sum(parts)), already_billed=already, cap=cap)
    other = rated(usage(shuffled, ai_cost=exact_sum(reversed(parts))), already_billed=already, cap=cap)
    assert one == other
    new = {number for number in chosen if number not in billed}
    assert one.subtotal == 10_000 * len(new) + min(round_half_up(exact_sum(parts), "USD"), cap)
    assert sum(line.amount_cents for line in one.lines if line.kind == "ai") <= cap
    assert len({line.key for line in one.lines}) == len(one.lines)


@given(costs)
def test_rounding_happens_once(parts):
    total = exact_sum(parts)
    assert abs(Decimal(ai_amount(total, cap=99_999_999)) - total * 100) <= Decimal("0.5")


@given(numbers, st.sets(st.integers(1, 40)), st.integers(1, 3))
def test_running_it_again_bills_nothing_more(chosen, billed, times):
    already = {f"l{number}" for number in billed}
    for _ in range(times):
        already |= {
            line.lead_id for line in rated(usage([lead(n) for n in chosen]), already_billed=already).lines
        }
    assert rated(usage([lead(n) for n in chosen]), already_billed=already).lines == ()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"client": "other"}, "wrong_client"),
        ({"period": Period.month("2026-03")}, "wrong_period"),
        ({"currency": "EUR"}, "currency_mismatch"),
        ({"ai_cost": Decimal("-0.01")}, "negative_usage"),
        ({"ai_calls": -1}, "negative_usage"),
        ({"lead_count": -1}, "negative_usage"),
        ({"ai_cost": Decimal("NaN")}, "bad_amount"),
        ({"ai_cost": Decimal("Infinity")}, "bad_amount"),
        ({"ai_cost": 1.5}, "bad_amount"),
        ({"ai_cost": Decimal(1_000_001)}, "absurd_usage"),
        ({"lead_count": 10**12}, "absurd_usage"),
        ({"lead_count": 2}, "count_mismatch"),
        ({"leads": (lead(1, lead_id=""),)}, "bad_lead"),
        ({"leads": (lead(1, converted_at=FEBRUARY.start.replace(tzinfo=None)),)}, "bad_lead"),
        ({"leads": (lead(1, converted_at=FEBRUARY.end),)}, "lead_outside_period"),
        (
            {"leads": (lead(1, converted_at=FEBRUARY.start - timedelta(microseconds=1)),)},
            "lead_outside_period",
        ),
        ({"leads": (lead(1), lead(1, evidence="sha256:0"))}, "duplicate_lead"),
        ({"leads": (lead(1), lead(1, lead_id="l9"))}, "duplicate_lead"),
    ],
)
def test_what_looks_wrong_is_held(wrong, code):
    assert code in codes(rated(replace(usage([lead(1)], "1"), **wrong)))


def test_exact_midnight_belongs_to_one_period_only():
    assert not rated(usage([lead(1, converted_at=FEBRUARY.start)])).held


def test_a_counter_that_runs_backwards_is_held():
    earlier = usage([lead(1), lead(2)], "5", ai_calls=9)
    for now in (
        usage([lead(1)], "5", ai_calls=9),
        usage([lead(1), lead(2)], "4.99", ai_calls=9),
        usage([lead(1), lead(2)], "5", ai_calls=8),
    ):
        assert codes(rated(now, previous=[earlier])) == {"counter_backwards"}
    assert not rated(usage([lead(1), lead(2), lead(3)], "5.01", ai_calls=10), previous=[earlier]).held


def test_a_hundredfold_jump_is_held():
    january = Usage("acme", FEBRUARY.previous(), "USD", tuple(lead(n) for n in range(1, 3)), Decimal("0.50"))
    many = [lead(n) for n in range(1, 201)]
    assert codes(rated(usage(many), previous=[january])) == {"usage_jump"}
    assert not rated(usage(many[:199]), previous=[january]).held
    assert codes(rated(usage(cost="100"), previous=[january])) == {"usage_jump"}
    assert not rated(usage(cost="99.99"), previous=[january]).held
    assert not rated(usage(many), previous=[replace(january, client="other")]).held


def test_more_than_one_invoice_can_hold_is_held():
    assert codes(rated(usage([lead(n) for n in range(1, 10_001)]), previous=())) == {"amount_too_large"}


def test_a_lead_has_no_price_in_another_currency_until_it_is_given():
    yen = usage([lead(1)], "100.5", currency="JPY")
    assert codes(rated(yen, currency="JPY")) == {"no_lead_price"}
    assert rated(yen, currency="JPY", lead_price=15_000).subtotal == 15_101


@pytest.mark.parametrize(
    "ours",
    [
        {"cap": -1},
        {"cap": True},
        {"markup": Decimal("-0.1")},
        {"markup": 0.1},
        {"lead_price": -1},
        {"lead_price": 10**15},
    ],
)
def test_our_own_wrong_terms_are_refused_loudly(ours):
    with pytest.raises(BadAmount):
        rated(usage(), **ours)
