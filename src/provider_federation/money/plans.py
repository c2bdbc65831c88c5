"""The provider's price list and what of it was in force when (money rules 4 to 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from provider_federation.money.errors import MoneyError
from provider_federation.money.period import Period

PRICE_CURRENCY: Final = "USD"
LEAD_PRICE_CENTS: Final = 10_000
"""A converted lead costs the client $100, once in its life."""
DEFAULT_AI_CAP_CENTS: Final = 5_000
"""AI usage passes through at cost up to $50 a month unless the client's terms say otherwise."""


class UnknownPlan(MoneyError):
    """No plan has this code."""

    code = "unknown_plan"


@dataclass(frozen=True)
class Limits:
    """What a plan includes a month; None is unlimited."""

    leads: int | None
    users: int | None
    ai_credits: int | None


@dataclass(frozen=True)
class Plan:
    """One line of the price list. `fee_cents` is a month's fee, charged by the Stripe subscription and by
    nothing else.
    """

    code: str
    name: str
    fee_cents: int
    limits: Limits
    support: str
    currency: str = PRICE_CURRENCY


BASE: Final = Plan("BASE", "Base", 0, Limits(100, 3, 1_000), "community")
PRO: Final = Plan("PRO", "Pro", 9_700, Limits(1_000, 10, 5_000), "email")
ELITE: Final = Plan("ELITE", "Elite", 29_700, Limits(None, None, 25_000), "priority")
PLANS: Final[Mapping[str, Plan]] = MappingProxyType({plan.code: plan for plan in (BASE, PRO, ELITE)})


def find_plan(code: str) -> Plan:
    """The plan by its code, in any case ("pro" is PRO); UnknownPlan otherwise."""
    plan = PLANS.get(code.upper()) if isinstance(code, str) else None
    if plan is None:
        raise UnknownPlan(f"There is no such plan; use one of {', '.join(PLANS)}.")
    return plan


RESTRICTED_TO: Final = BASE
"""What is left to a client whose fee has not been paid within the grace period."""


@dataclass(frozen=True)
class Entitled:
    """What a client may use. `state`: `full`, `restricted` (in arrears past the grace period) or `base`."""

    plan: Plan
    state: str
    limits: Limits
    support: str


def entitled_to(plan: Plan, *, in_arrears: bool = False) -> Entitled:
    """What the plan in force gives; `in_arrears` means for longer than the grace period."""
    if not plan.fee_cents:
        return Entitled(plan, "base", plan.limits, plan.support)
    if in_arrears:
        return Entitled(plan, "restricted", RESTRICTED_TO.limits, RESTRICTED_TO.support)
    return Entitled(plan, "full", plan.limits, plan.support)


@dataclass(frozen=True)
class PlanTerms:
    """What holds for one client from `since` on, until the next terms. `plan_code` None: no plan any more
    (cancelled).

    `ai_markup` is a fraction on top of the cost: Decimal("0.10") is ten percent.
    """

    since: datetime
    plan_code: str | None
    ai_cap_cents: int = DEFAULT_AI_CAP_CENTS
    ai_markup: Decimal = Decimal(0)

    @property
    def plan(self) -> Plan | None:
        return None if self.plan_code is None else find_plan(self.plan_code)


def terms_in_force(history: Iterable[PlanTerms], at: datetime) -> PlanTerms | None:
    """The last terms that began at or before `at`; of several that began in the same instant, the one
    recorded last.
    """
    begun = [terms for terms in history if terms.since <= at]
    return max(enumerate(begun), key=lambda pair: (pair[1].since, pair[0]))[1] if begun else None


def plan_in_force(history: Iterable[PlanTerms], at: datetime) -> Plan | None:
    """The plan at that instant; None before the first and after a cancellation."""
    terms = terms_in_force(history, at)
    return None if terms is None else terms.plan


def terms_of_period(history: Iterable[PlanTerms], period: Period) -> PlanTerms | None:
    """The terms that price the usage of a period: those in force when it begins, or the first to begin
    inside it.

    A change of plan, cap or markup in the middle of a month therefore prices usage from the next month on.
    """
    known = list(history)
    at_start = terms_in_force(known, period.start)
    if at_start is not None and at_start.plan_code is not None:
        return at_start
    inside = [terms for terms in known if period.contains(terms.since) and terms.plan_code is not None]
    return min(inside, key=lambda terms: terms.since) if inside else at_start
