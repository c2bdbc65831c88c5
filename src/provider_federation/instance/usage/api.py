"""`GET /api/provider/usage`: what the provider rates."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from ninja import Query, Router

from provider_federation.instance.people.access import Access
from provider_federation.instance.usage import queries
from provider_federation.instance.usage.schemas import (
    AiOut,
    LeadOut,
    LeadsOut,
    PeriodOut,
    UsageLimitsOut,
    UsageOut,
    UsageQuery,
)
from provider_federation.kit import clock
from provider_federation.kit.web.api import refuse_unknown_query

router = Router(tags=["usage"], by_alias=True)


@router.get("/provider/usage", response=UsageOut, auth=Access("billing.read", "read"))
def usage(request: HttpRequest, query: Query[UsageQuery]) -> UsageOut:
    """The month's conversions (newest first, a page at a time), its AI usage and how much of the plan is
    used.
    """
    refuse_unknown_query(request, ("period", "cursor", "limit"))
    period = queries.read_month(query.period)
    leads, following = queries.conversions_page(period, query.cursor, query.limit)
    ai = queries.ai_usage(period)
    return UsageOut(
        client_org_id=settings.INSTANCE_ORG_ID,
        period=PeriodOut.of(period, clock.now()),
        currency=queries.AI_CURRENCY,
        leads=LeadsOut(
            count=queries.count_conversions(period),
            items=[LeadOut.of(lead) for lead in leads],
            next_cursor=following,
        ),
        ai=AiOut.of(ai),
        limits=UsageLimitsOut.of(period, ai.calls),
    )
