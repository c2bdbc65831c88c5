"""What each client may use, computed from its subscription, and told to its instance with a version number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from provider_federation.kit import clock
from provider_federation.money.plans import BASE, Entitled, entitled_to, find_plan
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.jobs import defer_publishing
from provider_federation.portal.subscriptions.models import (
    ENTITLED,
    IN_ARREARS,
    Entitlement,
    Subscription,
    SubscriptionInvoice,
)

Check = Callable[[Instance, datetime], bool]
_ARREARS: list[Check] = []


def restricts(check: Check) -> None:
    """Have `check(instance, at)` say whether a client owes something else for too long (an invoice that was
    escalated). For upper rooms, from their AppConfig.ready; they call `update_entitlement` when it changes.
    """
    if check not in _ARREARS:
        _ARREARS.append(check)


def entitled_now(instance: Instance, at: datetime) -> Entitled:
    """The plan in force and what is left of it when the client is in arrears for too long."""
    row = Subscription.objects.filter(instance=instance, status__in=ENTITLED).first()
    if row is None:
        return entitled_to(BASE)
    until = grace_until(row)
    in_arrears = (until is not None and at >= until) or any(check(instance, at) for check in _ARREARS)
    return entitled_to(find_plan(row.plan), in_arrears=in_arrears)


def arrears_since(row: Subscription) -> datetime | None:
    """When the oldest unpaid invoice was due to be paid; None when nothing is overdue.

    It follows from Stripe's objects and not from when their events came, so that any order of events says
    the same. Until the invoice is known here, the period that it bills has begun.
    """
    if row.status not in IN_ARREARS:
        return None
    unpaid = SubscriptionInvoice.objects.filter(subscription=row, status__in=("open", "uncollectible"))
    oldest = unpaid.order_by("billed_at", "id").values_list("billed_at", flat=True).first()
    return oldest or row.current_period_start or row.created_at


def grace_until(row: Subscription) -> datetime | None:
    """From then on a client in arrears is restricted; None when it is not in arrears."""
    since = arrears_since(row)
    return None if since is None else since + timedelta(days=settings.GRACE_DAYS)


def update_entitlement(instance: Instance) -> Entitlement:
    """Compute it anew; when it says something else than before, it gets the next version and is published."""
    now = clock.now()
    with transaction.atomic():
        Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        wanted = _columns(entitled_now(instance, now))
        row = Entitlement.objects.filter(pk=instance.pk).first()
        if row is None:
            row = Entitlement.objects.create(instance=instance, valid_from=now, due_at=now, **wanted)
        elif all(getattr(row, name) == value for name, value in wanted.items()):
            return row
        else:
            _say(row, wanted, now)
        record(
            Kind.ENTITLEMENT_CHANGED,
            "system",
            f"instance:{instance.name}",
            plan=row.plan,
            state=row.state,
            version=row.version,
        )
        defer_publishing(row)
    return row


def update_arrears() -> int:
    """The grace period of clients in arrears ends by itself; how many were looked at."""
    rows = Subscription.objects.filter(status__in=IN_ARREARS).select_related("instance")
    for row in rows:
        update_entitlement(row.instance)
    return len(rows)


def _columns(entitled: Entitled) -> dict[str, Any]:
    limits = entitled.limits
    return {
        "plan": entitled.plan.code,
        "state": entitled.state,
        "leads": limits.leads,
        "users": limits.users,
        "ai_credits": limits.ai_credits,
        "support": entitled.support,
    }


def _say(row: Entitlement, wanted: dict[str, Any], now: datetime) -> None:
    for name, value in wanted.items():
        setattr(row, name, value)
    row.version += 1
    row.valid_from = row.due_at = now
    row.failures, row.last_code, row.last_sentence = 0, "", ""
    row.save()
