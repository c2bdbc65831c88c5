# ruff: noqa: ARG002  the names are those of StripeAccount
"""A Stripe account as it was after each step of a scenario, for reading again in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Moment:
    """Everything that applying an event can ask the account for, as it was at one time."""

    invoices: dict[str, Any] = field(default_factory=dict)
    subscriptions: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    refunds: dict[str, Any] = field(default_factory=dict)
    payments: list[Any] = field(default_factory=list)
    lines: dict[str, Any] = field(default_factory=dict)


def record(account: Any) -> Moment:
    """Read it now."""
    invoices = {one.id: one for one in account.list_invoices()}
    notes = [one.id for one in account.list_credit_notes()]
    return Moment(
        {one: account.retrieve_invoice(one, payments=True) for one in invoices},
        {one.id: one for one in account.list_subscriptions()},
        {one: account.retrieve_credit_note(one) for one in notes},
        {one.id: one for one in account.list_refunds()},
        account.list_payments(),
        {one: account.list_lines(one) for one in invoices},
    )


class Recorded:
    """Answers the reads of `StripeAccount` from the moment it stands at. It cannot write."""

    def __init__(self, moments: list[Moment]) -> None:
        self.moments = moments
        self.at = 0

    @property
    def now(self) -> Moment:
        return self.moments[self.at]

    def retrieve_invoice(self, key: str, *, payments: bool = False) -> Any:
        return self.now.invoices[key]

    def retrieve_subscription(self, key: str) -> Any:
        return self.now.subscriptions[key]

    def retrieve_credit_note(self, key: str) -> Any:
        return self.now.notes[key]

    def retrieve_refund(self, key: str) -> Any:
        return self.now.refunds[key]

    def list_lines(self, key: str) -> Any:
        return self.now.lines[key]

    def list_payments(self, *, intent_id: str) -> Any:
        return [one for one in self.now.payments if one.intent_id == intent_id]

    def list_refunds(self, *, intent_id: str | None = None, since: Any = None, most: int = 0) -> Any:
        return [one for one in self.now.refunds.values() if intent_id in {None, one.intent_id}]

    def list_credit_notes(self, *, since: Any = None, most: int = 0) -> Any:
        return list(self.now.notes.values())

    def list_subscriptions(self, *, status: str, most: int) -> Any:
        return list(self.now.subscriptions.values())

    def list_invoices(
        self, *, since: Any = None, before: Any = None, status: str | None = None, most: int = 0
    ) -> Any:
        return [
            one
            for one in self.now.invoices.values()
            if status in {None, one.status}
            and (since is None or one.created >= since)
            and (before is None or one.created < before)
        ]
