"""From a reading to what it costs: the month's terms, the leads charged before, and earlier usage as the
measure.
"""

from __future__ import annotations

from provider_federation.money import Period, Rating, Usage, rate
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.queries import charged_leads
from provider_federation.portal.revenue.usage import Reading, usage_from_json
from provider_federation.portal.subscriptions.queries import ai_cap_for


def rate_reading(instance: Instance, period: Period, reading: Reading, *, reviewed: bool = False) -> Rating:
    """Lines and subtotal, or the reasons to hold. `reviewed`: a person looked, so jumps and shrinking
    counters pass; wrong clients, periods, currencies and impossible numbers never do.
    """
    return rate(
        reading.usage,
        client=instance.org_id,
        period=period,
        currency=instance.currency,
        already_billed=charged_leads(instance),
        cap=ai_cap_for(instance, period.start, period.end),
        previous=() if reviewed else earlier_usage(instance, period),
    )


def earlier_usage(instance: Instance, period: Period) -> list[Usage]:
    """What was billed before: the same month (if that invoice was voided) and the last month with an
    invoice.
    """
    billed = UsageInvoice.objects.filter(instance=instance).exclude(status=UsageStatus.HELD)
    same = list(billed.filter(period=period.label).order_by("-created_at")[:1])
    before = list(billed.filter(period__lt=period.label).order_by("-period", "-created_at")[:1])
    return [usage_from_json(row.usage) for row in same + before]
