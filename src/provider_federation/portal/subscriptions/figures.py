"""What a Stripe invoice says about its money, as columns that both kinds of provider invoice share."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

REPORTED = (
    "status",
    "currency",
    "due_at",
    *(
        f"{name}_cents"
        for name in ("total", "tax", "paid", "off_stripe", "remaining", "credited_unpaid", "credited_paid")
    ),
)
"""The columns that the reports add up: an index that carries them answers without the rows."""


class InvoiceStatus(models.TextChoices):
    """Stripe's own words for a finalised invoice; an invoice before that is `draft`."""

    DRAFT = "draft", "draft"
    OPEN = "open", "open"
    PAID = "paid", "paid"
    VOID = "void", "void"
    UNCOLLECTIBLE = "uncollectible", "uncollectible"


class StripeFigures(models.Model):
    """Amounts of one invoice as Stripe last told us, in minor units of `currency`.

    `total` was billed; `total - credited_unpaid - due` went over the customer's balance (a total below the
    minimum charge, a credit from before); `due` is `paid + remaining`; of what Stripe calls paid,
    `off_stripe` never passed through the account. `credited_paid` was given back, or to the balance, after
    payment. `tax` is the part of `total` that is tax, as Stripe reckoned it. `payments` is what `paid` was paid
    by, oldest first: `{at, cents, stripe}` with Stripe's own time, as of when it was last asked for.
    `version` goes up with every write: whoever fetched before the last write fetches again.
    """

    stripe_invoice_id = models.CharField(max_length=128, null=True, blank=True, unique=True)
    number = models.CharField(max_length=64, blank=True, default="")
    currency = models.CharField(max_length=3)
    total_cents = models.BigIntegerField(default=0)
    tax_cents = models.BigIntegerField(default=0)
    payments = models.JSONField(default=list, blank=True)
    due_cents = models.BigIntegerField(default=0)
    paid_cents = models.BigIntegerField(default=0)
    off_stripe_cents = models.BigIntegerField(default=0)
    remaining_cents = models.BigIntegerField(default=0)
    credited_unpaid_cents = models.BigIntegerField(default=0)
    credited_paid_cents = models.BigIntegerField(default=0)
    hosted_invoice_url = models.CharField(max_length=1000, blank=True, default="")
    invoice_pdf = models.CharField(max_length=1000, blank=True, default="")
    finalized_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    voided_at = models.DateTimeField(null=True, blank=True)
    uncollectible_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="%(app_label)s_%(class)s_currency"
            ),
            models.CheckConstraint(
                condition=Q(off_stripe_cents__gte=0) & Q(paid_cents__gte=0),
                name="%(app_label)s_%(class)s_not_negative",
            ),
        ]
