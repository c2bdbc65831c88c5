"""Reading subscriptions: the plan in force, pages, and sums over all rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.money import Period, PlanTerms
from provider_federation.money.plans import terms_of_period
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.models import (
    ENDED,
    WAITING,
    CapChange,
    ChangeState,
    PlanChange,
    PlanCode,
    Status,
    Subscription,
    SubscriptionChange,
    SubscriptionInvoice,
)

MOST = 200
"""Rows in one page at most."""


@dataclass(frozen=True)
class Page:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[Subscription]
    next_cursor: str | None


@dataclass(frozen=True)
class Filters:
    """What to list; empty means any."""

    plan: str = ""
    status: str = ""
    client_org_id: str = ""


@dataclass(frozen=True)
class Summary:
    """Over every subscription there is, whatever page or filter is shown.

    `mrr_cents` is the monthly recurring revenue by currency, in minor units: the fees of what is active or
    past due (a trial and an unpaid first invoice do not recur yet).
    """

    total: int
    by_plan: dict[str, int]
    by_status: dict[str, int]
    mrr_cents: dict[str, int] = field(default_factory=dict)
    cancelling: int = 0


def plan_in_force(instance: Instance, at: datetime) -> str:
    """The code of the plan at that instant; a client that never subscribed is on BASE."""
    change = (
        PlanChange.objects.filter(instance=instance, effective_at__lte=at)
        .order_by("-effective_at", "-id")
        .first()
    )
    return change.plan if change else PlanCode.BASE


def plan_history(instance: Instance) -> list[PlanChange]:
    """Every change, oldest first; the last one at or before an instant is in force then."""
    return list(PlanChange.objects.filter(instance=instance).order_by("effective_at", "id"))


def current_subscription(instance: Instance) -> Subscription | None:
    """The one that has not ended, or None."""
    return Subscription.objects.filter(instance=instance).exclude(status__in=ENDED).first()


def change_under_way(subscription: Subscription) -> SubscriptionChange | None:
    """The change that is being carried out, waits for its payment, or is scheduled."""
    open_states = (ChangeState.CARRYING_OUT, *WAITING)
    rows = SubscriptionChange.objects.filter(subscription=subscription, state__in=open_states)
    return rows.order_by("created_at").first()


def get_subscription(subscription_id: str) -> Subscription:
    """Problem 404 when there is none, or the id is not one."""
    try:
        key = UUID(subscription_id)
    except ValueError:
        raise not_found("subscription") from None
    found = Subscription.objects.select_related("instance").filter(pk=key).first()
    if found is None:
        raise not_found("subscription")
    return found


def list_subscriptions(filters: Filters, *, cursor: str = "", limit: int = 50) -> Page:
    """One page of what the filters leave. Problem 400 `bad_cursor`."""
    rows = _filtered(filters).order_by("-created_at", "-id")
    if cursor:
        rows = rows.filter(after_cursor(cursor))
    items = list(rows.select_related("instance")[: limit + 1])
    more = len(items) > limit
    items = items[:limit]
    return Page(items, encode_cursor(items[-1].created_at.isoformat(), str(items[-1].pk)) if more else None)


def summarise() -> Summary:
    """See `Summary`; three grouped queries, no matter how many rows."""
    alive = Subscription.objects.exclude(status__in=ENDED)
    recurring = Subscription.objects.filter(status__in=(Status.ACTIVE, Status.PAST_DUE))
    return Summary(
        total=Subscription.objects.count(),
        by_plan=_counts(alive, "plan", PlanCode.values),
        by_status=_counts(Subscription.objects.all(), "status", Status.values),
        mrr_cents={
            row["currency"]: row["sum"]
            for row in recurring.order_by()
            .values("currency")
            .annotate(sum=Sum("fee_cents"))
            .order_by("currency")
        },
        cancelling=alive.filter(cancel_at_period_end=True).count(),
    )


def billed_between(instance: Instance, start: datetime, end: datetime) -> dict[str, int]:
    """What subscriptions billed in `[start, end)`, by currency: finalised invoices that are not void."""
    sums: dict[str, int] = defaultdict(int)
    for invoice in billed_invoices(instance, start, end):
        sums[invoice.currency] += invoice.total_cents
    return dict(sums)


def billed_invoices(instance: Instance, start: datetime, end: datetime) -> QuerySet[SubscriptionInvoice]:
    """The finalised subscription invoices of `[start, end)` that are not void."""
    rows = SubscriptionInvoice.objects.filter(instance=instance, billed_at__gte=start, billed_at__lt=end)
    return rows.exclude(status__in=("draft", "void")).order_by("billed_at", "id")


def _counts(rows: QuerySet[Subscription], column: str, values: list[str]) -> dict[str, int]:
    counted = dict(rows.order_by().values_list(column).annotate(count=Count("pk")))
    return {value: counted.get(value, 0) for value in values}


def _filtered(filters: Filters) -> QuerySet[Subscription]:
    rows = Subscription.objects.all()
    if filters.plan:
        rows = rows.filter(plan=filters.plan)
    if filters.status:
        rows = rows.filter(status=filters.status)
    if filters.client_org_id:
        rows = rows.filter(instance__org_id=filters.client_org_id)
    return rows


def after_cursor(cursor: str) -> Q:
    """The rows behind a cursor of `(created_at, id)`, newest first. Problem 400 `bad_cursor`."""
    at, last = decode_cursor(cursor, (str, str))
    problem = Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    try:
        when, key = datetime.fromisoformat(str(at)), UUID(str(last))
    except ValueError:
        raise problem from None
    if when.tzinfo is None:
        raise problem
    return Q(created_at__lt=when) | Q(created_at=when, pk__lt=key)


def ai_terms_for(instance: Instance, start: datetime, end: datetime) -> tuple[int, Decimal]:
    """The AI cap in minor units and the markup (a fraction) of the month `[start, end)`: in force when it
    begins, else the first inside it.

    A change in the middle of a month holds from the next one on (money.plans.terms_of_period). A month from
    before the client was entered here is priced by the first terms it ever had.
    """
    changes = CapChange.objects.filter(instance=instance).order_by("effective_at", "id")
    history = [
        PlanTerms(change.effective_at, PlanCode.BASE, change.cap_cents, change.markup) for change in changes
    ]
    if not history:
        return instance.ai_cap_cents, Decimal(0)
    terms = terms_of_period(history, Period(start, end)) or history[0]
    return terms.ai_cap_cents, terms.ai_markup


def ai_cap_for(instance: Instance, start: datetime, end: datetime) -> int:
    """The cap of `ai_terms_for`."""
    return ai_terms_for(instance, start, end)[0]


def known_status(status: str) -> str:
    """The status as given, or Problem 400 for one that there is not."""
    if status and status not in Status.values:
        raise Problem(400, "invalid_field", f"status: one of {', '.join(Status.values)}.", field="status")
    return status
