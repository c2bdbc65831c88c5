"""Money, pure: amounts, periods, plans and rating. Standard library only; no clock, no I/O. The rules:
docs/money.md.
"""

from provider_federation.money.amount import (
    STRIPE_MAXIMUM,
    check_amount,
    check_currency,
    exact_sum,
    exponent,
    format_amount,
    parse_decimal,
    round_half_up,
    to_decimal,
)
from provider_federation.money.errors import BadAmount, BadCurrency, BadDate, BadZone, MoneyError
from provider_federation.money.period import Period, parse_day, parse_window
from provider_federation.money.plans import (
    DEFAULT_AI_CAP_CENTS,
    LEAD_PRICE_CENTS,
    PLANS,
    PRICE_CURRENCY,
    Limits,
    Plan,
    PlanTerms,
    UnknownPlan,
    find_plan,
    plan_in_force,
    terms_in_force,
    terms_of_period,
)
from provider_federation.money.rating import HeldReason, RatedLine, Rating, Usage, UsageLead, ai_amount, rate

__all__ = [
    "DEFAULT_AI_CAP_CENTS",
    "LEAD_PRICE_CENTS",
    "PLANS",
    "PRICE_CURRENCY",
    "STRIPE_MAXIMUM",
    "BadAmount",
    "BadCurrency",
    "BadDate",
    "BadZone",
    "HeldReason",
    "Limits",
    "MoneyError",
    "Period",
    "Plan",
    "PlanTerms",
    "RatedLine",
    "Rating",
    "UnknownPlan",
    "Usage",
    "UsageLead",
    "ai_amount",
    "check_amount",
    "check_currency",
    "exact_sum",
    "exponent",
    "find_plan",
    "format_amount",
    "parse_day",
    "parse_decimal",
    "parse_window",
    "plan_in_force",
    "rate",
    "round_half_up",
    "terms_in_force",
    "terms_of_period",
    "to_decimal",
]
