"""What we read of Stripe's subscription schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from provider_federation.stripe_account.shapes import Shape, Values, expanded_id, instant


@dataclass(frozen=True)
class StripePhase:
    """What a schedule charges in `[start, end)`."""

    price_id: str
    start: datetime
    end: datetime
    tax_rate_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class StripeSchedule(Shape):
    """What becomes of a subscription when its period ends; one price in each phase."""

    id: str
    status: str
    subscription_id: str | None
    phases: tuple[StripePhase, ...]

    @classmethod
    def _read(cls, values: Values) -> Self:
        subscription = values.get("subscription") or values.get("released_subscription")
        phases = tuple(
            StripePhase(
                str(expanded_id(one["items"][0]["price"])),
                instant(one["start_date"]),
                instant(one["end_date"]),
                tuple(str(expanded_id(rate)) for rate in one.get("default_tax_rates") or ()),
            )
            for one in values["phases"]
        )
        return cls(values["id"], values["status"], expanded_id(subscription), phases)
