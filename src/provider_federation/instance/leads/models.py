"""Customers, and the leads that the app brought them."""

from __future__ import annotations

import secrets

from django.db import models
from django.db.models import Q

from provider_federation.kit import clock

# Stripe takes at most eight digits for one amount.
HIGHEST_PRICE_CENTS = 99_999_999


def new_reference() -> str:
    """A random name for a row, for systems that outlive this database."""
    return secrets.token_hex(12)


class Customer(models.Model):
    """Who the client bills. `reference` is what Stripe knows them by, besides its own id."""

    name = models.CharField(max_length=200)
    email = models.EmailField()
    reference = models.CharField(max_length=40, unique=True, default=new_reference, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.name


class Source(models.TextChoices):
    SYSTEM = "system", "System"
    MANUAL = "manual", "Manual"
    IMPORT = "import", "Import"


class LeadStatus(models.TextChoices):
    NEW = "new", "New"
    CONTACTED = "contacted", "Contacted"
    CONVERTED = "converted", "Converted"
    LOST = "lost", "Lost"


class Lead(models.Model):
    """One lead. `price_cents` is what the client charges its customer for it once it is converted."""

    public_id = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=16, choices=Source.choices, default=Source.SYSTEM)
    status = models.CharField(max_length=16, choices=LeadStatus.choices, default=LeadStatus.NEW)
    eligible = models.BooleanField(default=True)
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="leads"
    )
    price_cents = models.BigIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="usd")
    created_at = models.DateTimeField(default=clock.now, db_index=True)
    converted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["converted_at", "id"], name="leads_lead_converted")]
        constraints = [
            models.CheckConstraint(
                condition=Q(price_cents__isnull=True)
                | Q(price_cents__gte=1, price_cents__lte=HIGHEST_PRICE_CENTS),
                name="leads_lead_price",
            ),
            models.CheckConstraint(condition=Q(source__in=Source.values), name="leads_lead_source"),
            models.CheckConstraint(condition=Q(status__in=LeadStatus.values), name="leads_lead_status"),
            models.CheckConstraint(
                condition=Q(status=LeadStatus.CONVERTED, converted_at__isnull=False)
                | (~Q(status=LeadStatus.CONVERTED) & Q(converted_at__isnull=True)),
                name="leads_lead_converted_has_its_time",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id
