"""Deferring this room's jobs by name (the tasks stand above the services), inside the caller's transaction."""

from __future__ import annotations

from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.portal.receivables.models import CreditNote, NoteState, Refund, RefundState

CREDIT = "receivables.finish_credit_note"
REFUND = "receivables.finish_refund"
DUN = "receivables.remind"
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


def defer_reminders() -> None:
    """One round of reminders at a time; one that waits already does the same work."""
    if not ProcrastinateJob.objects.filter(task_name=DUN, status="todo").exists():
        app.configure_task(DUN, lock=DUN).defer()


def defer_forgotten() -> int:
    """A job for each correction on its way that has none; returns how many."""
    with transaction.atomic():
        notes = CreditNote.objects.filter(state=NoteState.MAKING).exclude(pk__in=_busy(CREDIT, "note_id"))
        refunds = Refund.objects.filter(state=RefundState.MAKING).exclude(pk__in=_busy(REFUND, "refund_id"))
        for note in notes:
            defer_credit_note(note, wait=0)
        for refund in refunds:
            defer_refund(refund, wait=0)
    return len(notes) + len(refunds)


def _busy(task: str, name: str) -> list[str]:
    jobs = ProcrastinateJob.objects.filter(task_name=task, status__in=("todo", "doing"))
    return [str(arguments[name]) for arguments in jobs.values_list("args", flat=True)]
