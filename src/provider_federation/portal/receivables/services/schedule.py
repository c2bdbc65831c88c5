"""What the worker sees to every minute: corrections on their way, reminders that are due, the next sweep."""

from __future__ import annotations

from provider_federation.portal.receivables.services.dunning import due_steps
from provider_federation.portal.receivables.services.jobs import defer_forgotten, defer_reminders
from provider_federation.portal.revenue.services.sweep import schedule_sweep


def schedule_receivables() -> None:
    """Defer the jobs of what is due. Any number of workers may ask."""
    defer_forgotten()
    schedule_sweep()
    if any(due_steps()):
        defer_reminders()
