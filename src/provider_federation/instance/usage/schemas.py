"""Usage on the wire (docs/architecture.md)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from django.conf import settings
from ninja import Schema
from pydantic import Field

from provider_federation.instance.invoicing.schemas import Cursor
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.usage import queries
from provider_federation.instance.usage.queries import AiUsage
from provider_federation.instance.wire import Answer, Instant, Wire
from provider_federation.money import Period


class UsageQuery(Schema):
    period: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class PeriodOut(Wire):
    label: str
    start: Instant
    end: Instant
    closed: bool

    @classmethod
    def of(cls, period: Period, now: datetime) -> PeriodOut:
        return cls(label=period.label, start=period.start, end=period.end, closed=period.closed(now))


class LeadOut(Wire):
    lead_id: str
    lead_public_id: str
    converted_at: Instant
    evidence: str

    @classmethod
    def of(cls, lead: Lead) -> LeadOut:
        assert lead.converted_at is not None
        evidence = queries.evidence_of(lead)
        return cls(
            lead_id=str(lead.pk),
            lead_public_id=lead.public_id,
            converted_at=lead.converted_at,
            evidence=evidence,
        )


class LeadsOut(Wire):
    count: int
    items: list[LeadOut]
    next_cursor: str | None


class AiOut(Wire):
    """`cost` is an exact decimal number as text, in major units."""

    cost: str
    currency: str
    calls: int
    cap_cents: int

    @classmethod
    def of(cls, usage: AiUsage) -> AiOut:
        return cls(
            cost=plain(usage.cost),
            currency=queries.AI_CURRENCY,
            calls=usage.calls,
            cap_cents=settings.INSTANCE_AI_CAP_CENTS,
        )


class LimitOut(Wire):
    """`limit` null is unlimited."""

    used: int
    limit: int | None


class UsageLimitsOut(Wire):
    leads: LimitOut
    users: LimitOut
    ai_credits: LimitOut

    @classmethod
    def of(cls, period: Period, calls: int) -> UsageLimitsOut:
        used, limits = queries.used_of_plan(period, calls), queries.plan_limits()
        return cls(
            leads=LimitOut(used=used.leads, limit=limits.leads),
            users=LimitOut(used=used.users, limit=limits.users),
            ai_credits=LimitOut(used=used.ai_credits, limit=limits.ai_credits),
        )


class UsageOut(Answer):
    client_org_id: str
    period: PeriodOut
    currency: str
    leads: LeadsOut
    ai: AiOut
    limits: UsageLimitsOut


def plain(number: Decimal) -> str:
    """Digits with a point and without trailing zeros: `12.345678`, `0`."""
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
