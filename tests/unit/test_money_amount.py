"""Amounts: strict to read, rounded once, in the currency's own minor unit."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_federation.money import (
    STRIPE_MAXIMUM,
    BadAmount,
    BadCurrency,
    check_amount,
    exact_sum,
    exponent,
    format_amount,
    parse_decimal,
    round_half_up,
    to_decimal,
)

CURRENCIES = ("USD", "JPY", "KWD")
costs = st.decimals(min_value=0, max_value=10**9, places=9, allow_nan=False)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123_456, "USD", "$1,234.56"),
        (0, "usd", "$0.00"),
        (-5, "EUR", "-€0.05"),
        (1235, "JPY", "¥1,235"),
        (1_234_567, "KWD", "KWD 1,234.567"),
        (100, "CHF", "CHF 1.00"),
    ],
)
def test_amounts_for_people(amount, currency, text):
    assert format_amount(amount, currency) == text


@pytest.mark.parametrize(("currency", "places"), [("USD", 2), ("jpy", 0), ("BHD", 3), ("KRW", 0), ("EUR", 2)])
def test_minor_units(currency, places):
    assert exponent(currency) == places


@pytest.mark.parametrize("currency", ["", "US", "XXX", "ISK", "UGX", "MGA", "usd ", None, 3])
def test_what_we_do_not_bill_in(currency):
    with pytest.raises(BadCurrency):
        exponent(currency)


@pytest.mark.parametrize(
    "text",
    [
        1.5, 1, None, True, "", " 1", "1 ", "1\n", "+1", "-0", "-0.00", "NaN", "Infinity", "1e9", "1E2", "١٢", "\uff11\uff12", "0x10", "1_000",
        "1,5", ".5", "5.", "01", "00", "0." + "0" * 29 + "1", "0." + "1" * 30, "1" * 19, "1.2.3", "--1", "-1", "½",
    ],
)  # fmt: skip
def test_hostile_decimals(text):
    with pytest.raises(BadAmount) as refused:
        parse_decimal(text)
    assert refused.value.code == "bad_amount"


def test_good_decimals():
    assert parse_decimal("12.345678") == Decimal("12.345678")
    assert parse_decimal("0") == 0
    assert parse_decimal("-1.50", negative=True) == Decimal("-1.5")
    assert parse_decimal("0." + "1" * 18) < 1
    with pytest.raises(BadAmount):
        parse_decimal("-0", negative=True)


@given(st.text())
def test_no_text_does_anything_but_parse_or_refuse(text):
    try:
        value = parse_decimal(text, negative=True)
    except BadAmount:
        return
    assert value.is_finite()
    assert text.isascii()


@given(st.decimals(places=10, min_value=-(10**9), max_value=10**9), st.sampled_from(CURRENCIES))
def test_rounding_is_the_nearest_and_half_goes_away_from_zero(value, currency):
    minor = round_half_up(value, currency)
    exact = Fraction(value) * 10 ** exponent(currency)
    distance = abs(Fraction(minor) - exact)
    assert distance <= Fraction(1, 2)
    if distance == Fraction(1, 2):
        assert abs(minor) > abs(exact)


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [("0.005", "USD", 1), ("0.125", "USD", 13), ("0.135", "USD", 14), ("-0.005", "USD", -1), ("0.0049999", "USD", 0),
     ("0.5", "JPY", 1), ("1234.4", "JPY", 1234), ("1.2345", "KWD", 1235), ("1.0005", "KWD", 1001)],
)  # fmt: skip
def test_golden_roundings(value, currency, minor):
    assert round_half_up(Decimal(value), currency) == minor


@pytest.mark.parametrize(
    "value",
    [1.5, 1, "1", Decimal("NaN"), Decimal("Infinity"), Decimal("1e40"), Decimal("1e-60"), Decimal(10) ** 20],
)
def test_only_sane_decimals_are_rounded(value):
    with pytest.raises(BadAmount):
        round_half_up(value, "USD")


@given(st.lists(costs, max_size=40), st.randoms())
def test_sums_are_exact_in_any_order(values, random):
    with localcontext(prec=60):
        expected = sum(values, Decimal(0))
    shuffled = list(values)
    random.shuffle(shuffled)
    assert exact_sum(values) == exact_sum(shuffled) == expected


def test_a_sum_beyond_the_default_precision_is_still_exact():
    long = [Decimal("123456789012345678.000000000000000001"), Decimal("0.000000000000000001")]
    assert str(exact_sum(long)) == "123456789012345678.000000000000000002"


@given(st.integers(-(10**15), 10**15), st.sampled_from(CURRENCIES))
def test_minor_units_round_trip(amount, currency):
    assert round_half_up(to_decimal(amount, currency), currency) == amount


@pytest.mark.parametrize("amount", [-1, STRIPE_MAXIMUM + 1, 10**15, 2**63, True, 1.0, "1", None, Decimal(1)])
def test_amounts_out_of_bounds(amount):
    with pytest.raises(BadAmount):
        check_amount(amount)


def test_the_largest_amount_is_stripes():
    assert check_amount(STRIPE_MAXIMUM) == 99_999_999


def test_the_default_rounding_of_decimal_would_be_wrong():
    assert Decimal("0.125").quantize(Decimal("0.01")) == Decimal("0.12")  # why there is one rounding
    assert Decimal("0.125").quantize(Decimal("0.01"), rounding=ROUND_HALF_UP) == Decimal("0.13")
