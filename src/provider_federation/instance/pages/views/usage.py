"""What the instance used in a month: AI to the exact cent's fraction, and how much of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from provider_federation.instance.disputes.queries import count_undecided
from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.pages.access import page
from provider_federation.instance.pages.figures import this_month
from provider_federation.instance.usage import queries
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import MoneyError, Period, ai_amount


@dataclass(frozen=True)
class Limit:
    """`limit` None is unlimited."""

    name: str
    used: int
    limit: int | None

    @property
    def over(self) -> bool:
        return self.limit is not None and self.used > self.limit


@page("billing.read")
def usage(request: HttpRequest) -> HttpResponse:
    period = _month(request.GET.get("month", ""))
    ai = queries.ai_usage(period)
    cap = settings.INSTANCE_AI_CAP_CENTS
    context = {
        "period": period,
        "closed": period.closed(clock.now()),
        "later": None if period.end > clock.now() else period.next().label,
        "earlier": period.previous().label,
        "ai": ai,
        "cost": exact_text(ai.cost),
        "cap": cap,
        "charged": ai_amount(ai.cost, cap=cap),
        "currency": queries.AI_CURRENCY,
        "conversions": queries.count_conversions(period),
        "allowed": allowed_now(),
        "limits": plan_use(period, ai.calls),
        "undecided": count_undecided(),
    }
    return render(request, "instance/usage.html", context)


def exact_text(cost: Decimal) -> str:
    """Every digit that counts, and at least the cents: `3.479008`, `3.40`."""
    whole, _, decimals = f"{cost:f}".partition(".")
    return f"{int(whole):,}.{decimals.rstrip('0'):0<2}"


def _month(label: str) -> Period:
    if not label:
        return this_month()
    try:
        period = queries.read_month(label)
        period.previous()
    except MoneyError as error:
        raise Problem(400, error.code, error.message) from None
    return period


def plan_use(period: Period, calls: int) -> list[Limit]:
    """How much of the plan a month used; `calls` are its AI calls."""
    used, limits = queries.used_of_plan(period, calls), queries.plan_limits()
    return [
        Limit("Leads", used.leads, limits.leads),
        Limit("People", used.users, limits.users),
        Limit("AI credits", used.ai_credits, limits.ai_credits),
    ]
