"""Deferring this room's jobs by name (the tasks stand above the services), inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import F
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit import clock
from provider_federation.portal.receivables.models import (
    ClientDispute,
    CreditNote,
    NoteState,
    Refund,
    RefundState,
)

CREDIT = "receivables.finish_credit_note"
REFUND = "receivables.finish_refund"
DUN = "receivables.remind"
TELL = "receivables.tell_client"
READ = "receivables.read_disputes"
CLIENTS = "disputes"
"""The queue of what asks instances: it takes as long as they do."""
SHARD = 50
_MOST_TOLD = 1_000
_GRACE = 30
"""Seconds that whoever asked has to do it at once; the job is for when it did not come that far."""


def defer_credit_note(note: CreditNote, *, wait: int = _GRACE) -> None:
    """Finish it, should its asker not."""
    task = app.configure_task(CREDIT, lock=f"credit-note:{note.pk}", schedule_in={"seconds": wait})
    task.defer(note_id=str(note.pk))


def defer_refund(refund: Refund, *, wait: int = _GRACE) -> None:
    """Finish it, should its asker not."""
    task = app.configure_task(REFUND, lock=f"refund:{refund.pk}", schedule_in={"seconds": wait})
    task.defer(refund_id=str(refund.pk))


def defer_telling(filing: ClientDispute) -> None:
    """Tell the client's instance; one call about a dispute at a time."""
    key = str(filing.pk)
    app.configure_task(TELL, queue=CLIENTS, lock=f"client-dispute:{key}").defer(filing_id=key)


def defer_readings(instance_ids: Sequence[UUID]) -> None:
    """Fetch what these instances' owners dispute, a shard a job."""
    for at in range(0, len(instance_ids), SHARD):
        shard = [str(one) for one in instance_ids[at : at + SHARD]]
        app.configure_task(READ, queue=CLIENTS).defer(instance_ids=[*shard])


def defer_reminders() -> None:
    """One round of reminders at a time; one that waits already does the same work."""
    if not ProcrastinateJob.objects.filter(task_name=DUN, status="todo").exists():
        app.configure_task(DUN, lock=DUN).defer()


def defer_forgotten() -> int:
    """A job for each correction on its way, and each word that is due to be told, that has none; how many."""
    with transaction.atomic():
        notes = CreditNote.objects.filter(state=NoteState.MAKING).exclude(pk__in=_busy(CREDIT, "note_id"))
        refunds = Refund.objects.filter(state=RefundState.MAKING).exclude(pk__in=_busy(REFUND, "refund_id"))
        for note in notes:
            defer_credit_note(note, wait=0)
        for refund in refunds:
            defer_refund(refund, wait=0)
        untold = ClientDispute.objects.filter(
            acknowledged_version__lt=F("version"),
            lost_at=None,
            due_at__lte=clock.now(),
            instance__enabled=True,
        ).exclude(pk__in=_busy(TELL, "filing_id"))[:_MOST_TOLD]
        for filing in untold:
            defer_telling(filing)
    return len(notes) + len(refunds) + len(untold)


def _busy(task: str, name: str) -> list[str]:
    jobs = ProcrastinateJob.objects.filter(task_name=task, status__in=("todo", "doing"))
    return [str(arguments[name]) for arguments in jobs.values_list("args", flat=True)]
