"""The jobs of receivables. Each may run twice, or stop anywhere: what it did is found again."""

from __future__ import annotations

from uuid import UUID

from procrastinate.contrib.django import app

from provider_federation.kit.problem import Problem
from provider_federation.portal.receivables.services import credit_notes, dunning, filings, refunds, telling
from provider_federation.portal.receivables.services.jobs import CLIENTS, CREDIT, DUN, READ, REFUND, TELL
from provider_federation.portal.revenue.tasks import Patiently


@app.task(name=CREDIT, queue="money", retry=Patiently())
def finish_credit_note(note_id: str) -> None:
    """Finish a credit note whose asker did not come that far."""
    try:
        credit_notes.finish_credit_note(UUID(note_id))
    except Problem as problem:
        if problem.status >= 500:
            raise


@app.task(name=REFUND, queue="money", retry=Patiently())
def finish_refund(refund_id: str) -> None:
    """Finish a refund whose asker did not come that far."""
    try:
        refunds.finish_refund(UUID(refund_id))
    except Problem as problem:
        if problem.status >= 500:
            raise


# Its own retries are rows (`due_at`); the job fails only when our database does.
@app.task(name=TELL, queue=CLIENTS, retry=Patiently())
def tell_client(filing_id: str) -> None:
    """Tell one client what became of its dispute."""
    telling.tell_client(UUID(filing_id))


@app.task(name=READ, queue=CLIENTS, retry=Patiently())
def read_disputes(instance_ids: list[str]) -> None:
    """Fetch what the owners of these instances dispute."""
    filings.read_many([UUID(one) for one in instance_ids])


@app.task(name=DUN, queue="money")
def remind() -> None:
    """Do every dunning step that is due."""
    dunning.remind_all()
