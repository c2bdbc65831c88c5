"""What the provider's portal says this instance may use."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

ONLY_ROW = 1


class State(models.TextChoices):
    """All of the plan, only what is left to a client in arrears, or the free plan."""

    FULL = "full", "Full"
    RESTRICTED = "restricted", "Restricted"
    BASE = "base", "Base"


class Entitlement(models.Model):
    """The newest that was told, in the single row 1. A limit of None is unlimited."""

    version = models.PositiveBigIntegerField()
    plan = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=State.choices)
    leads = models.PositiveBigIntegerField(null=True, blank=True)
    users = models.PositiveBigIntegerField(null=True, blank=True)
    ai_credits = models.PositiveBigIntegerField(null=True, blank=True)
    support = models.CharField(max_length=32)
    valid_from = models.DateTimeField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pk=ONLY_ROW), name="entitlements_only_row"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="entitlements_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.plan} {self.state} v{self.version}"
