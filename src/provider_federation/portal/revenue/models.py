"""What the provider billed its clients for usage, and every event its Stripe account sent."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.figures import REPORTED, StripeFigures


class UsageStatus(models.TextChoices):
    """`planned` is frozen and queued, `placing` on its way, `held` waits for a person; the rest is Stripe."""

    PLANNED = "planned", "planned"
    PLACING = "placing", "being placed"
    HELD = "held", "held"
    OPEN = "open", "open"
    PAID = "paid", "paid"
    VOID = "void", "void"
    UNCOLLECTIBLE = "uncollectible", "uncollectible"


class Kind(models.TextChoices):
    """What an invoice or a line is about."""

    USAGE = "usage", "usage"
    LEADS = "leads", "converted leads"
    AI = "ai", "AI usage"


class UsageInvoice(StripeFigures):
    """The provider's invoice to one client for one billing month: leads and AI usage, never the subscription.

    `order_key` names it in Stripe: also a portal restored from a backup finds the invoice it placed.

    `period` is `YYYY-MM` in the provider's billing zone, `[period_start, period_end)` the instants. Lines are
    frozen when the row is made; `total_cents` is their sum. One per client, period and kind, void aside.
    `billing_run` is the run that ordered it (the room above keeps runs); None when it was asked for by itself.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="usage_invoices")
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.USAGE)
    order_key = models.CharField(max_length=150, unique=True)
    period = models.CharField(max_length=7)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    status = models.CharField(max_length=16, choices=UsageStatus.choices, default=UsageStatus.PLANNED)
    plan = models.CharField(max_length=16)
    hold_code = models.CharField(max_length=64, blank=True, default="")
    hold_reason = models.CharField(max_length=500, blank=True, default="")
    usage = models.JSONField(default=dict)
    usage_digest = models.CharField(max_length=64)
    attempts = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=500, blank=True, default="")
    billing_run = models.UUIDField(null=True, blank=True, db_index=True)
    asked_by = models.CharField(max_length=254)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(StripeFigures.Meta):
        ordering = ["-created_at", "-id"]
        constraints = [
            *StripeFigures.Meta.constraints,
            models.UniqueConstraint(
                fields=["instance", "period", "kind"],
                condition=~Q(status="void"),
                name="revenue_one_per_period",
            ),
            models.CheckConstraint(
                condition=Q(period_end__gt=models.F("period_start")), name="revenue_period_forward"
            ),
        ]
        indexes = [
            models.Index(fields=["period", "status"], name="revenue_period_status"),
            # The reports' figures without the rows: they are wide, a month's sums are not.
            models.Index(
                fields=["finalized_at"],
                include=["id", "instance", *REPORTED],
                name="revenue_invoice_reported",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"{self.instance_id} {self.period}"


class UsageLine(models.Model):
    """One frozen line. `quantity` is a count of leads, or 1 for the AI line; `amount_cents` never changes.

    `late_for` is the month `YYYY-MM` in which it arose when that is an earlier one than the invoice's, else "".
    `evidence` is what it rests on: the digest over its leads' evidence, or cost, calls, markup and cap of the AI.
    """

    invoice = models.ForeignKey(UsageInvoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind.choices)
    description = models.CharField(max_length=500)
    quantity = models.BigIntegerField()
    unit_price_cents = models.BigIntegerField(null=True, blank=True)
    amount_cents = models.BigIntegerField()
    late_for = models.CharField(max_length=7, blank=True, default="")
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering = ["invoice", "position"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="revenue_line_position"),
            models.CheckConstraint(
                condition=Q(amount_cents__gte=0) & Q(quantity__gte=0), name="revenue_line_not_negative"
            ),
        ]
        indexes = [
            models.Index(
                fields=["invoice", "kind"],
                include=["amount_cents", "quantity", "late_for"],
                name="revenue_line_reported",
            ),
        ]

    def __str__(self) -> str:
        return self.description


class LeadCharge(models.Model):
    """A lead the client pays the provider for: once in its life, whatever period, run or route asks.

    `released_at` is set when the invoice is voided; only then may the lead be charged again.
    """

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="lead_charges")
    lead_id = models.CharField(max_length=128)
    lead_public_id = models.CharField(max_length=128, blank=True, default="")
    converted_at = models.DateTimeField()
    evidence = models.CharField(max_length=128, blank=True, default="")
    line = models.ForeignKey(UsageLine, on_delete=models.PROTECT, related_name="charges")
    amount_cents = models.BigIntegerField()
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["converted_at", "lead_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["instance", "lead_id"],
                condition=Q(released_at__isnull=True),
                name="revenue_lead_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance_id} {self.lead_id}"


class UsageSnapshot(models.Model):
    """The usage of one client and month as it was when it was last settled: billed, or found to cost nothing.

    What is read later is measured against it: late usage is what it does not hold, a counter below it ran
    backwards.
    """

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="usage_snapshots")
    period = models.CharField(max_length=7)
    usage = models.JSONField()
    digest = models.CharField(max_length=64)
    seen_at = models.DateTimeField()
    # What the reports add up, kept out of the JSON by the database itself.
    ai_cost = models.GeneratedField(
        expression=Cast(KT("usage__aiCost"), models.DecimalField(max_digits=40, decimal_places=20)),
        output_field=models.DecimalField(max_digits=40, decimal_places=20, null=True),
        db_persist=True,
    )
    currency = models.GeneratedField(
        expression=Cast(KT("usage__currency"), models.CharField(max_length=16)),
        output_field=models.CharField(max_length=16, null=True),
        db_persist=True,
    )

    class Meta:
        ordering = ["instance", "period"]
        constraints = [models.UniqueConstraint(fields=["instance", "period"], name="revenue_snapshot_once")]
        indexes = [
            models.Index(
                fields=["period"],
                include=["instance", "currency", "ai_cost"],
                name="revenue_snapshot_reported",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance_id} {self.period}"


class StripePace(models.Model):
    """When the next call to a Stripe account may leave: one row an account, shared by all processes.

    `free_at` is in seconds of the database's clock, so that a settable clock cannot stop it.
    """

    account = models.CharField(max_length=64, primary_key=True)
    free_at = models.FloatField(default=0)

    def __str__(self) -> str:
        return self.account


class EventState(models.TextChoices):
    """`parked` failed too often and waits for a person; `ignored` is a type we do nothing with."""

    PENDING = "pending", "pending"
    APPLIED = "applied", "applied"
    IGNORED = "ignored", "ignored"
    PARKED = "parked", "parked"


class StripeEvent(models.Model):
    """One event of the provider's Stripe account, stored before it was acknowledged. `payload` is the text
    that Stripe signed, byte for byte: JSON that PostgreSQL's own type refuses (NUL, lone surrogates) is held.
    """

    event_id = models.CharField(max_length=128, unique=True)
    type = models.CharField(max_length=128)
    livemode = models.BooleanField()
    account = models.CharField(max_length=128, blank=True, default="")
    api_version = models.CharField(max_length=64, blank=True, default="")
    object_id = models.CharField(max_length=128, blank=True, default="")
    payload = models.TextField()
    happened_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=16, choices=EventState.choices, default=EventState.PENDING)
    note = models.CharField(max_length=500, blank=True, default="")
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ["-received_at", "-id"]
        indexes = [models.Index(fields=["state", "received_at"], name="revenue_event_state")]

    def __str__(self) -> str:
        return f"{self.event_id} {self.type}"


class StripeSweep(models.Model):
    """When the provider's account was last looked through for what no event told us of: the single row 1."""

    due_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    looked_at = models.PositiveIntegerField(default=0)
    found = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True, default="")

    def __str__(self) -> str:
        return f"due {self.due_at:%Y-%m-%d %H:%M}"


class Alert(models.Model):
    """Something about the provider's money that a person must see: one row a subject while unresolved."""

    kind = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    message = models.CharField(max_length=500)
    facts = models.JSONField(default=dict)
    raised_at = models.DateTimeField()
    times = models.PositiveIntegerField(default=1)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(resolved_at__isnull=True), name="revenue_alert_once"
            ),
        ]

    def __str__(self) -> str:
        return self.message
