"""An order is checked when it is made, not when it is half placed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from provider_federation.stripe_account import InvoiceOrder, OrderCustomer, OrderLine

CUSTOMER = OrderCustomer("acme", "Acme")
ORDER = InvoiceOrder(
    "usage:acme:2026-02", CUSTOMER, "USD", (OrderLine("a", "A", 100), OrderLine("b", "B", 0))
)


def test_a_good_order():
    assert ORDER.total == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": ()},
        {"lines": (OrderLine("a", "A", 0),)},
        {"lines": (OrderLine("a", "A", 1), OrderLine("a", "B", 1))},
        {"lines": (OrderLine("a", "A", 99_999_999), OrderLine("b", "B", 1))},
        {"lines": tuple(OrderLine(str(n), "A", 1) for n in range(10_001))},
        {"key": ""},
        {"key": "customer:acme"},
        {"key": "é"},
        {"key": "a\nb"},
        {"key": "k" * 151},
    ],
)
def test_bad_orders(wrong):
    with pytest.raises(ValueError, match=r"key|total|lines"):
        replace(ORDER, **wrong)


@pytest.mark.parametrize("amount", [-1, 1.0, True, "1", None])
def test_bad_line_amounts(amount):
    with pytest.raises(ValueError, match="amount"):
        OrderLine("a", "A", amount)


def test_a_line_as_stripe_takes_it():
    start, end = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    line = OrderLine("a", "Lead", 100, start, end, {"lead": "1"})
    assert line.parameters() == {
        "amount": 100,
        "description": "Lead",
        "discountable": False,
        "metadata": {"lead": "1", "pf_line": "a"},
        "period": {"start": int(start.timestamp()), "end": int(end.timestamp())},
    }
