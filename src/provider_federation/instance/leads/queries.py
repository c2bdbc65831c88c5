"""Reading leads."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from provider_federation.instance.leads.models import Lead, Source


def chargeable_leads() -> QuerySet[Lead]:
    """Converted leads from the system that are eligible, priced and belong to a customer; billed ones
    included.
    """
    return Lead.objects.filter(
        source=Source.SYSTEM,
        eligible=True,
        converted_at__isnull=False,
        price_cents__isnull=False,
        customer__isnull=False,
    )


def system_conversions(start: datetime, end: datetime) -> QuerySet[Lead]:
    """What the provider rates: every lead of the system that converted in `[start, end)`, whatever the client
    charges for it.
    """
    return Lead.objects.filter(source=Source.SYSTEM, converted_at__gte=start, converted_at__lt=end)
