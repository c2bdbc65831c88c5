"""Reading the provider's usage invoices: one, a page, what was charged before, what still waits for a person."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import CharField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, NullIf

from provider_federation.kit.pagination import encode_cursor
from provider_federation.kit.problem import not_found
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import (
    Alert,
    Kind,
    LeadCharge,
    StripeEvent,
    UsageInvoice,
    UsageLine,
    UsageStatus,
)
from provider_federation.portal.subscriptions.queries import after_cursor


def live_usage_invoice(instance: Instance, period: str) -> UsageInvoice | None:
    """The client's usage invoice of that month, a void one aside."""
    return (
        UsageInvoice.objects.filter(instance=instance, period=period).exclude(status=UsageStatus.VOID).first()
    )


def usage_invoice(invoice_id: str) -> UsageInvoice:
    """Problem 404 when there is none, or the id is not one."""
    try:
        key = UUID(invoice_id)
    except ValueError:
        raise not_found("usage invoice") from None
    found = UsageInvoice.objects.select_related("instance").filter(pk=key).first()
    if found is None:
        raise not_found("usage invoice")
    return found


def charged_leads(instance: Instance, lead_ids: Iterable[str], *, ever: bool = False) -> set[str]:
    """Which of these leads this client was charged for and may not be charged for again.

    `ever`: also those that were freed while their invoice stands (a dispute the client won): late usage does
    not bring them back by itself.
    """
    charges = LeadCharge.objects.filter(instance=instance, lead_id__in=list(lead_ids))
    standing = ~Q(line__invoice__status=UsageStatus.VOID) if ever else Q(pk__in=())
    return set(charges.filter(Q(released_at=None) | standing).values_list("lead_id", flat=True))


def ai_billed(instance: Instance, period: str) -> int:
    """What the AI usage of that month was billed so far, on its own invoice and late on others, in minor units."""
    lines = UsageLine.objects.filter(invoice__instance=instance, kind=Kind.AI)
    mine = lines.filter(Q(late_for=period) | Q(late_for="", invoice__period=period))
    standing = mine.exclude(invoice__status=UsageStatus.VOID)
    return int(standing.aggregate(sum=Sum("amount_cents"))["sum"] or 0)


def ai_billed_of(instances: Collection[UUID], months: Collection[str]) -> dict[tuple[UUID, str], int]:
    """The same for many clients and months at once; what was never billed is not in the answer."""
    arose = Coalesce(NullIf("late_for", Value("")), F("invoice__period"), output_field=CharField())
    lines = UsageLine.objects.filter(invoice__instance__in=instances, kind=Kind.AI).order_by()
    standing = lines.exclude(invoice__status=UsageStatus.VOID).annotate(arose=arose)
    sums = standing.filter(arose__in=months).values_list("invoice__instance", "arose")
    return {(client, label): int(cents) for client, label, cents in sums.annotate(Sum("amount_cents"))}


@dataclass(frozen=True)
class InvoicePage:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[UsageInvoice]
    next_cursor: str | None


def list_usage_invoices(
    *, client_org_id: str = "", status: str = "", period: str = "", cursor: str = "", limit: int = 50
) -> InvoicePage:
    """One page of usage invoices. Problem 400 `bad_cursor`."""
    given = {"instance__org_id": client_org_id, "status": status, "period": period}
    rows = UsageInvoice.objects.filter(**{name: value for name, value in given.items() if value})
    if cursor:
        rows = rows.filter(after_cursor(cursor))
    items = list(rows.order_by("-created_at", "-id").select_related("instance").defer("usage")[: limit + 1])
    more, items = len(items) > limit, items[:limit]
    return InvoicePage(
        items, encode_cursor(items[-1].created_at.isoformat(), str(items[-1].pk)) if more else None
    )


def open_alerts() -> QuerySet[Alert]:
    """What a person still has to look at, newest first."""
    return Alert.objects.filter(resolved_at=None)


def events_waiting() -> QuerySet[StripeEvent]:
    """Stored and not applied yet, or parked."""
    return StripeEvent.objects.filter(state__in=("pending", "parked"))
