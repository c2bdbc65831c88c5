"""Months that are rated again and again: each lead once, the cap of each month, and one rounding, whatever the order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.money import (
    BadAmount,
    BadCurrency,
    HeldReason,
    Limits,
    LimitsUsed,
    Period,
    Rating,
    Usage,
    UsageLead,
    combine,
    exact_sum,
    lead_evidence,
    over_limits,
    parse_decimal,
    rate,
    round_half_up,
)

MONTHS = [Period.month(f"2026-{number:02d}") for number in range(1, 6)]
CAP = 5_000


def lead(number: int, month: Period) -> UsageLead:
    made = UsageLead(f"l{number}", f"L-{number}", month.start + timedelta(minutes=number), "")
    return replace(made, evidence=lead_evidence(made))


def usage(month: Period, numbers=(), cost="0") -> Usage:
    return Usage("acme", month, "USD", tuple(lead(one, month) for one in numbers), Decimal(cost))


def rated(given_usage: Usage, **more) -> Rating:
    terms = {"client": "acme", "period": given_usage.period, "already_billed": frozenset(), "cap": CAP} | more
    return rate(given_usage, **terms)


@given(
    st.lists(st.sets(st.integers(1, 60), max_size=12), min_size=5, max_size=5),
    st.lists(st.lists(st.integers(0, 3_000_000), max_size=4), min_size=5, max_size=5),
    st.sets(st.integers(0, 4)),
    st.randoms(),
)
def test_any_sequence_of_runs_bills_each_lead_once_and_no_month_above_its_cap(chosen, costs, voided, random):
    """Every run bills its month and reads the two before again, in which leads and cost may have grown meanwhile;
    some runs are voided, and their month is billed once more at the end.
    """
    owner: dict[int, int] = {}  # a lead converts in one month only
    for at, numbers in enumerate(chosen):
        for number in numbers:
            owner.setdefault(number, at)
    of = {at: sorted(number for number, month in owner.items() if month == at) for at in range(5)}
    seen: dict[int, int] = {}
    billed: dict[str, int] = {}
    ai: dict[int, int] = dict.fromkeys(range(5), 0)

    def usage_of(at: int, *, whole: bool) -> Usage:
        count = len(of[at]) if whole else random.randint(seen.get(at, 0), len(of[at]))
        seen[at] = count
        parts = (
            costs[at] if whole else costs[at][: max(seen.get(at + 10, 0), random.randint(0, len(costs[at])))]
        )
        seen[at + 10] = len(parts)
        return usage(MONTHS[at], of[at][:count], str(Decimal(sum(parts)).scaleb(-4)))

    def run(at: int, late: list[int], *, whole: bool) -> Rating:
        return combine(
            rated(
                usage_of(one, whole=whole),
                already_billed=set(billed),
                ai_billed=ai[one],
                late=one != at,
            )
            for one in [at, *late]
        )

    def keep(rating: Rating, at: int) -> None:
        for line in rating.lines:
            if line.kind == "lead":
                assert line.lead_id not in billed
                billed[line.lead_id] = line.amount_cents
            else:
                month = int(line.late_for[-2:]) - 1 if line.late_for else at
                ai[month] += line.amount_cents

    for at in range(5):
        late = [one for one in (at - 1, at - 2) if one >= 0 and one not in voided]
        rating = run(at, late, whole=False)
        assert rating.subtotal == sum(line.amount_cents for line in rating.lines)
        if at not in voided:
            keep(rating, at)
    for at in range(5):
        keep(run(at, [], whole=True), at)
    assert billed == {f"l{number}": 10_000 for number in owner}
    for at in range(5):
        exact = exact_sum([Decimal(part).scaleb(-4) for part in costs[at]])
        assert ai[at] == min(round_half_up(exact, "USD"), CAP)  # rounded once, however often it was billed


@given(st.lists(st.integers(1, 9), max_size=9), st.lists(st.integers(1, 9), max_size=9), st.randoms())
def test_order_and_repetition_of_months_change_no_total(first, second, random):
    parts = [usage(MONTHS[0], set(first), "3"), usage(MONTHS[1], set(second) - set(first), "4")]
    ratings = [rated(one) for one in parts]
    shuffled = ratings * 2
    random.shuffle(shuffled)
    assert combine(shuffled).subtotal == combine(ratings).subtotal


def test_a_lead_that_two_months_list_is_billed_once():
    both = combine([rated(usage(MONTHS[1], [1])), rated(usage(MONTHS[0], [1]), late=True)])
    assert [(line.lead_id, line.late_for) for line in both.lines] == [("l1", "")]


def test_a_late_line_says_for_which_month():
    late = rated(usage(MONTHS[0], [1], "10"), late=True, ai_billed=400)
    assert [(one.kind, one.late_for, one.amount_cents) for one in late.lines] == [
        ("lead", "2026-01", 10_000),
        ("ai", "2026-01", 600),
    ]
    assert late.lines[1].key != rated(usage(MONTHS[0], [], "10")).lines[0].key


def test_what_holds_one_month_holds_all():
    wrong = rated(replace(usage(MONTHS[0], [1]), client="other"))
    both = combine([rated(usage(MONTHS[1], [2])), wrong])
    assert both.held
    assert (both.lines, both.subtotal) == ((), 0)


def test_evidence_is_recomputed():
    honest = lead(1, MONTHS[0])
    for forged in (replace(honest, public_id="L-2"), replace(honest, evidence="sha256:" + "0" * 64)):
        reasons = rated(replace(usage(MONTHS[0]), leads=(forged,))).held_reasons
        assert "evidence_mismatch" in {reason.code for reason in reasons}
    stated = replace(honest, stated_at="2026-01-01T00:01:00+00:00")
    assert lead_evidence(stated) != honest.evidence
    assert not rated(replace(usage(MONTHS[0]), leads=(replace(stated, evidence=lead_evidence(stated)),))).held


def test_limits_are_told_of_and_never_charged():
    used = LimitsUsed(leads=101, users=3, ai_credits=1_001)
    assert over_limits(used, Limits(100, 3, 1_000)) == ("leads", "ai_credits")
    assert over_limits(used, Limits(None, None, None)) == ()


def held(given_usage: Usage, **more) -> set[str]:
    rating = rated(given_usage, **more)
    assert (rating.lines, rating.subtotal) == ((), 0)
    return {reason.code for reason in rating.held_reasons}


@pytest.mark.parametrize(
    "text", ["1.5e3", "1e9", "NaN", "Infinity", "-Infinity", "\u0661\u0662", "-0", "1." + "0" * 30, "", " 1", "+1", "0x1"]
)  # fmt: skip
def test_threat_165_an_amount_that_is_no_plain_decimal(text):
    with pytest.raises(BadAmount):
        parse_decimal(text, negative=True)


@pytest.mark.parametrize("value", [1.5, float("nan"), True, "1"])
def test_threat_165_a_float_is_no_cost(value):
    assert held(replace(usage(MONTHS[0]), ai_cost=value)) == {"bad_amount"}


def test_threat_166_negative_usage_makes_no_negative_invoice():
    assert held(usage(MONTHS[0], cost="-0.01")) == {"negative_usage"}
    assert held(replace(usage(MONTHS[0]), ai_calls=-1)) == {"negative_usage"}
    assert "negative_usage" in held(replace(usage(MONTHS[0]), lead_count=-1))
    shrunken = rated(usage(MONTHS[0], cost="1"), ai_billed=500, late=True)
    assert (shrunken.lines, shrunken.subtotal) == ((), 0)


def test_threat_167_absurd_usage_and_a_hundredfold_jump():
    assert "absurd_usage" in held(replace(usage(MONTHS[0]), lead_count=10**12))
    assert held(usage(MONTHS[0], cost="1000000.01")) == {"absurd_usage"}
    before = usage(MONTHS[0], [1], "2")
    assert held(usage(MONTHS[1], range(1, 101)), previous=[before]) == {"usage_jump"}
    assert held(usage(MONTHS[1], cost="200"), previous=[before]) == {"usage_jump"}
    assert not rated(usage(MONTHS[1], range(1, 100), "199.99"), previous=[before]).held


def test_threat_169_a_counter_that_runs_backwards():
    before = replace(usage(MONTHS[0], [1, 2], "5"), ai_calls=4)
    for now in (usage(MONTHS[0], [1], "5"), usage(MONTHS[0], [1, 2], "4.99"), usage(MONTHS[0], [2, 3], "5")):
        assert held(replace(now, ai_calls=4), previous=[before], late=True) == {"counter_backwards"}
    assert held(replace(before, ai_calls=3), previous=[before]) == {"counter_backwards"}
    assert not rated(replace(usage(MONTHS[0], [1, 2, 3], "6"), ai_calls=5), previous=[before]).held


def test_threat_170_another_currency_is_never_taken_for_ours():
    assert held(replace(usage(MONTHS[0], cost="1"), currency="EUR")) == {"currency_mismatch"}
    assert "currency_mismatch" in held(replace(usage(MONTHS[0], [1]), currency="USD"), currency="EUR")
    assert held(replace(usage(MONTHS[0]), currency="usd/eur")) == {"currency_mismatch"}
    with pytest.raises(BadCurrency):
        rated(usage(MONTHS[0]), currency="dollars")


@pytest.mark.parametrize(
    ("month", "zone", "start", "end"),
    [
        ("2028-02", "UTC", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("2026-03", "Europe/Berlin", "2026-02-28T23:00:00", "2026-03-31T22:00:00"),
        ("2026-10", "America/New_York", "2026-10-01T04:00:00", "2026-11-01T04:00:00"),
        ("2026-12", "Pacific/Kiritimati", "2026-11-30T10:00:00", "2026-12-31T10:00:00"),
    ],
)
def test_threat_171_months_are_half_open_in_the_zone(month, zone, start, end):
    period = Period.month(month, zone)
    first, last = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    assert (period.start, period.end, period.next().start) == (first, last, last)

    def at(instant: datetime) -> Usage:
        made = UsageLead("l1", "L-1", instant, "")
        proven = replace(made, evidence=lead_evidence(made))
        return Usage("acme", period, "USD", (proven,), Decimal(0))

    assert not rated(at(first)).held
    assert not rated(at(last - timedelta(microseconds=1000))).held
    assert held(at(last)) == {"lead_outside_period"}
    assert held(at(first - timedelta(milliseconds=1))) == {"lead_outside_period"}


def test_threat_173_a_price_or_sum_that_no_invoice_can_hold():
    for price in (-1, 10**15, 2**63):
        with pytest.raises(BadAmount):
            rated(usage(MONTHS[0], [1]), lead_price=price)
    assert held(usage(MONTHS[0], [1]), lead_price=0) == {"no_lead_price"}
    assert held(usage(MONTHS[0], range(1, 12)), lead_price=9_999_999) == {"amount_too_large"}
    both = combine([rated(usage(MONTHS[at], [at]), lead_price=60_000_000) for at in range(2)])
    assert both.held_reasons == (
        HeldReason("amount_too_large", "One invoice cannot hold this amount; split it by hand."),
    )
