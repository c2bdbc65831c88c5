"""Amounts: integers in the currency's minor unit, exact decimals before that, and the one rounding between
them.

Minor units are Stripe's (docs.stripe.com/currencies), which are ISO 4217's except for ISK, MGA and UGX;
those three are refused, because an amount would mean different money to Stripe and to a bank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Final

from provider_federation.money.errors import BadAmount, BadCurrency

STRIPE_MAXIMUM: Final = 99_999_999
"""The largest amount of one Stripe charge or invoice, in minor units (eight digits)."""
INT64_MAXIMUM: Final = 2**63 - 1
MAXIMUM_DECIMALS: Final = 18
MAXIMUM_WHOLE_DIGITS: Final = 18

_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE CZK DKK "
    "DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR "
    "SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TOP TRY TTD TWD TZS UAH USD UYU UZS WST XCD YER ZAR ZMW"
)
_NONE = "BIF CLP DJF GNF JPY KMF KRW PYG RWF VND VUV XAF XOF XPF"
_THREE = "BHD JOD KWD OMR TND"
EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_NONE.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Currency to the number of decimals of its minor unit."""

_SIGNS = {
    "USD": "$",
    "EUR": "€",
    "GBP": "£",
    "JPY": "¥",
    "INR": "₹",
    "KRW": "₩",
    "CAD": "CA$",
    "AUD": "A$",
    "NZD": "NZ$",
}
_DECIMAL = re.compile(
    rf"-?(?:0|[1-9][0-9]{{0,{MAXIMUM_WHOLE_DIGITS - 1}}})(?:\.[0-9]{{1,{MAXIMUM_DECIMALS}}})?"
)
_EXACT_DIGITS = 100  # room for any sum or product of numbers that parse_decimal lets through


def check_currency(currency: str) -> str:
    """The currency in capitals; BadCurrency when we do not bill in it."""
    code = currency.upper() if isinstance(currency, str) else ""
    if code not in EXPONENTS:
        raise BadCurrency("We do not bill in this currency; give a three-letter ISO code such as USD.")
    return code


def exponent(currency: str) -> int:
    """Decimals of the minor unit: 2 for USD, 0 for JPY, 3 for KWD."""
    return EXPONENTS[check_currency(currency)]


def check_amount(amount: object, *, low: int = 0, high: int = STRIPE_MAXIMUM) -> int:
    """An int from `low` to `high` in minor units, never a bool or a float; BadAmount otherwise."""
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise BadAmount("An amount is a whole number of the currency's minor unit.")
    if not low <= amount <= high:
        raise BadAmount(f"This amount is out of range; it must be from {low} to {high}.")
    return amount


def parse_decimal(text: object, *, negative: bool = False) -> Decimal:
    """An exact decimal from its string as on the wire ("12.345678").

    Plain ASCII digits only: no float, exponent, plus sign, blank, NaN, "-0", leading zeros or more than 18
    decimals.
    """
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise BadAmount(
            "This is not a decimal number; write it as digits with a point, for instance 12.345678."
        )
    value = Decimal(text)
    if text.startswith("-") and (value == 0 or not negative):
        raise BadAmount("A negative number has no place here.")
    return value


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    """The sum without any rounding, whatever the order."""
    with localcontext(prec=_EXACT_DIGITS):
        return sum((exact(value) for value in values), Decimal(0))


def exact_product(one: Decimal, other: Decimal) -> Decimal:
    with localcontext(prec=_EXACT_DIGITS):
        return exact(one) * exact(other)


def exact(value: object) -> Decimal:
    """`value` when it is a finite Decimal of a sane size; BadAmount otherwise (a float above all)."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise BadAmount("An exact quantity is a finite decimal.")
    if value and (
        value.adjusted() > MAXIMUM_WHOLE_DIGITS * 2 or int(value.as_tuple().exponent) < -2 * MAXIMUM_DECIMALS
    ):
        raise BadAmount("This number is too long.")
    return value


def round_half_up(value: Decimal, currency: str) -> int:
    """The one rounding: an exact number of major units to minor units, half away from zero.

    `Decimal("0.125")` USD is 13 cents. BadAmount outside int64.
    """
    places = exponent(currency)
    with localcontext(prec=_EXACT_DIGITS):
        minor = exact(value).scaleb(places).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return check_amount(int(minor), low=-INT64_MAXIMUM, high=INT64_MAXIMUM)


def to_decimal(amount: int, currency: str) -> Decimal:
    """Minor units as an exact number of major units: 1234 USD is Decimal("12.34")."""
    return Decimal(amount).scaleb(-exponent(currency))


def format_amount(amount: int, currency: str) -> str:
    """For people: "$1,234.56", "-€0.05", "¥1,235", "KWD 1.234"."""
    code = check_currency(currency)
    check_amount(amount, low=-INT64_MAXIMUM, high=INT64_MAXIMUM)
    sign = _SIGNS.get(code, f"{code} ")
    return f"{'-' if amount < 0 else ''}{sign}{abs(to_decimal(amount, code)):,.{EXPONENTS[code]}f}"
