"""What a child of the fork server does in an instance: see tests/crash/test_billing_crash_instance.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management import call_command

from provider_federation.instance import urls  # noqa: F401  the whole instance, before anybody is forked
from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.leads.services import add_customer, add_lead, convert_lead
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period


def migrate() -> None:
    call_command("migrate", verbosity=0)


def draft(count: int) -> list[int]:
    """So many drafts of two leads, each for a customer of its own."""
    now = clock.now()
    for number in range(count):
        customer = add_customer(f"Customer {number}", f"c{number}-{now.timestamp()}@example.com")
        for _ in range(2):
            lead = add_lead("Lead", customer, price_cents=4_321, at=now - timedelta(days=2))
            convert_lead(lead.pk, at=now - timedelta(days=1))
    made = services.draft_invoices(Period(now - timedelta(days=30), now + timedelta(days=1)))
    return [invoice.pk for invoice in made.invoices]


def send(invoice: int) -> str:
    """What the route does; what Stripe does not take now is asked for again."""
    for _ in range(20):
        try:
            return str(services.send_hosted_invoice(invoice).stripe_invoice_id)
        except Problem as problem:
            if problem.status < 500:
                raise
    raise AssertionError("it never came through")


def send_all(invoices: list[int]) -> list[str]:
    return [send(one) for one in invoices]


def state(invoices: list[int]) -> list[dict[str, Any]]:
    found = Invoice.objects.filter(pk__in=invoices)
    names = ("reference", "status", "stripe_invoice_id", "total_cents", "sent_at")
    return [{name: str(getattr(one, name)) for name in names} for one in found]
