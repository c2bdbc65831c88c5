"""Reading subscriptions: the plan in force, pages, and sums over all rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet, Sum

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
    Entitlement,
    PlanChange,
    PlanCode,
    Status,
    Subscription,
    SubscriptionChange,
    SubscriptionInvoice,
)

MOST = 200
"""Rows in one page at most."""
SORTS = {"createdAt": "created_at", "fee": "fee_cents", "client": "instance__title"}
"""What a list can be sorted by; with a minus in front, the other way round."""


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


def plans_in_force(instances: Collection[UUID], at: datetime) -> dict[UUID, str]:
    """The same for many clients at once; one that never subscribed is not in the answer."""
    changes = PlanChange.objects.filter(instance__in=instances, effective_at__lte=at)
    return dict(changes.order_by("effective_at", "id").values_list("instance_id", "plan"))


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


def newest_change(subscription: Subscription) -> SubscriptionChange | None:
    """The change that was asked for last."""
    return SubscriptionChange.objects.filter(subscription=subscription).order_by("-created_at", "-id").first()


def entitlement_of(instance: Instance) -> Entitlement | None:
    """What the client's instance is told; None when there was nothing to tell yet."""
    return Entitlement.objects.select_related("instance").filter(pk=instance.pk).first()


def list_entitlements(
    *,
    client_org_id: str = "",
    state: str = "",
    acknowledged: bool | None = None,
    cursor: str = "",
    limit: int = 50,
) -> tuple[list[Entitlement], str | None]:
    """One page by the instances' names, and the cursor of the next. Problem 400 `bad_cursor`."""
    rows = Entitlement.objects.select_related("instance").order_by("instance__name")
    if client_org_id:
        rows = rows.filter(instance__org_id=client_org_id)
    if state:
        rows = rows.filter(state=state)
    if acknowledged is not None:
        newest = Q(acknowledged_version__gte=F("version"))
        rows = rows.filter(newest if acknowledged else ~newest)
    if cursor:
        (last,) = decode_cursor(cursor, (str,))
        rows = rows.filter(instance__name__gt=str(last).replace("\x00", ""))
    found = list(rows[: limit + 1])
    more = len(found) > limit
    return found[:limit], encode_cursor(found[limit - 1].instance.name) if more else None


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


def list_subscriptions(
    filters: Filters, *, sort: str = "-createdAt", cursor: str = "", limit: int = 50
) -> Page:
    """One page of what the filters leave, in one of the orders of SORTS. Problem 400 `bad_cursor` or
    `invalid_field`.
    """
    rows = sorted_subscriptions(filters, sort)
    if cursor:
        rows = rows.filter(_behind(sort, cursor))
    items = list(rows.select_related("instance")[: limit + 1])
    more = len(items) > limit
    items = items[:limit]
    return Page(items, _cursor(items[-1], sort) if more else None)


def sorted_subscriptions(filters: Filters, sort: str = "-createdAt") -> QuerySet[Subscription]:
    """All rows that the filters leave, in order."""
    column, down = _order(sort)
    return _filtered(filters).order_by(f"{down}{column}", f"{down}id")


def _order(sort: str) -> tuple[str, str]:
    column = SORTS.get(sort.removeprefix("-"))
    if column is None:
        known = ", ".join(part for name in SORTS for part in (name, f"-{name}"))
        raise Problem(400, "invalid_field", f"sort: one of {known}.", field="sort")
    return column, "-" if sort.startswith("-") else ""


def _cursor(row: Subscription, sort: str) -> str:
    values: dict[str, str | int] = {
        "createdAt": row.created_at.isoformat(),
        "fee": row.fee_cents,
        "client": row.instance.title,
    }
    return encode_cursor(values[sort.removeprefix("-")], str(row.pk))


def _behind(sort: str, cursor: str) -> Q:
    """Keyset pages: the rows behind the last one shown, by the sort key and then the id."""
    column, down = _order(sort)
    if column == "created_at":
        return after_cursor(cursor, down=bool(down))
    at, last = decode_cursor(cursor, (int if column == "fee_cents" else str, str))
    try:
        key = UUID(str(last))
    except ValueError:
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.") from None
    if isinstance(at, str) and "\x00" in at:
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    way = "lt" if down else "gt"
    return Q(**{f"{column}__{way}": at}) | Q(**{column: at, f"pk__{way}": key})


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


def after_cursor(cursor: str, *, down: bool = True) -> Q:
    """The rows behind a cursor of `(created_at, id)`, newest first (`down`) or oldest. Problem 400
    `bad_cursor`.
    """
    at, last = decode_cursor(cursor, (str, str))
    problem = Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    try:
        when, key = datetime.fromisoformat(str(at)), UUID(str(last))
    except ValueError:
        raise problem from None
    if when.tzinfo is None:
        raise problem
    way = "lt" if down else "gt"
    return Q(**{f"created_at__{way}": when}) | Q(**{"created_at": when, f"pk__{way}": key})


def standing_ai_terms(instance: Instance) -> list[CapChange]:
    """The AI terms that hold or will hold, oldest first: without those that a later word took the place of."""
    standing: list[CapChange] = []
    for change in CapChange.objects.filter(instance=instance).order_by("id"):
        while standing and standing[-1].effective_at >= change.effective_at:
            standing.pop()
        standing.append(change)
    return standing


def ai_terms_for(instance: Instance, start: datetime, end: datetime) -> tuple[int, Decimal]:
    """The AI cap in minor units and the markup (a fraction) of the month `[start, end)`: in force when it
    begins, else the first inside it.

    A change in the middle of a month holds from the next one on (money.plans.terms_of_period). A month from
    before the client was entered here is priced by the first terms it ever had.
    """
    history = [
        PlanTerms(change.effective_at, PlanCode.BASE, change.cap_cents, change.markup)
        for change in standing_ai_terms(instance)
    ]
    if not history:
        return instance.ai_cap_cents, Decimal(0)
    terms = terms_of_period(history, Period(start, end)) or history[0]
    return terms.ai_cap_cents, terms.ai_markup


def known_status(status: str) -> str:
    """The status as given, or Problem 400 for one that there is not."""
    if status and status not in Status.values:
        raise Problem(400, "invalid_field", f"status: one of {', '.join(Status.values)}.", field="status")
    return status
