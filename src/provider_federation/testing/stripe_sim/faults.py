"""Faults on demand: the next matching requests (or payments) of an account go wrong in a chosen way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

KINDS = {
    "rate_limit": "429 before anything happens",
    "error_before": "500 before the change; not remembered, so that a retry does the work",
    "error_after": "500 after the commit; remembered by the idempotency key as Stripe does",
    "drop_before": "the connection is cut before the change",
    "drop_after": "the connection is cut after the commit; the key remembers the true answer",
    "slow": "the answer waits for `seconds`, after the commit (`when: before` for before it)",
    "card_declined": "the next payment attempt is declined",
    "forget_idempotency": "every idempotency key of the account is forgotten at once",
}


@dataclass
class Fault:
    """One order. `account` None is every account; `method` and `path` are patterns with `*`; `skip` lets some
    pass first.
    """

    id: int
    kind: str
    account: str | None = None
    method: str = "*"
    path: str = "*"
    count: int = 1
    skip: int = 0
    seconds: float = 0.0
    when: str = "after"
    remembered: bool | None = None

    def fits(self, account: str, method: str, path: str) -> bool:
        return (
            self.account in {None, account}
            and fnmatchcase(method, self.method)
            and fnmatchcase(path, self.path)
        )


class Faults:
    """The orders that are still open, oldest first."""

    def __init__(self) -> None:
        self.open: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, **wanted: Any) -> Fault:
        fault = Fault(id=next(self._ids), **wanted)
        if fault.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        self.open.append(fault)
        return fault

    def take(self, kinds: Iterable[str], account: str, method: str = "*", path: str = "*") -> Fault | None:
        """The first open order of one of these kinds that fits, counted down by one."""
        wanted = set(kinds)
        for fault in self.open:
            if fault.kind in wanted and fault.fits(account, method, path):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.count -= 1
                if fault.count <= 0:
                    self.open.remove(fault)
                return fault
        return None

    def shown(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.open]
