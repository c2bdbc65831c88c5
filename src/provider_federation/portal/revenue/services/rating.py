"""From readings to what they cost: each month's terms, the leads charged before, and earlier usage as the
measure.

Months that were settled before are read again, and what came late to them goes onto this month's invoice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db.models import Q

from provider_federation.money import Period, Rating, Usage, combine, find_plan, over_limits, rate
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue import queries
from provider_federation.portal.revenue.models import Kind, UsageInvoice, UsageSnapshot, UsageStatus
from provider_federation.portal.revenue.planned import ClientPlan, PlannedLine, lead_lines
from provider_federation.portal.revenue.usage import Reading, usage_from_json, usage_to_json
from provider_federation.portal.subscriptions.queries import ai_terms_for, plan_in_force

Read = Callable[[Instance, Period], Reading]


@dataclass(frozen=True)
class _Month:
    """One reading with what it is measured against."""

    period: Period
    reading: Reading
    late: bool
    cap: int
    markup: Decimal
    ai_billed: int

    @classmethod
    def of(cls, instance: Instance, period: Period, reading: Reading, *, late: bool) -> _Month:
        cap, markup = ai_terms_for(instance, period.start, period.end)
        return cls(period, reading, late, cap, markup, queries.ai_billed(instance, period.label))


def months_to_read(instance: Instance, period: Period) -> list[Period]:
    """The month itself, then those of the last `BILLING_LATE_MONTHS` that were settled, newest first.

    A month whose invoice is void or held is not among them: it is billed by itself. Nor is one that was settled in
    another currency: what it was billed cannot be taken off what it comes to now.
    """
    before: list[Period] = []
    while len(before) < settings.BILLING_LATE_MONTHS:
        before.append((before or [period])[-1].previous())
    settled = _settled(instance, [one.label for one in before])
    return [period, *(one for one in before if one.label in settled)]


def plan_client(
    instance: Instance, months: Sequence[Period], readings: Sequence[Reading], *, reviewed: bool = False
) -> ClientPlan:
    """What the readings of these months (the first is billed, the others are late) come to.

    `reviewed`: a person looked, so jumps and shrinking counters pass; wrong clients, periods, currencies,
    evidence and impossible numbers never do. MoneyError when terms of our own are wrong.
    """
    parts = [
        _Month.of(instance, month, reading, late=number > 0)
        for number, (month, reading) in enumerate(zip(months, readings, strict=True))
    ]
    rating = combine(_rate(instance, part, reviewed=reviewed) for part in parts)
    return ClientPlan(
        lines=() if rating.held else tuple(_lines(instance, parts, rating)),
        held=rating.held_reasons,
        usage={part.period.label: usage_to_json(part.reading.usage) for part in parts},
        digest=readings[0].digest,
        over_limits=_over_limits(instance, months[0], readings[0].usage),
    )


def _settled(instance: Instance, labels: list[str]) -> set[str]:
    rows = UsageSnapshot.objects.filter(instance=instance, period__in=labels, currency=instance.currency)
    invoices = UsageInvoice.objects.filter(instance=instance, period__in=labels)
    seen = set(rows.values_list("period", flat=True))
    states: dict[str, set[str]] = {}
    for label, status in invoices.values_list("period", "status") if seen else ():
        states.setdefault(label, set()).add(status)
    gone = {UsageStatus.VOID.value, UsageStatus.HELD.value}
    return {label for label in seen if label not in states or states[label] - gone}


def _rate(instance: Instance, part: _Month, *, reviewed: bool) -> Rating:
    period, usage = part.period, part.reading.usage
    ids = [lead.lead_id for lead in usage.leads]
    return rate(
        usage,
        client=instance.org_id,
        period=period,
        currency=instance.currency,
        already_billed=queries.charged_leads(instance, ids, ever=part.late),
        cap=part.cap,
        markup=part.markup,
        ai_billed=part.ai_billed,
        late=part.late,
        previous=() if reviewed else earlier_usage(instance, period),
    )


def earlier_usage(instance: Instance, period: Period) -> list[Usage]:
    """What the client was last settled for: of the same month, and of the newest one before it."""
    rows = UsageSnapshot.objects.filter(Q(period=period.label) | Q(period__lt=period.label))
    found = rows.filter(instance=instance).order_by("-period")[:2]
    same = [row for row in found if row.period == period.label]
    before = [row for row in found if row.period < period.label][:1]
    return [usage_from_json(row.usage) for row in same + before]


def _lines(instance: Instance, parts: list[_Month], rating: Rating) -> list[PlannedLine]:
    lines: list[PlannedLine] = []
    for part in parts:
        label = part.period.label
        mine = [line for line in rating.lines if line.late_for == (label if part.late else "")]
        leads = {lead.lead_id: lead for lead in part.reading.usage.leads}
        lines += lead_lines([line for line in mine if line.kind == "lead"], leads, label, instance.currency)
        lines += [
            _ai_line(part, line.amount_cents, line.description) for line in mine if line.kind == Kind.AI
        ]
    return lines


def _ai_line(part: _Month, amount: int, description: str) -> PlannedLine:
    usage = part.reading.usage
    return PlannedLine(
        kind=Kind.AI.value,
        description=description,
        quantity=1,
        unit_price_cents=None,
        amount_cents=amount,
        late_for=part.period.label if part.late else "",
        evidence={
            "cost": str(usage.ai_cost),
            "calls": usage.ai_calls,
            "capCents": part.cap,
            "markup": str(part.markup),
            "billedBeforeCents": part.ai_billed,
            "digest": part.reading.digest,
        },
    )


def _over_limits(instance: Instance, period: Period, usage: Usage) -> tuple[str, ...]:
    plan = find_plan(plan_in_force(instance, period.start))
    return over_limits(usage.limits, plan.limits) if usage.limits else ()
