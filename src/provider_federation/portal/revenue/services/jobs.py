"""Deferring this room's jobs by name (the tasks stand above the services), inside the caller's
transaction.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit import clock
from provider_federation.portal.revenue.models import EventState, StripeEvent, UsageInvoice, UsageStatus

PLACE = "revenue.place_usage_invoice"
APPLY = "revenue.apply_stripe_event"
SWEEP = "revenue.sweep_stripe"
_NOBODY_AT_IT = timedelta(hours=1)
"""Longer than a job waits between two tries, each of which is noted in the row."""


def defer_placing(invoice: UsageInvoice) -> None:
    """One placing of an invoice at a time: the lock is its own."""
    app.configure_task(PLACE, lock=f"usage-invoice:{invoice.pk}").defer(invoice_id=str(invoice.pk))


def defer_event(event: StripeEvent) -> None:
    """Events of one object are applied one after the other."""
    app.configure_task(APPLY, lock=f"stripe:{event.object_id or event.event_id}").defer(event_pk=event.pk)


def defer_sweep() -> None:
    """One sweep at a time; one that waits already does the same work."""
    if not ProcrastinateJob.objects.filter(task_name=SWEEP, status="todo").exists():
        app.configure_task(SWEEP, lock=SWEEP).defer()


def defer_forgotten() -> int:
    """A job for each pending event and each invoice on its way that has none; returns how many. A job too
    many would do no harm, a row without one would wait for ever.
    """
    with transaction.atomic():
        # Those of a billing run are that room's: its own jobs place them, unless a person released one by itself.
        alone = Q(billing_run=None) | Q(updated_at__lt=clock.now() - _NOBODY_AT_IT)
        on_their_way = (UsageStatus.PLANNED, UsageStatus.PLACING)
        invoices = UsageInvoice.objects.filter(alone, status__in=on_their_way).defer("usage")
        busy = _arguments(PLACE, "invoice_id")
        lost_invoices = [one for one in invoices if str(one.pk) not in busy]
        events = StripeEvent.objects.filter(state=EventState.PENDING).defer("payload")
        busy = _arguments(APPLY, "event_pk")
        lost_events = [one for one in events if str(one.pk) not in busy]
        for invoice in lost_invoices:
            defer_placing(invoice)
        for event in lost_events:
            defer_event(event)
    return len(lost_invoices) + len(lost_events)


def _arguments(task: str, name: str) -> set[str]:
    jobs = ProcrastinateJob.objects.filter(task_name=task, status__in=("todo", "doing"))
    return {str(arguments.get(name)) for arguments in jobs.values_list("args", flat=True)}
