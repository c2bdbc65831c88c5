"""Invoices to the client's customers, and everything that makes each happen once.

The database holds the promises: a lead is on one live invoice (`LeadReservation`), a number belongs to one
invoice, a Stripe step has one idempotency key, a Stripe event is stored once, a change has one place in the
feed.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from provider_federation.instance.leads.models import Customer, Lead, new_reference
from provider_federation.kit import clock


class InvoiceStatus(models.TextChoices):
    """Stripe's own words; an invoice before it is finalised is a draft."""

    DRAFT = "draft", "Draft"
    OPEN = "open", "Open"
    PAID = "paid", "Paid"
    VOID = "void", "Void"
    UNCOLLECTIBLE = "uncollectible", "Uncollectible"


class Invoice(models.Model):
    """One invoice: one customer, one currency, `[period_from, period_to)`. Amounts in minor units."""

    number = models.CharField(max_length=32, unique=True)
    # What the invoice is called in Stripe's metadata: unlike the number it never comes again, not even after
    # a restored backup.
    reference = models.CharField(max_length=40, unique=True, default=new_reference, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="invoices")
    status = models.CharField(max_length=16, choices=InvoiceStatus.choices, default=InvoiceStatus.DRAFT)
    currency = models.CharField(max_length=3)
    period_from = models.DateTimeField()
    period_to = models.DateTimeField()
    subtotal_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField()
    amount_paid_cents = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    stripe_invoice_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    stripe_number = models.CharField(max_length=64, blank=True, default="")
    paid_out_of_band = models.BooleanField(default=False)
    hosted_invoice_url = models.CharField(max_length=2000, blank=True, default="")
    invoice_pdf = models.CharField(max_length=2000, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="invoicing_invoice_newest"),
            models.Index(fields=["updated_at"], name="invoicing_invoice_updated"),
            models.Index(fields=["status", "-created_at", "-id"], name="invoicing_invoice_status"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=InvoiceStatus.values), name="invoicing_invoice_status_known"
            ),
            models.CheckConstraint(
                condition=Q(total_cents=F("subtotal_cents") + F("tax_cents")), name="invoicing_invoice_total"
            ),
            models.CheckConstraint(
                condition=Q(subtotal_cents__gte=0, tax_cents__gte=0, amount_paid_cents__gte=0),
                name="invoicing_invoice_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(period_from__lt=F("period_to")), name="invoicing_invoice_period"
            ),
        ]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(models.Model):
    """One lead on an invoice. Lines of a void invoice stay, as what it once said."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    lead = models.ForeignKey(Lead, on_delete=models.PROTECT, related_name="invoice_lines")
    description = models.CharField(max_length=500)
    converted_at = models.DateTimeField()
    quantity = models.PositiveIntegerField(default=1)
    unit_price_cents = models.BigIntegerField()
    amount_cents = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="invoicing_line_position"),
            models.UniqueConstraint(fields=["invoice", "lead"], name="invoicing_line_lead"),
            models.CheckConstraint(
                condition=Q(amount_cents=F("quantity") * F("unit_price_cents")) & Q(amount_cents__gte=1),
                name="invoicing_line_amount",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}/{self.position}"


class LeadReservation(models.Model):
    """Holds a lead for the line of a live invoice. Its primary key is the lead: no two live invoices can have
    it.
    """

    lead = models.OneToOneField(Lead, primary_key=True, on_delete=models.PROTECT, related_name="reservation")
    line = models.OneToOneField(InvoiceLine, on_delete=models.PROTECT, related_name="reservation")

    def __str__(self) -> str:
        return f"lead {self.lead_id} on line {self.line_id}"


class NumberSeries(models.Model):
    """The last invoice number given, in the single row 1; whoever draws a number holds that row until the
    commit.
    """

    last_number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.last_number)


class Feed(models.Model):
    """The changes feed's identity and length, in the single row 1. A new database is a new epoch."""

    epoch = models.CharField(max_length=32)
    last_seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.epoch}:{self.last_seq}"


class FeedEntry(models.Model):
    """A place in a feed. `mark` is random: a cursor that another history made (a restored backup) does not fit."""

    seq = models.BigIntegerField(primary_key=True)
    mark = models.CharField(max_length=16)
    at = models.DateTimeField()

    class Meta:
        abstract = True


class Change(FeedEntry):
    """One entry of the feed of invoices."""

    kind = models.CharField(max_length=32)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="changes")

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class StripeStep(models.Model):
    """One step towards a sent invoice (`stripe_account.Journal`): its idempotency key is committed before the
    call.

    `journal_key` names the order or the customer it belongs to; `result_id` is null while the outcome is
    unknown.
    """

    journal_key = models.CharField(max_length=200)
    step = models.CharField(max_length=64)
    idempotency_key = models.CharField(max_length=300)
    at = models.DateTimeField()
    first_at = models.DateTimeField()
    result_id = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001  null says that no answer was stored yet
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["journal_key", "step"], name="invoicing_stripestep_once")
        ]

    def __str__(self) -> str:
        return f"{self.journal_key} {self.step}"


class EventState(models.TextChoices):
    PENDING = "pending", "Pending"
    APPLIED = "applied", "Applied"
    IGNORED = "ignored", "Ignored"
    PARKED = "parked", "Parked"


class StripeEvent(models.Model):
    """A verified webhook delivery, stored before it is answered. `payload` is the text that Stripe signed, `note`
    says why nothing came of it. A parked one failed too often, or for good, and waits for a person.
    """

    event_id = models.CharField(max_length=128, unique=True)
    type = models.CharField(max_length=80)
    object_id = models.CharField(max_length=128, blank=True)
    payload = models.TextField()
    received_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=EventState.choices, default=EventState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True, default="")
    note = models.CharField(max_length=200, blank=True, default="")
    applied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "id"], name="invoicing_event_state")]

    def __str__(self) -> str:
        return self.event_id


class Alert(models.Model):
    """Something a person should look at; the same thing is told once and counted."""

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    sentence = models.CharField(max_length=500)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    times = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "subject"], name="invoicing_alert_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class IdempotencyRecord(models.Model):
    """The first answer to a write, by caller and Idempotency-Key."""

    caller = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    body = models.TextField()
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="invoicing_idempotency_once")]

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"


class ProviderAction(models.TextChoices):
    """What the provider may be allowed to do with money here."""

    DRAFT = "draft", "Draft invoices"
    SEND = "send", "Send invoices"


class ProviderPolicy(models.Model):
    """What the owner of the instance allows its provider: one row, `pk` 1.

    `daily_limit_cents` is in minor units of `currency` (None: no limit) and holds for what is drafted and for
    what is sent, each by itself; while there is one, an amount in another currency is refused.
    """

    frozen = models.BooleanField(default=False)
    may_draft = models.BooleanField(default=True)
    may_send = models.BooleanField(default=True)
    daily_limit_cents = models.BigIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="usd")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="invoicing_providerpolicy_one"),
            models.CheckConstraint(
                condition=Q(daily_limit_cents__isnull=True) | Q(daily_limit_cents__gte=0),
                name="invoicing_providerpolicy_limit",
            ),
        ]

    def __str__(self) -> str:
        return "frozen" if self.frozen else "open"


class ProviderWrite(models.Model):
    """One invoice that the provider drafted or sent, counted on the day (UTC) of the first try."""

    action = models.CharField(max_length=8, choices=ProviderAction.choices)
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="provider_writes")
    day = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["action", "invoice"], name="invoicing_providerwrite_once"),
        ]
        indexes = [models.Index(fields=["day", "action"], name="invoicing_providerwrite_day")]

    def __str__(self) -> str:
        return f"{self.action} {self.invoice_id} {self.day}"
