"""What the provider rates: the month's conversions with their evidence, AI usage, and how much of the plan is
used.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.invoicing.queries import read_time_cursor, time_cursor
from provider_federation.instance.leads.models import Lead, Source
from provider_federation.instance.leads.queries import system_conversions
from provider_federation.instance.people.models import Person
from provider_federation.instance.usage.models import PICO, AiUsageEvent
from provider_federation.instance.wire import iso
from provider_federation.kit.hash_chain import digest
from provider_federation.money import Limits, Period

AI_CURRENCY = "usd"


@dataclass(frozen=True)
class AiUsage:
    """`cost` is exact, in dollars."""

    cost: Decimal
    calls: int


@dataclass(frozen=True)
class Used:
    leads: int
    users: int
    ai_credits: int


def read_month(label: str) -> Period:
    """The calendar month `YYYY-MM` in the provider's billing zone; money's BadDate otherwise."""
    return Period.month(label, str(settings.PROVIDER_ZONE))


def conversions_page(period: Period, cursor: str | None, limit: int) -> tuple[list[Lead], str | None]:
    """A page of the month's conversions, newest first, and the cursor of the next page or None."""
    leads = system_conversions(period.start, period.end).order_by("-converted_at", "-id")
    if cursor is not None:
        at, last_id = read_time_cursor(cursor)
        leads = leads.filter(Q(converted_at__lt=at) | Q(converted_at=at, id__lt=last_id))
    page = list(leads[: limit + 1])
    last = page[limit - 1] if len(page) > limit else None
    return page[:limit], time_cursor(
        last.converted_at, last.pk
    ) if last is not None and last.converted_at else None


def count_conversions(period: Period) -> int:
    return system_conversions(period.start, period.end).count()


def evidence_of(lead: Lead) -> str:
    """`sha256:<hex>` over the canonical JSON of lead id, public id, conversion time and source."""
    assert lead.converted_at is not None
    return digest(
        {
            "leadId": str(lead.pk),
            "leadPublicId": lead.public_id,
            "convertedAt": iso(lead.converted_at),
            "source": lead.source,
        }
    )


def ai_usage(period: Period) -> AiUsage:
    """The exact sum of the month."""
    one = 10**PICO
    # Summed in two parts: SQLite's sum ends at 64 bits, which all costs of a busy month in pico could pass.
    sums = AiUsageEvent.objects.filter(at__gte=period.start, at__lt=period.end).aggregate(
        whole=Coalesce(Sum(F("cost_pico") / one), 0),
        rest=Coalesce(Sum(F("cost_pico") % one), 0),
        calls=Coalesce(Sum("calls"), 0),
    )
    return AiUsage(Decimal(int(sums["whole"]) * one + int(sums["rest"])).scaleb(-PICO), int(sums["calls"]))


def used_of_plan(period: Period, calls: int) -> Used:
    """Leads that came in from the system, people who can sign in, and one credit for each AI call."""
    leads = Lead.objects.filter(
        source=Source.SYSTEM, created_at__gte=period.start, created_at__lt=period.end
    ).count()
    return Used(leads, Person.objects.filter(is_active=True).count(), calls)


def plan_limits() -> Limits:
    """What the portal told last, else what INSTANCE_PLAN includes."""
    return allowed_now().limits
