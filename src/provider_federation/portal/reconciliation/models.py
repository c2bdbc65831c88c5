"""A stored comparison of the three books: the report, what each instance answered, and every difference."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.reconciliation.classes import CLASSES


class ReportStatus(models.TextChoices):
    """`failed` says that the provider's Stripe account could not be read; the reason stands beside it."""

    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"


UNFINISHED = (ReportStatus.QUEUED, ReportStatus.RUNNING)


class AnswerState(models.TextChoices):
    """Whether an instance was asked, and answered. One that did not is in the coverage, never a zero."""

    WAITING = "waiting", "waiting"
    ANSWERED = "answered", "answered"
    FAILED = "failed", "failed"


class ReconciliationReport(models.Model):
    """One billing month `YYYY-MM` of all clients, or of `client_org_id`. At most one is under way for each.

    `figures` is what each book sums to: `{"portal": {currency: {name: minor units}}, "stripe": {…}}`.
    `ledger_at` is when the ledger was held against Stripe.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    period = models.CharField(max_length=7)
    client_org_id = models.CharField(max_length=128, blank=True, default="")
    status = models.CharField(max_length=16, choices=ReportStatus.choices, default=ReportStatus.QUEUED)
    requested_by = models.CharField(max_length=254)
    figures = models.JSONField(default=dict)
    failure = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField()
    ledger_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["period", "client_org_id"],
                condition=Q(status__in=UNFINISHED),
                name="reconciliation_one_under_way",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="reconciliation_newest"),
            models.Index(fields=["period", "client_org_id", "-created_at"], name="reconciliation_of_period"),
        ]

    def __str__(self) -> str:
        return f"{self.period} {self.client_org_id or 'all clients'}"


class InstanceAnswer(models.Model):
    """One instance's part of a report: whether it answered, and what it counts.

    `leads` are those converted in the month, `ai_cost` is exact and in major units, `invoices` are its own.
    """

    report = models.ForeignKey(ReconciliationReport, on_delete=models.CASCADE, related_name="answers")
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="reconciliation_answers")
    state = models.CharField(max_length=16, choices=AnswerState.choices, default=AnswerState.WAITING)
    code = models.CharField(max_length=80, blank=True, default="")
    sentence = models.CharField(max_length=500, blank=True, default="")
    leads = models.PositiveIntegerField(null=True, blank=True)
    ai_cost = models.CharField(max_length=60, blank=True, default="")
    invoices = models.PositiveIntegerField(null=True, blank=True)
    at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["report", "instance"], name="reconciliation_answer_once"),
        ]
        indexes = [models.Index(fields=["report", "state"], name="reconciliation_answer_state")]

    def __str__(self) -> str:
        return f"{self.report_id} {self.instance_id} {self.state}"


class ReconciliationRow(models.Model):
    """One difference. `kind` is its class (classes.py), `subject` what it is about (`usage_invoice:<id>` …).

    `portal`, `instance_says` and `stripe` are the figures or words of each book, null where it says nothing;
    whole numbers are minor units of `currency`, or counts. `gap_cents` is how far apart amounts are.
    `repair` names what mends it ("" when only a person can); `target` is what the repair works on.
    """

    report = models.ForeignKey(ReconciliationReport, on_delete=models.CASCADE, related_name="rows")
    instance = models.ForeignKey(
        Instance, on_delete=models.PROTECT, null=True, blank=True, related_name="reconciliation_rows"
    )
    kind = models.CharField(max_length=24, choices=[(one.code, one.label) for one in CLASSES.values()])
    subject = models.CharField(max_length=250)
    message = models.CharField(max_length=500)
    currency = models.CharField(max_length=3, blank=True, default="")
    portal = models.JSONField(null=True, blank=True)
    instance_says = models.JSONField(null=True, blank=True)
    stripe = models.JSONField(null=True, blank=True)
    gap_cents = models.BigIntegerField(default=0)
    repair = models.CharField(max_length=16, blank=True, default="")
    target = models.CharField(max_length=200, blank=True, default="")
    repaired_at = models.DateTimeField(null=True, blank=True)
    repair_note = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["report", "kind", "subject"], name="reconciliation_row_once"),
        ]
        indexes = [models.Index(fields=["report", "kind", "id"], name="reconciliation_row_class")]

    def __str__(self) -> str:
        return self.message
