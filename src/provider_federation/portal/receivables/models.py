"""What became of the provider's invoices after they left: credit notes, refunds, disputes of leads, dunning.

Nothing here changes a frozen line: a correction is a row of its own. Amounts in minor units of `currency`.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.db.models import Q

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageLine
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

Receivable = UsageInvoice | SubscriptionInvoice
"""Either kind of invoice of the provider; Stripe's invoice id names it on the wire."""


class AboutInvoice(models.Model):
    """A row about exactly one invoice, of either kind."""

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="%(class)ss")
    usage_invoice = models.ForeignKey(
        UsageInvoice, on_delete=models.PROTECT, null=True, blank=True, related_name="%(class)ss"
    )
    fee_invoice = models.ForeignKey(
        SubscriptionInvoice, on_delete=models.PROTECT, null=True, blank=True, related_name="%(class)ss"
    )

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(usage_invoice__isnull=True) ^ Q(fee_invoice__isnull=True),
                name="%(app_label)s_%(class)s_one_invoice",
            ),
        ]

    @property
    def invoice(self) -> Receivable:
        """The invoice that this is about."""
        found = self.usage_invoice or self.fee_invoice
        assert found is not None
        return found


class NoteState(models.TextChoices):
    """`making` is on its way to Stripe and holds its amount; `refused` never came to be."""

    MAKING = "making", "being made"
    ISSUED = "issued", "issued"
    VOID = "void", "void"
    REFUSED = "refused", "refused"


class Settle(models.TextChoices):
    """Where the money of a credit note on a paid invoice goes; an unpaid invoice just asks for less."""

    BALANCE = "balance", "to the client's balance, used by the next invoice"
    REFUND = "refund", "back to the card or account it came from"
    OUTSIDE = "outside", "returned outside of Stripe"


class CreditNote(AboutInvoice):
    """One correction of one invoice. `reference` is its asker's own name for it, so that a repeat is the same.

    `subtotal` is what its lines credit, `tax` what Stripe adds to that, `total` both. `before_payment` reduced
    what was due; `to_balance`, `refunded` and `outside` say where the rest went. `frees_leads`: the leads on
    its lines may be charged again. A note that somebody made in Stripe has an empty `reference`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    reference = models.CharField(max_length=64, blank=True, default="")
    request_digest = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=16, choices=NoteState.choices, default=NoteState.MAKING)
    reason = models.CharField(max_length=32, blank=True, default="")
    memo = models.CharField(max_length=500, blank=True, default="")
    settle = models.CharField(max_length=16, choices=Settle.choices, default=Settle.BALANCE)
    currency = models.CharField(max_length=3)
    subtotal_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField(default=0)
    before_payment_cents = models.BigIntegerField(default=0)
    to_balance_cents = models.BigIntegerField(default=0)
    refunded_cents = models.BigIntegerField(default=0)
    outside_cents = models.BigIntegerField(default=0)
    frees_leads = models.BooleanField(default=False)
    stripe_credit_note_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    number = models.CharField(max_length=64, blank=True, default="")
    pdf = models.CharField(max_length=1000, blank=True, default="")
    failure = models.CharField(max_length=500, blank=True, default="")
    asked_by = models.CharField(max_length=254)
    created_at = models.DateTimeField()
    issued_at = models.DateTimeField(null=True, blank=True)
    voided_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)

    class Meta(AboutInvoice.Meta):
        ordering = ["-created_at", "-id"]
        constraints = [
            *AboutInvoice.Meta.constraints,
            models.CheckConstraint(
                condition=Q(subtotal_cents__gt=0, tax_cents__gte=0, total_cents__gte=0),
                name="receivables_note_positive",
            ),
            models.UniqueConstraint(
                fields=["instance", "reference"], condition=~Q(reference=""), name="receivables_note_once"
            ),
        ]
        indexes = [models.Index(fields=["issued_at"], name="receivables_note_issued")]

    def __str__(self) -> str:
        return self.number or "(being made)"


class CreditNoteLine(models.Model):
    """One line of a credit note. `charge` names the lead when it is one lead's amount."""

    credit_note = models.ForeignKey(CreditNote, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    usage_line = models.ForeignKey(
        UsageLine, on_delete=models.PROTECT, null=True, blank=True, related_name="credits"
    )
    charge = models.ForeignKey(
        LeadCharge, on_delete=models.PROTECT, null=True, blank=True, related_name="credits"
    )
    stripe_line_id = models.CharField(max_length=128, blank=True, default="")
    description = models.CharField(max_length=500)
    amount_cents = models.BigIntegerField()

    class Meta:
        ordering = ["credit_note", "position"]
        constraints = [
            models.UniqueConstraint(fields=["credit_note", "position"], name="receivables_line_position"),
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="receivables_line_positive"),
        ]

    def __str__(self) -> str:
        return self.description


class RefundState(models.TextChoices):
    """`making` is on its way and holds its amount; from `pending` on it is Stripe's own word."""

    MAKING = "making", "being made"
    PENDING = "pending", "pending"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    CANCELED = "canceled", "cancelled"
    REFUSED = "refused", "refused"


GIVEN_BACK = (RefundState.MAKING, RefundState.PENDING, RefundState.SUCCEEDED)
"""In these the money is gone, or about to go."""


class Refund(AboutInvoice):
    """Money that went back to a client, of one payment. `credit_note` when it was made by one; without a
    `reference` it was made there, or by hand in Stripe. A refund of several payments is a row each, its `part`s.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    reference = models.CharField(max_length=64, blank=True, default="")
    request_digest = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=16, choices=RefundState.choices, default=RefundState.MAKING)
    part = models.PositiveSmallIntegerField(default=0)
    reason = models.CharField(max_length=32, blank=True, default="")
    currency = models.CharField(max_length=3)
    amount_cents = models.BigIntegerField()
    payment_intent = models.CharField(max_length=128)
    stripe_refund_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    credit_note = models.ForeignKey(
        CreditNote, on_delete=models.PROTECT, null=True, blank=True, related_name="refunds"
    )
    failure = models.CharField(max_length=500, blank=True, default="")
    asked_by = models.CharField(max_length=254)
    created_at = models.DateTimeField()
    refunded_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)

    class Meta(AboutInvoice.Meta):
        ordering = ["-created_at", "-id"]
        constraints = [
            *AboutInvoice.Meta.constraints,
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="receivables_refund_positive"),
            models.UniqueConstraint(
                fields=["instance", "reference", "part"],
                condition=~Q(reference=""),
                name="receivables_refund_once",
            ),
        ]
        indexes = [models.Index(fields=["refunded_at"], name="receivables_refunded")]

    def __str__(self) -> str:
        return self.stripe_refund_id or "(being made)"


class DisputeState(models.TextChoices):
    OPEN = "open", "open"
    ACCEPTED = "accepted", "accepted"
    REJECTED = "rejected", "rejected"


class LeadDispute(models.Model):
    """A client says that it should not pay for a lead; an operator records it and decides, once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    charge = models.ForeignKey(LeadCharge, on_delete=models.PROTECT, related_name="disputes")
    state = models.CharField(max_length=16, choices=DisputeState.choices, default=DisputeState.OPEN)
    claim = models.CharField(max_length=1000)
    raised_by = models.CharField(max_length=254)
    raised_at = models.DateTimeField()
    decision = models.CharField(max_length=1000, blank=True, default="")
    decided_by = models.CharField(max_length=254, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    credit_note = models.OneToOneField(
        CreditNote, on_delete=models.PROTECT, null=True, blank=True, related_name="dispute"
    )

    class Meta:
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["charge"], condition=~Q(state="rejected"), name="receivables_dispute_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.charge} {self.state}"


class Answer(models.TextChoices):
    """What a client is told of its dispute."""

    OPEN = "open", "open"
    ACCEPTED = "accepted", "accepted"
    REJECTED = "rejected", "rejected"
    NOT_BILLED = "not_billed", "not billed"


class ClientDispute(models.Model):
    """A dispute as a client filed it in its own instance, and what the instance was told of it.

    `remote_id` is the instance's name for it, `filed_at` and `evidence` are its own words. `dispute` is ours, that
    is decided; without one there was nothing to decide (`not_billed`). From `state` to `lead_freed` stands what
    holds as of `version`; `acknowledged_version` is what the instance confirmed. `lost_at`: it does not know the
    dispute any more (a restored backup) and is left alone until it does.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="client_disputes")
    remote_id = models.CharField(max_length=64)
    lead_id = models.CharField(max_length=128)
    lead_public_id = models.CharField(max_length=128, blank=True, default="")
    claim = models.CharField(max_length=1000)
    evidence = models.CharField(max_length=128, blank=True, default="")
    filed_at = models.DateTimeField()
    read_at = models.DateTimeField()
    dispute = models.ForeignKey(
        LeadDispute, on_delete=models.PROTECT, null=True, blank=True, related_name="filings"
    )
    state = models.CharField(max_length=16, choices=Answer.choices)
    decision = models.CharField(max_length=1000, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    credit_note_number = models.CharField(max_length=64, blank=True, default="")
    lead_freed = models.BooleanField(default=False)
    version = models.PositiveBigIntegerField(default=1)
    acknowledged_version = models.PositiveBigIntegerField(default=0)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)
    last_code = models.CharField(max_length=80, blank=True, default="")
    last_sentence = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ["-read_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "remote_id"], name="receivables_client_dispute_once"),
            models.CheckConstraint(
                condition=Q(dispute__isnull=False) | Q(state=Answer.NOT_BILLED),
                name="receivables_client_dispute_of_something",
            ),
        ]
        indexes = [
            models.Index(fields=["instance", "read_at"], name="receivables_client_dispute_at"),
            models.Index(
                fields=["due_at"],
                condition=Q(acknowledged_version__lt=models.F("version"), lost_at__isnull=True),
                name="receivables_untold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance_id} {self.remote_id} {self.state}"

    @property
    def acknowledged(self) -> bool:
        """Whether the instance confirmed what holds now."""
        return self.acknowledged_version >= self.version


class DisputeReading(models.Model):
    """How far the disputes of one instance are read. `due_at` is in the database's time, so that a settable
    clock cannot stop the schedule; `read_at` is the last time that the feed was read to its end.
    """

    instance = models.OneToOneField(
        Instance, on_delete=models.CASCADE, related_name="dispute_reading", primary_key=True
    )
    epoch = models.CharField(max_length=128, blank=True, default="")
    cursor = models.CharField(max_length=512, blank=True, default="")
    read_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_code = models.CharField(max_length=80, blank=True, default="")
    last_sentence = models.CharField(max_length=500, blank=True, default="")
    due_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.instance_id} {self.last_code}"


class StepState(models.TextChoices):
    """`claimed` is about to be sent, and is never sent by anybody else; `skipped` was due with a later one."""

    CLAIMED = "claimed", "claimed"
    SENT = "sent", "sent"
    FAILED = "failed", "failed"
    SKIPPED = "skipped", "skipped"


_UNSURE_AFTER = timedelta(minutes=10)


class DunningStep(AboutInvoice):
    """One reminder, or the escalation, of one invoice: the row is committed before anything is sent, so that
    no step happens twice. One that stays claimed is `unsure`: its sender died, and a person looks.
    """

    step = models.CharField(max_length=32)
    action = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=StepState.choices, default=StepState.CLAIMED)
    recipient = models.CharField(max_length=254, blank=True, default="")
    subject = models.CharField(max_length=300, blank=True, default="")
    remaining_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    due_at = models.DateTimeField()
    claimed_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(max_length=500, blank=True, default="")

    class Meta(AboutInvoice.Meta):
        ordering = ["due_at", "id"]
        constraints = [
            *AboutInvoice.Meta.constraints,
            models.UniqueConstraint(
                fields=["usage_invoice", "step"],
                condition=Q(usage_invoice__isnull=False),
                name="receivables_usage_step_once",
            ),
            models.UniqueConstraint(
                fields=["fee_invoice", "step"],
                condition=Q(fee_invoice__isnull=False),
                name="receivables_fee_step_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.state}"

    @property
    def unsure(self) -> bool:
        """Claimed long ago and never finished: it may have been sent."""
        return self.state == StepState.CLAIMED and clock.now() - self.claimed_at > _UNSURE_AFTER
