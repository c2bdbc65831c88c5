"""What is to be invoiced, and the journal that makes placing it survive a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

CUSTOMER_JOURNAL = "customer:"
LARGEST_TOTAL = 99_999_999
_LONGEST_KEY = 150  # it is part of an idempotency key (255) and a metadata value (500)
_MOST_LINES = 10_000


@dataclass(frozen=True)
class OrderCustomer:
    """Who is billed. `key` is our own stable name for them in this account (metadata `pf_customer`).

    `stripe_id`: their id in Stripe when we know it already; then nothing is created or looked up.
    """

    key: str
    name: str
    email: str | None = None
    stripe_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_key(self.key)


@dataclass(frozen=True)
class OrderLine:
    """One line. `key` is unique in its order (metadata `pf_line`); `amount` in minor units, never negative.

    `starts` and `ends`: the period it is for, half open, when it has one.
    """

    key: str
    description: str
    amount: int
    starts: datetime | None = None
    ends: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_key(self.key)
        if isinstance(self.amount, bool) or not isinstance(self.amount, int) or self.amount < 0:
            raise ValueError("the amount of a line is a whole number of minor units, at least 0")

    def parameters(self) -> dict[str, Any]:
        """As Stripe's `InvoiceAddLinesParamsLine`. Not discountable: what was rated is what is billed."""
        line: dict[str, Any] = {
            "amount": self.amount,
            "description": self.description,
            "discountable": False,
            "metadata": {**self.metadata, "pf_line": self.key},
        }
        if self.starts is not None and self.ends is not None:
            line["period"] = {"start": int(self.starts.timestamp()), "end": int(self.ends.timestamp())}
        return line


@dataclass(frozen=True)
class InvoiceOrder:
    """One invoice to be placed, frozen: the same `key` always stands for the same order, and for one invoice
    in Stripe.

    `key` for instance `usage:<client>:2026-02`; an order that was voided and is billed again takes a new key.
    ValueError for no lines, a line key twice, or a total outside 1 to 99,999,999 minor units.
    """

    key: str
    customer: OrderCustomer
    currency: str
    lines: tuple[OrderLine, ...]
    days_until_due: int = 30
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tax_rates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_key(self.key)
        object.__setattr__(self, "lines", tuple(self.lines))
        if self.key.startswith(CUSTOMER_JOURNAL):
            raise ValueError(f"the key of an order may not begin with {CUSTOMER_JOURNAL}")
        if len({line.key for line in self.lines}) != len(self.lines) or len(self.lines) > _MOST_LINES:
            raise ValueError(
                f"the lines of an order have different keys, and there are at most {_MOST_LINES}"
            )
        if not 0 < self.total <= LARGEST_TOTAL:
            raise ValueError(f"the total of an order is from 1 to {LARGEST_TOTAL} minor units")

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines)


@dataclass(frozen=True)
class StepRecord:
    """One row of the journal: what was, or is being, done under which idempotency key.

    `at` is the time of the latest begin, `first_at` of the first; `result_id` is None while the outcome is
    unknown.
    """

    idempotency_key: str
    at: datetime
    result_id: str | None = None
    first_at: datetime | None = None


class Journal(Protocol):
    """The memory of placements; each app keeps it in a table, unique over (key, step). `key` has up to 180
    characters.

    `begin` and `finish` are committed when they return: place invoices outside of any transaction.
    """

    def load(self, key: str) -> Mapping[str, StepRecord]:
        """All steps of this key, by name; empty when there are none."""

    def begin(self, key: str, step: str, idempotency_key: str, at: datetime) -> None:
        """Store the key before the call. Again: replace idempotency key and `at`, keep `first_at`; leave a
        finished step alone.
        """

    def finish(self, key: str, step: str, result_id: str, at: datetime) -> str:
        """Store what it led to, and answer what stands: a finished step keeps its first result."""


Began = tuple[str, str, str]
"""The key of an order, the name of a step, the idempotency key that it is begun under."""
Finished = tuple[str, str, str]
"""The key of an order, the name of a step, the id that it led to."""


class ManyJournal(Journal, Protocol):
    """A journal that keeps a turn of many orders, at most one step of each, in one commit."""

    def turn(
        self, finished: Sequence[Finished], began: Sequence[Began], at: datetime
    ) -> tuple[Mapping[str, str], set[str]]:
        """`finish` these and begin those, committed together when it returns.

        Answers what stands for each finished one, by the order's key, and the keys of the orders whose step nobody
        had begun before. A step that somebody began stays as it is and is not among them.
        """


def _check_key(key: str) -> None:
    if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise ValueError(f"a key is 1 to {_LONGEST_KEY} printable ASCII characters")
