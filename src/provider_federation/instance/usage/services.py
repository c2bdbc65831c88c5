"""Recording what the app's AI features used."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.entitlements.services import hold_allowed, over_plan
from provider_federation.instance.usage.models import HIGHEST_COST_PICO, PICO, AiUsageEvent
from provider_federation.instance.usage.queries import ai_usage
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period

_MOST_CALLS = 1_000_000


def record_ai_usage(kind: str, *, cost: Decimal, calls: int = 1, at: datetime | None = None) -> AiUsageEvent:
    """Keep `calls` calls that cost `cost` dollars together, exactly (at most 12 decimals). Problem 400
    `bad_amount`.
    """
    if not 1 <= calls <= _MOST_CALLS:
        raise Problem(400, "bad_amount", f"A usage event has 1 to {_MOST_CALLS} calls.")
    return AiUsageEvent.objects.create(kind=kind, calls=calls, cost_pico=_pico(cost), at=at or clock.now())


def use_ai(kind: str, *, cost: Decimal, calls: int = 1) -> AiUsageEvent:
    """The app's door to its AI features: the credits are looked at and taken together, so that two at once
    never share the last one. Problem 409 `plan_limit_reached`, and then nothing is recorded.

    A call that was made whatever the plan says goes to `record_ai_usage`: a cost that arose is never lost.
    """
    with transaction.atomic():
        check_ai_credits(calls)
        return record_ai_usage(kind, cost=cost, calls=calls)


def check_ai_credits(calls: int = 1) -> None:
    """Ask before an AI call: Problem 409 `plan_limit_reached` when the month's credits are used up. In a
    transaction the answer holds until its end.
    """
    with transaction.atomic():
        hold_allowed()
    allowed = allowed_now()
    limit = allowed.limits.ai_credits
    if not allowed.told or limit is None:
        return
    month = Period.month_of(clock.now(), str(settings.PROVIDER_ZONE))
    if ai_usage(month).calls + calls > limit:
        raise over_plan(f"The plan {allowed.plan} has {limit:,} AI credits a month", "aiCredits")


def _pico(cost: Decimal) -> int:
    problem = Problem(400, "bad_amount", "A cost is a decimal from 0 to 10000 with at most 12 decimals.")
    if not cost.is_finite() or not 0 <= cost <= HIGHEST_COST_PICO // 10**PICO:
        raise problem
    if int(cost.as_tuple().exponent) < -PICO:
        raise problem
    return int(cost.scaleb(PICO))
