"""What we read of credit notes, refunds and payments, as frozen values; amounts in minor units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from provider_federation.stripe_account.shapes import (
    Shape,
    Values,
    expanded_id,
    instant,
    maybe_instant,
    metadata_of,
    tax_of,
)


@dataclass(frozen=True)
class StripeCreditNoteLine(Shape):
    """`invoice_line_id` is the line of the invoice that it credits, None for a free one."""

    id: str
    amount: int
    description: str | None
    invoice_line_id: str | None

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            id=values["id"],
            amount=int(values["amount"]),
            description=values.get("description"),
            invoice_line_id=values.get("invoice_line_item"),
        )


@dataclass(frozen=True)
class StripeCreditNote(Shape):
    """A credit note; `total` is `subtotal` and the tax on top of it. `refunds` are ids with their amounts."""

    id: str
    number: str
    invoice_id: str
    status: str
    currency: str
    subtotal: int
    tax: int
    total: int
    before_payment: int
    out_of_band: int
    refunds: tuple[tuple[str, int], ...]
    reason: str | None
    memo: str | None
    pdf: str | None
    metadata: Mapping[str, str]
    created: datetime
    voided_at: datetime | None = None
    lines: tuple[StripeCreditNoteLine, ...] = ()

    @property
    def refunded(self) -> int:
        """What went back to where it came from."""
        return sum(amount for _, amount in self.refunds)

    @property
    def to_balance(self) -> int:
        """What went to the customer's balance: the rest of what was credited after payment."""
        return self.total - self.before_payment - self.out_of_band - self.refunded

    @classmethod
    def _read(cls, values: Values) -> Self:
        lines = (values.get("lines") or {}).get("data") or ()
        return cls(
            id=values["id"],
            number=values.get("number") or "",
            invoice_id=_needed(values["invoice"]),
            status=values["status"],
            currency=values["currency"].upper(),
            subtotal=int(values["subtotal"]),
            tax=tax_of(values),
            total=int(values["total"]),
            before_payment=int(values.get("pre_payment_amount") or 0),
            out_of_band=int(values.get("out_of_band_amount") or 0),
            refunds=tuple(
                (_needed(one["refund"]), int(one["amount_refunded"])) for one in values.get("refunds") or ()
            ),
            reason=values.get("reason"),
            memo=values.get("memo"),
            pdf=values.get("pdf"),
            metadata=metadata_of(values),
            created=instant(values["created"]),
            voided_at=maybe_instant(values.get("voided_at")),
            lines=tuple(StripeCreditNoteLine.read(line) for line in lines),
        )


@dataclass(frozen=True)
class StripeRefund(Shape):
    """A refund; `status` is Stripe's (`pending succeeded failed canceled requires_action`)."""

    id: str
    amount: int
    currency: str
    status: str
    intent_id: str | None
    charge_id: str | None
    reason: str | None
    failure: str | None
    metadata: Mapping[str, str]
    created: datetime

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            id=values["id"],
            amount=int(values["amount"]),
            currency=values["currency"].upper(),
            status=values.get("status") or "pending",
            intent_id=expanded_id(values.get("payment_intent")),
            charge_id=expanded_id(values.get("charge")),
            reason=values.get("reason"),
            failure=values.get("failure_reason"),
            metadata=metadata_of(values),
            created=instant(values["created"]),
        )


@dataclass(frozen=True)
class StripePayment(Shape):
    """What pays an invoice; without an `intent_id` the money did not come through Stripe."""

    id: str
    invoice_id: str
    status: str
    amount_paid: int
    intent_id: str | None
    paid_at: datetime | None

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            id=values["id"],
            invoice_id=_needed(values["invoice"]),
            status=values["status"],
            amount_paid=int(values.get("amount_paid") or 0),
            intent_id=expanded_id((values.get("payment") or {}).get("payment_intent")),
            paid_at=maybe_instant((values.get("status_transitions") or {}).get("paid_at")),
        )


@dataclass(frozen=True)
class StripeCharge(Shape):
    """One try to take money: what it took, and what of that went back."""

    id: str
    paid: bool
    captured: int
    refunded: int

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            values["id"],
            bool(values["paid"]),
            int(values["amount_captured"]),
            int(values["amount_refunded"]),
        )


def _needed(value: Any) -> str:
    found = expanded_id(value)
    if not isinstance(found, str):
        raise TypeError("an id is missing")
    return found
