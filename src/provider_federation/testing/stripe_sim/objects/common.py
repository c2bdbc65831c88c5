"""What several resources share: metadata, currencies, rounding, simple updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.store import Object

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts, in minor units
_MINIMUM_CHARGE = {
    "usd": 50,
    "eur": 50,
    "gbp": 30,
    "chf": 50,
    "cad": 50,
    "aud": 50,
    "jpy": 50,
    "dkk": 250,
    "sek": 300,
    "nok": 300,
    "pln": 200,
    "czk": 1500,
    "inr": 50,
    "brl": 50,
    "mxn": 1000,
    "nzd": 50,
    "sgd": 50,
    "hkd": 400,
    "kwd": 50,
}
# fmt: off
_OTHER_CURRENCIES = frozenset({
    "aed", "ars", "bgn", "bhd", "clp", "cop", "egp", "huf", "idr", "ils", "isk", "jod", "krw", "kzt", "mad",
    "myr", "ngn", "omr", "pen", "php", "pkr", "qar", "ron", "rsd", "rub", "sar", "thb", "tnd", "try", "twd",
    "uah", "ugx", "vnd", "xaf", "xof", "xpf", "zar",
})
# fmt: on
_LARGEST_AMOUNT = 99_999_999
DAY = 86_400


def merged_metadata(current: Object | None, given: Any) -> Object:
    """Stripe's rule: given keys are merged in, an empty value removes its key, an empty string removes them
    all.
    """
    if given is None:
        return dict(current or {})
    if given == "":
        return {}
    return {name: value for name, value in {**(current or {}), **given}.items() if value != ""}


def checked_currency(currency: str, param: str = "currency") -> str:
    """The currency in lower case; a 400 for one that does not exist."""
    lowered = currency.lower()
    if lowered not in _MINIMUM_CHARGE and lowered not in _OTHER_CURRENCIES:
        known = ", ".join(sorted(_MINIMUM_CHARGE))
        raise invalid(
            f"Invalid currency: {currency}. Stripe currently supports these currencies: {known}, …", param
        )
    return lowered


def minimum_charge(currency: str) -> int:
    """The smallest amount that Stripe charges, in minor units."""
    return _MINIMUM_CHARGE.get(currency, 50)


def checked_amount(amount: int, param: str, *, lowest: int | None = None) -> int:
    """An amount in minor units within Stripe's bounds."""
    if lowest is not None and amount < lowest:
        raise invalid(
            f"Invalid integer: must be greater than or equal to {lowest}.", param, "parameter_invalid_integer"
        )
    if abs(amount) > _LARGEST_AMOUNT:
        raise invalid("Amount must be no more than 99999999.", param, "amount_too_large")
    return amount


def rounded(exact: Decimal) -> int:
    """Half up, away from zero, once."""
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def times(unit_amount_decimal: str | Decimal, quantity: int | Decimal) -> int:
    """Unit amount (may have decimals) times quantity, in whole minor units."""
    return rounded(Decimal(unit_amount_decimal) * quantity)


def plain_decimal(value: Decimal | int) -> str:
    """A decimal as Stripe writes it: no exponent, no trailing zeros."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def set_given(call: Call, body: Object, names: Iterable[str]) -> None:
    """Put each given parameter into the object under the same name; an empty string unsets it."""
    for name in names:
        if name in call.params:
            value = call.params.plain(name)
            body[name] = None if value == "" else value


def updated(call: Call, body: Object, event: str, change: Callable[[], None]) -> Object:
    """Make the change, and emit the event with what the fields were before."""
    before = render(call, body)
    change()
    if render(call, body) != before:
        call.emit(event, body, previous=before)
    return body
