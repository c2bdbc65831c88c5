"""Runs over many instances, the mirror of the clients' invoices, and how far each instance's sync has
come.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from provider_federation.portal.directory.models import Instance


class Action(models.TextChoices):
    """What a run asks of each of its instances."""

    PREVIEW = "preview", "Preview billable leads"
    DRAFT = "draft", "Create drafts"
    SEND = "send", "Send hosted invoices"
    SYNC = "sync", "Sync invoices"
    CHECK = "check", "Check the connection"


class RunStatus(models.TextChoices):
    """`cancelled` says that an operator stopped it; calls already under way still finish and are recorded."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"


class CallStatus(models.TextChoices):
    """Where one instance's part of a run stands."""

    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Running"
    OK = "ok", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class OutcomeKind(models.TextChoices):
    """The shim's outcome behind a finished call, plus our own two: `skipped` (never called) and
    `internal`. `refused` changed nothing there; after `failed_there` nobody knows.
    """

    ANSWERED = "answered", "Answered"
    REFUSED = "refused", "Refused there"
    FAILED_THERE = "failed_there", "Failed there"
    TIMED_OUT = "timed_out", "Timed out"
    UNREACHABLE = "unreachable", "Unreachable"
    BAD_ANSWER = "bad_answer", "Bad answer"
    SKIPPED = "skipped", "Not called"
    INTERNAL = "internal", "Failed on our side"


class InvoiceStatus(models.TextChoices):
    """An invoice's life, as the contract names it."""

    DRAFT = "draft", "Draft"
    OPEN = "open", "Open"
    PAID = "paid", "Paid"
    VOID = "void", "Void"
    UNCOLLECTIBLE = "uncollectible", "Uncollectible"


UNFINISHED = (CallStatus.WAITING, CallStatus.RUNNING)


class FleetRun(models.Model):
    """One action over some instances. `params` is the validated request (schemas.py); `request_key` makes
    a repeated start harmless.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    action = models.CharField(max_length=16, choices=Action.choices)
    params = models.JSONField(default=dict)
    requested_by = models.CharField(max_length=300)
    request_key = models.CharField(max_length=200, null=True, unique=True, editable=False)  # noqa: DJ001  NULL means "none", and any number may have none
    status = models.CharField(max_length=16, choices=RunStatus.choices, default=RunStatus.QUEUED)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="fleet_run_newest"),
            models.Index(
                fields=["status"], name="fleet_run_open", condition=Q(status__in=["queued", "running"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"


class FleetCall(models.Model):
    """One instance's part of a run. `idempotency_key` outlives a crash, so that a repeat replays instead
    of doing twice.

    `attempt` counts how often a worker took it up; only the newest may write the outcome. `result` is a
    bounded summary.
    `subject` narrows the action to one thing on the instance (an invoice id for `send`); empty means all
    of them.
    """

    run = models.ForeignKey(FleetRun, on_delete=models.CASCADE, related_name="calls")
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="fleet_calls")
    subject = models.CharField(max_length=128, blank=True, default="")
    status = models.CharField(max_length=16, choices=CallStatus.choices, default=CallStatus.WAITING)
    attempt = models.PositiveIntegerField(default=0)
    outcome = models.CharField(max_length=16, choices=OutcomeKind.choices, blank=True, default="")
    code = models.CharField(max_length=80, blank=True, default="")
    sentence = models.CharField(max_length=500, blank=True, default="")
    result = models.JSONField(default=dict, blank=True)
    idempotency_key = models.CharField(max_length=80, unique=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "instance", "subject"], name="fleet_call_once_in_a_run"),
        ]
        indexes = [models.Index(fields=["run", "status"], name="fleet_call_by_status")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.instance_id} {self.status}"


class ClientInvoice(models.Model):
    """A client's invoice to its customer, mirrored from the instance. Amounts are in minor units of
    `currency` (lower case).

    `seq` is the change that this row shows; `generation` is the pass over the feed that last saw it (see
    SyncState).
    """

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="client_invoices")
    remote_id = models.CharField(max_length=128)
    number = models.CharField(max_length=128, blank=True, default="")
    customer_id = models.CharField(max_length=128, blank=True, default="")
    customer_name = models.CharField(max_length=300, blank=True, default="")
    customer_email = models.CharField(max_length=320, blank=True, default="")
    status = models.CharField(max_length=16, choices=InvoiceStatus.choices)
    period_from = models.DateTimeField(null=True, blank=True)
    period_to = models.DateTimeField(null=True, blank=True)
    currency = models.CharField(max_length=3)
    subtotal_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField()
    total_cents = models.BigIntegerField()
    amount_paid_cents = models.BigIntegerField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    stripe_invoice_id = models.CharField(max_length=128, blank=True, default="")
    hosted_invoice_url = models.CharField(max_length=2000, blank=True, default="")
    seq = models.BigIntegerField()
    generation = models.PositiveIntegerField()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "remote_id"], name="fleet_invoice_once"),
            models.CheckConstraint(
                condition=Q(status__in=InvoiceStatus.values), name="fleet_invoice_status_known"
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="fleet_invoice_currency_iso"
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="fleet_invoice_newest"),
            models.Index(fields=["instance", "-created_at", "-id"], name="fleet_invoice_of_client"),
            models.Index(fields=["status", "currency"], name="fleet_invoice_by_status"),
        ]

    def __str__(self) -> str:
        return self.number or self.remote_id


class SyncState(models.Model):
    """How far the mirror of one instance has come. `synced_at` is "as of when": the last time the feed was
    read to its end.

    `due_at` is in the database's time, so that a settable clock cannot stop the schedule; the other times
    are the product's.
    `generation` goes up when the feed has to be read from nothing (new epoch); rows of an older one go
    when that is done.
    """

    instance = models.OneToOneField(
        Instance, on_delete=models.CASCADE, related_name="sync_state", primary_key=True
    )
    epoch = models.CharField(max_length=128, blank=True, default="")
    cursor = models.CharField(max_length=512, blank=True, default="")
    generation = models.PositiveIntegerField(default=1)
    rebuilding = models.BooleanField(default=True)
    synced_at = models.DateTimeField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    last_outcome = models.CharField(max_length=80, blank=True, default="")
    last_sentence = models.CharField(max_length=500, blank=True, default="")
    failures = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.instance_id} {self.last_outcome}"
