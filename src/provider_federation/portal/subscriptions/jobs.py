"""Deferring this room's jobs by name (the tasks stand above the services), and finding what nobody repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Model
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit import clock
from provider_federation.portal.subscriptions.models import (
    ChangeState,
    Entitlement,
    Status,
    Subscription,
    SubscriptionChange,
)

CREATE = "subscriptions.finish_creation"
CHANGE = "subscriptions.carry_out_change"
PUBLISH = "subscriptions.publish_entitlement"
# Whoever asked may still be at it; a job beside a request would do no harm, only the same twice.
_REQUEST_MAY_TAKE = timedelta(minutes=2)


def defer_creation(row: Subscription) -> None:
    """Go on with a creation whose request ended without an answer from Stripe."""
    app.configure_task(CREATE, lock=f"subscription:{row.pk}").defer(subscription_id=str(row.pk))


def defer_change(change: SubscriptionChange) -> None:
    """Go on with a change whose request ended half-way."""
    app.configure_task(CHANGE, lock=f"subscription:{change.subscription_id}").defer(change_id=str(change.pk))


def defer_publishing(entitlement: Entitlement) -> None:
    """Tell the instance; one call of an instance at a time."""
    key = str(entitlement.pk)
    app.configure_task(PUBLISH, lock=f"entitlement:{key}").defer(instance_id=key)


def defer_unfinished() -> int:
    """A job for every creation, change and publication that is due and has none; returns how many."""
    now = clock.now()
    old = now - _REQUEST_MAY_TAKE
    with transaction.atomic():
        return (
            _defer(
                Subscription.objects.filter(status=Status.CREATING, created_at__lt=old),
                (CREATE, "subscription_id"),
                defer_creation,
            )
            + _defer(
                SubscriptionChange.objects.filter(state=ChangeState.CARRYING_OUT, created_at__lt=old),
                (CHANGE, "change_id"),
                defer_change,
            )
            + _defer(
                Entitlement.objects.filter(
                    acknowledged_version__lt=F("version"), due_at__lte=now, instance__enabled=True
                ),
                (PUBLISH, "instance_id"),
                defer_publishing,
            )
        )


def _defer(rows: Iterable[Model], job: tuple[str, str], defer: Callable[[Any], None]) -> int:
    task, name = job
    waiting = ProcrastinateJob.objects.filter(task_name=task, status__in=("todo", "doing"))
    busy = {str(arguments.get(name)) for arguments in waiting.values_list("args", flat=True)}
    lost = [row for row in rows if str(row.pk) not in busy]
    for row in lost:
        defer(row)
    return len(lost)
