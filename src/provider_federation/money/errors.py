"""What money refuses. Each is a ValueError with a stable `code` and a sentence that says what to do."""

from __future__ import annotations


class MoneyError(ValueError):
    """The family; the web rim answers it as a 400 or 422 with `code`."""

    code = "bad_money"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadAmount(MoneyError):
    """Not a number that we bill: a float, NaN, an exponent, foreign digits, too long, out of range."""

    code = "bad_amount"


class BadCurrency(MoneyError):
    """Not a currency that we bill in."""

    code = "bad_currency"


class BadDate(MoneyError):
    """Not a date, a month or a range that we read."""

    code = "bad_date"


class BadZone(MoneyError):
    """Not an IANA time zone that this machine knows."""

    code = "bad_zone"
