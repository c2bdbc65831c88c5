"""Billing runs: one month of all clients, planned, approved by its hash, then executed exactly (money rule 10)."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice


class RunStatus(models.TextChoices):
    """`planned` waits for approval, `approved` for its execution; a `cancelled` run bills nobody any more."""

    PLANNING = "planning", "planning"
    PLANNED = "planned", "planned"
    APPROVED = "approved", "approved"
    EXECUTING = "executing", "executing"
    DONE = "done", "done"
    CANCELLED = "cancelled", "cancelled"


LIVING = (RunStatus.PLANNING, RunStatus.PLANNED, RunStatus.APPROVED, RunStatus.EXECUTING)
"""In these a month has its run, and gets no second one."""


class ItemState(models.TextChoices):
    """`waiting` is not rated yet, `ready` is frozen with something to bill, `nothing` without; `already` has an
    invoice that another way made. `placing` has its row in the ledger, `billed` is final in Stripe.
    """

    WAITING = "waiting", "waiting"
    READY = "ready", "ready to bill"
    NOTHING = "nothing", "nothing to bill"
    ALREADY = "already", "invoiced already"
    HELD = "held", "held"
    PLACING = "placing", "being placed"
    BILLED = "billed", "billed"
    CANCELLED = "cancelled", "cancelled"


UNDER_WAY = (ItemState.READY, ItemState.PLACING)
"""What an execution still has to do."""


class BillingRun(models.Model):
    """One billing month over all enabled clients. `plan_hash` is over every item's frozen part, "" while planning.

    `planners` planned what is to be approved: whoever planned it last is `planned_by`, and one who planned a part before
    stays beside it. `approved_hash` is what the approver saw; execution compares it with the rows once more.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    period = models.CharField(max_length=7)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    status = models.CharField(max_length=16, choices=RunStatus.choices, default=RunStatus.PLANNING)
    plan_hash = models.CharField(max_length=80, blank=True, default="")
    approved_hash = models.CharField(max_length=80, blank=True, default="")
    planned_by = models.CharField(max_length=300)
    planners = models.JSONField(default=list)
    approved_by = models.CharField(max_length=300, blank=True, default="")
    executed_by = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField()
    planned_at = models.DateTimeField(null=True, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["period"], condition=Q(status__in=LIVING), name="billing_runs_one_living"
            ),
            models.CheckConstraint(
                condition=Q(period_end__gt=models.F("period_start")), name="billing_runs_period_forward"
            ),
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="billing_runs_newest")]

    def __str__(self) -> str:
        return f"{self.period} {self.status}"


class BillingPlanItem(models.Model):
    """One client's part of a run.

    Frozen while planned and covered by the hash: `currency plan usage_digest lines total_cents`. `usage` holds the
    readings they were rated from, by month; `lines` are as revenue.planned.PlannedLine writes them. `previous_cents` is
    the client's usage invoice of the month before (None when there was none). `over_limits` names what of the plan is
    used up. `look_first`: Stripe may know this order already, so it is looked up before anything is created.
    `reviewed_by` looked at what held the client: jumps and shrunken counters pass when it is planned again.
    """

    run = models.ForeignKey(BillingRun, on_delete=models.PROTECT, related_name="items")
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="billing_items")
    state = models.CharField(max_length=16, choices=ItemState.choices, default=ItemState.WAITING)
    currency = models.CharField(max_length=3)
    plan = models.CharField(max_length=16, blank=True, default="")
    usage = models.JSONField(default=dict)
    usage_digest = models.CharField(max_length=80, blank=True, default="")
    lines = models.JSONField(default=list)
    total_cents = models.BigIntegerField(default=0)
    previous_cents = models.BigIntegerField(null=True, blank=True)
    over_limits = models.JSONField(default=list)
    hold_code = models.CharField(max_length=64, blank=True, default="")
    hold_reason = models.CharField(max_length=500, blank=True, default="")
    invoice = models.ForeignKey(
        UsageInvoice, on_delete=models.PROTECT, null=True, blank=True, related_name="billing_items"
    )
    look_first = models.BooleanField(default=False)
    reviewed_by = models.CharField(max_length=300, blank=True, default="")
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["run", "id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "instance"], name="billing_runs_item_once"),
            models.CheckConstraint(condition=Q(total_cents__gte=0), name="billing_runs_total_not_negative"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="billing_runs_item_currency"
            ),
        ]
        indexes = [models.Index(fields=["run", "state"], name="billing_runs_item_state")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.instance_id} {self.state}"

    @property
    def difference_cents(self) -> int:
        """How much more (or less) than the month before is planned."""
        return self.total_cents - (self.previous_cents or 0)
