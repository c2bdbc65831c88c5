"""AI usage, event by event, with its exact cost."""

from __future__ import annotations

from django.db import models

from provider_federation.kit import clock

# Whole units of 10^-12: SQLite would keep a decimal column as a float.
PICO = 12
HIGHEST_COST_PICO = 10_000 * 10**PICO


class AiUsageEvent(models.Model):
    """One or more calls of one kind. `cost_pico` is the exact cost in 10^-12 of a dollar."""

    kind = models.CharField(max_length=80)
    calls = models.PositiveIntegerField(default=1)
    cost_pico = models.BigIntegerField()
    at = models.DateTimeField(default=clock.now, db_index=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(cost_pico__gte=0, cost_pico__lte=HIGHEST_COST_PICO),
                name="usage_event_cost",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} x{self.calls}"
