"""What happens to a lead before it is billed: it comes in, converts, and counts or does not."""

from __future__ import annotations

import secrets
from datetime import datetime

from django.db import transaction

from provider_federation.instance.leads.models import HIGHEST_PRICE_CENTS, Customer, Lead, LeadStatus, Source
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.money import check_currency


def add_customer(name: str, email: str, *, at: datetime | None = None) -> Customer:
    return Customer.objects.create(name=name, email=email.lower(), created_at=at or clock.now())


def add_lead(
    name: str,
    customer: Customer | None,
    *,
    price_cents: int | None,
    currency: str = "usd",
    source: str = Source.SYSTEM,
    public_id: str | None = None,
    at: datetime | None = None,
) -> Lead:
    """A new lead at `at` (default now). Its public id is what people and invoices call it.

    Problem `bad_amount`, or money's BadCurrency.
    """
    _check_price(price_cents)
    check_currency(currency)
    return Lead.objects.create(
        public_id=public_id or f"L-{secrets.token_hex(4).upper()}",
        name=name,
        customer=customer,
        price_cents=price_cents,
        currency=currency.lower(),
        source=source,
        created_at=at or clock.now(),
    )


def convert_lead(lead_id: int, *, at: datetime | None = None) -> Lead:
    """Mark a lead as converted, once: a second call changes nothing, so its conversion time never moves."""
    with transaction.atomic():
        lead = _locked(lead_id)
        if lead.converted_at is None:
            moment = at or clock.now()
            if moment < lead.created_at:
                raise Problem(409, "conversion_too_early", "A lead cannot convert before it came in.")
            lead.status, lead.converted_at = LeadStatus.CONVERTED, moment
            lead.save(update_fields=["status", "converted_at"])
        return lead


def set_eligible(lead_id: int, *, eligible: bool) -> Lead:
    """Whether this lead may be billed to its customer. What a live invoice holds already stays on it."""
    with transaction.atomic():
        lead = _locked(lead_id)
        lead.eligible = eligible
        lead.save(update_fields=["eligible"])
        return lead


def _locked(lead_id: int) -> Lead:
    lead = Lead.objects.select_for_update().filter(pk=lead_id).first()
    if lead is None:
        raise not_found("lead")
    return lead


def _check_price(price_cents: int | None) -> None:
    if price_cents is not None and not 1 <= price_cents <= HIGHEST_PRICE_CENTS:
        raise Problem(400, "bad_amount", f"A price is from 1 to {HIGHEST_PRICE_CENTS} cents.")
