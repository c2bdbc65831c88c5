"""The jobs of reconciliation. Each may run twice, or stop anywhere: it goes on from what is stored."""

from __future__ import annotations

from uuid import UUID

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from provider_federation.portal.reconciliation import services
from provider_federation.portal.reconciliation.services.jobs import REPAIR, WORK

_AGAIN = RetryStrategy(max_attempts=20, linear_wait=15)


@app.task(name=WORK, queue="money", retry=_AGAIN)
def work_on_report(report_id: str) -> None:
    """Compare the three books for one report."""
    services.work_on_report(UUID(report_id))


@app.task(name=REPAIR, queue="money", retry=_AGAIN)
def repair_rows(report_id: str, row_ids: list[int], actor: str) -> None:
    """Mend these rows of a report."""
    services.repair_rows(UUID(report_id), row_ids, actor=actor)
