"""Deferring this room's jobs by name (the tasks stand above the services), inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from procrastinate.contrib.django import app

WORK = "reconciliation.work_on_report"
REPAIR = "reconciliation.repair_rows"


def defer_work(report_id: UUID) -> None:
    """One worker on a report at a time."""
    app.configure_task(WORK, queue="money", lock=f"reconciliation:{report_id}").defer(
        report_id=str(report_id)
    )


def defer_repair(report_id: UUID, row_ids: Sequence[int], actor: str) -> None:
    """After the work on the same report, if that is still under way."""
    app.configure_task(REPAIR, queue="money", lock=f"reconciliation:{report_id}").defer(
        report_id=str(report_id), row_ids=list(row_ids), actor=actor
    )
