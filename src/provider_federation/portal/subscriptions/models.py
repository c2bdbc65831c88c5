"""What each client subscribes to in the provider's Stripe account, and since when."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.db import models
from django.db.models import Q

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.figures import REPORTED, InvoiceStatus, StripeFigures


class PlanCode(models.TextChoices):
    """The plans of money.plans; the figures of each are there."""

    BASE = "BASE", "Base"
    PRO = "PRO", "Pro"
    ELITE = "ELITE", "Elite"


class Status(models.TextChoices):
    """Stripe's subscription statuses, and `creating` while our own creation is under way."""

    CREATING = "creating", "creating"
    INCOMPLETE = "incomplete", "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired", "expired before payment"
    TRIALING = "trialing", "trial"
    ACTIVE = "active", "active"
    PAST_DUE = "past_due", "past due"
    UNPAID = "unpaid", "unpaid"
    PAUSED = "paused", "paused"
    CANCELED = "canceled", "cancelled"


ENDED = (Status.CANCELED, Status.INCOMPLETE_EXPIRED)
"""No way back from these: the client may subscribe anew."""

IN_ARREARS = (Status.PAST_DUE, Status.UNPAID)
"""A renewal was not paid: the plan stays, what it gives is restricted after the grace period."""

ENTITLED = (Status.TRIALING, Status.ACTIVE, *IN_ARREARS)
"""In these the plan is in force: paid for, in its trial, or in dunning."""


class BillingCustomer(models.Model):
    """The client as a customer of the provider's Stripe account. One to one both ways."""

    instance = models.OneToOneField(Instance, on_delete=models.PROTECT, related_name="billing_customer")
    stripe_customer_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    name = models.CharField(max_length=200, blank=True, default="")
    email = models.EmailField(blank=True, default="")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.stripe_customer_id or "(being made)"


class Subscription(models.Model):
    """One subscription of one client. `fee_cents` is the plan's monthly fee in minor units of `currency`.

    `snapshot` is the Stripe object as last fetched, at `snapshot_at`; `version` goes up with every write,
    and whoever fetched before the last write fetches again. BASE costs nothing and has no Stripe object.
    At most one subscription of a client is not ended.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="subscriptions")
    plan = models.CharField(max_length=16, choices=PlanCode.choices)
    status = models.CharField(max_length=24, choices=Status.choices, default=Status.CREATING)
    fee_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    stripe_subscription_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    stripe_price_id = models.CharField(max_length=128, blank=True, default="")
    request_digest = models.CharField(max_length=64, blank=True, default="")
    payment_method = models.CharField(max_length=128, blank=True, default="")
    trial_days = models.PositiveSmallIntegerField(default=0)
    billing_details = models.JSONField(default=dict, blank=True)
    hosted_invoice_url = models.CharField(max_length=1000, blank=True, default="")
    current_period_start = models.DateTimeField(null=True, blank=True)
    current_period_end = models.DateTimeField(null=True, blank=True)
    trial_end = models.DateTimeField(null=True, blank=True)
    cancel_at_period_end = models.BooleanField(default=False)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    snapshot = models.JSONField(default=dict, blank=True)
    version = models.PositiveIntegerField(default=0)
    snapshot_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["instance"], condition=~Q(status__in=ENDED), name="subscriptions_one_alive"
            ),
            models.CheckConstraint(condition=Q(fee_cents__gte=0), name="subscriptions_fee_not_negative"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="subscriptions_currency_iso"
            ),
        ]
        indexes = [models.Index(fields=["-created_at", "-id"], name="subscriptions_newest")]

    def __str__(self) -> str:
        return f"{self.plan} ({self.status})"

    @property
    def ended(self) -> bool:
        """True when nothing can bring this subscription back."""
        return self.status in ENDED


class Proration(models.TextChoices):
    """When a change takes effect and how its difference is billed; all but the last are Stripe's words."""

    ALWAYS_INVOICE = "always_invoice", "now, the difference billed at once"
    CREATE_PRORATIONS = "create_prorations", "now, the difference on the next invoice"
    NONE = "none", "now, without proration"
    AT_PERIOD_END = "at_period_end", "at the end of the paid period"


class ChangeKind(models.TextChoices):
    """What was asked for."""

    PLAN = "plan", "another plan"
    CANCEL = "cancel", "cancellation"
    RESUME = "resume", "resumption"
    WITHDRAW = "withdraw", "withdrawal of a change"


class ChangeState(models.TextChoices):
    """Where a change stands. The last three are its end."""

    CARRYING_OUT = "carrying_out", "being carried out"
    AWAITING_PAYMENT = "awaiting_payment", "waits for its payment"
    SCHEDULED = "scheduled", "scheduled"
    DONE = "done", "done"
    WITHDRAWN = "withdrawn", "withdrawn"
    FAILED = "failed", "failed"


WAITING = (ChangeState.AWAITING_PAYMENT, ChangeState.SCHEDULED)
"""Accepted by Stripe, not in force yet."""


class SubscriptionChange(models.Model):
    """One change of a subscription that somebody asked for, stored before Stripe is called.

    `proration_date` is the second from which the preview prorated, and Stripe does. Amounts are the
    preview's, in minor units of the subscription's currency: None where nothing was previewed. `effective_at`
    is when a scheduled change comes, or when a done one was seen to be in force.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="changes")
    kind = models.CharField(max_length=16, choices=ChangeKind.choices)
    state = models.CharField(max_length=24, choices=ChangeState.choices, default=ChangeState.CARRYING_OUT)
    proration = models.CharField(max_length=24, choices=Proration.choices, blank=True, default="")
    from_plan = models.CharField(max_length=16, choices=PlanCode.choices)
    to_plan = models.CharField(max_length=16, choices=PlanCode.choices)
    stripe_price_id = models.CharField(max_length=128, blank=True, default="")
    stripe_schedule_id = models.CharField(max_length=128, blank=True, default="")
    proration_date = models.DateTimeField(null=True, blank=True)
    amount_now_cents = models.BigIntegerField(null=True, blank=True)
    amount_next_cents = models.BigIntegerField(null=True, blank=True)
    effective_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.CharField(max_length=200)
    failure = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription"],
                condition=Q(state=ChangeState.CARRYING_OUT),
                name="subscriptions_one_change_under_way",
            ),
            models.UniqueConstraint(
                fields=["subscription"], condition=Q(state__in=WAITING), name="subscriptions_one_change_waits"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.from_plan} → {self.to_plan} ({self.state})"


class EntitlementState(models.TextChoices):
    """What a client may use: all of its plan, only what BASE gives (in arrears), or BASE."""

    FULL = "full", "full"
    RESTRICTED = "restricted", "restricted"
    BASE = "base", "base"


class Entitlement(models.Model):
    """What the portal last told, or has to tell, an instance. A limit of None is unlimited.

    `version` goes up with every change of what is said, so that an instance can tell old from new in any
    order; `acknowledged_version` is what the instance last confirmed.
    """

    instance = models.OneToOneField(
        Instance, primary_key=True, on_delete=models.PROTECT, related_name="entitlement"
    )
    version = models.PositiveBigIntegerField(default=1)
    plan = models.CharField(max_length=16, choices=PlanCode.choices)
    state = models.CharField(max_length=16, choices=EntitlementState.choices)
    leads = models.PositiveBigIntegerField(null=True, blank=True)
    users = models.PositiveBigIntegerField(null=True, blank=True)
    ai_credits = models.PositiveBigIntegerField(null=True, blank=True)
    support = models.CharField(max_length=32)
    valid_from = models.DateTimeField()
    acknowledged_version = models.PositiveBigIntegerField(default=0)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_code = models.CharField(max_length=80, blank=True, default="")
    last_sentence = models.CharField(max_length=500, blank=True, default="")
    due_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.plan} {self.state} v{self.version}"

    @property
    def acknowledged(self) -> bool:
        return self.acknowledged_version >= self.version


class FormerCustomer(models.Model):
    """A Stripe customer that was deleted there: late events about it still name their client."""

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="former_customers")
    stripe_customer_id = models.CharField(max_length=128, unique=True)
    deleted_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.stripe_customer_id


class PlanChange(models.Model):
    """From `effective_at` on (until the next row), `plan` was in force. Rows are only ever added."""

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="plan_changes")
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, null=True, blank=True, related_name="plan_changes"
    )
    plan = models.CharField(max_length=16, choices=PlanCode.choices)
    effective_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    reason = models.CharField(max_length=64)

    class Meta:
        ordering = ["-effective_at", "-id"]

    def __str__(self) -> str:
        return f"{self.plan} from {self.effective_at:%Y-%m-%d}"


class CapChange(models.Model):
    """From `effective_at` on, AI usage of the client is billed up to `cap_cents` a month (money rule 6), with
    `markup` on top of its cost (a fraction: 0.1 is ten percent).

    Rows are only ever added. A later row takes the place of the earlier ones from its `effective_at` on, also
    of those that were to begin after it. `set_by` is empty where an edit of the client set the cap.
    """

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="cap_changes")
    cap_cents = models.BigIntegerField()
    markup = models.DecimalField(max_digits=7, decimal_places=4, default=Decimal(0))
    effective_at = models.DateTimeField()
    set_by = models.CharField(max_length=254, blank=True, default="")
    recorded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-effective_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(cap_cents__gte=0), name="subscriptions_cap_not_negative"),
            models.CheckConstraint(condition=Q(markup__gte=0), name="subscriptions_markup_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.cap_cents} from {self.effective_at:%Y-%m-%d}"


class SubscriptionInvoice(StripeFigures):
    """What a subscription billed, as Stripe says: from webhooks and Stripe's answers, never by hand."""

    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="subscription_invoices")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="invoices")
    status = models.CharField(max_length=16, choices=InvoiceStatus.choices)
    billing_reason = models.CharField(max_length=64, blank=True, default="")
    service_start = models.DateTimeField(null=True, blank=True)
    service_end = models.DateTimeField(null=True, blank=True)
    billed_at = models.DateTimeField()

    class Meta(StripeFigures.Meta):
        ordering = ["-billed_at", "-id"]
        indexes = [
            models.Index(fields=["instance", "billed_at"], name="subscriptions_invoice_month"),
            models.Index(
                fields=["finalized_at"], include=["id", "instance", *REPORTED], name="subscriptions_reported"
            ),
        ]

    def __str__(self) -> str:
        return self.number or self.stripe_invoice_id or str(self.pk)


class JournalStep(models.Model):
    """The memory of one call to Stripe: stored before it is made, finished with what it led to (money rule
    11).
    """

    key = models.CharField(max_length=180)
    step = models.CharField(max_length=40)
    idempotency_key = models.CharField(max_length=255)
    at = models.DateTimeField()
    first_at = models.DateTimeField()
    result_id = models.CharField(max_length=128, blank=True, default="")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["key", "id"]
        constraints = [models.UniqueConstraint(fields=["key", "step"], name="subscriptions_journal_once")]

    def __str__(self) -> str:
        return f"{self.key} {self.step}"
