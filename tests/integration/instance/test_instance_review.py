"""What could bill a customer twice or lose a payment: a restored backup, a void here and an invoice there, floods of
events while Stripe is away.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import (
    Alert,
    Change,
    EventState,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    LeadReservation,
    StripeEvent,
    StripeStep,
)
from provider_federation.instance.invoicing.services.events import STRIPE_PATIENCE
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.services import set_eligible
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period

MakeLead = Callable[..., Lead]
STRIPE_KEY = "sk_test_instance"
pytestmark = pytest.mark.django_db(transaction=True)


def draft(make_lead: MakeLead) -> Invoice:
    make_lead()
    return draft_again()


def draft_again() -> Invoice:
    [invoice] = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
    return invoice


def restore_backup_from_before_sending(invoice: Invoice) -> None:
    """The rows as they were while it was a draft; Stripe keeps what it has."""
    StripeStep.objects.all().delete()
    Invoice.objects.filter(pk=invoice.pk).update(
        status=InvoiceStatus.DRAFT, sent_at=None, stripe_invoice_id=None, stripe_number=""
    )


def forget_drafting(invoice: Invoice) -> None:
    """The rows as they were before it was drafted."""
    for rows in (StripeStep, Change, LeadReservation, InvoiceLine, Invoice):
        rows.objects.all().delete()
    assert not Invoice.objects.filter(pk=invoice.pk).exists()


def broken_sending(stripe: Any, make_lead: MakeLead) -> Invoice:
    """A draft here, and one that was not finalised in Stripe."""
    invoice = draft(make_lead)
    stripe.control("/faults", kind="error_before", method="POST", path="/v1/invoices/*/finalize", count=50)
    with pytest.raises(Problem):
        services.send_hosted_invoice(invoice.pk)
    stripe.clear_faults()
    return invoice


def pending(number: int, *, attempts: int = 0) -> StripeEvent:
    return StripeEvent.objects.create(
        event_id=f"evt_{number}", type="invoice.paid", object_id=f"in_{number}", payload="{}",
        received_at=clock.now(), attempts=attempts,
    )  # fmt: skip


def test_a_draft_that_stripe_has_already_is_not_voided_after_a_restored_backup(
    stripe: Any, make_lead: MakeLead
) -> None:
    invoice = services.send_hosted_invoice(draft(make_lead).pk)
    restore_backup_from_before_sending(invoice)
    with pytest.raises(Problem) as refused:
        services.void_draft(invoice.pk)
    assert (refused.value.status, refused.value.code) == (409, "not_a_draft")
    assert LeadReservation.objects.count() == 1  # nobody can bill this lead a second time
    assert services.send_hosted_invoice(invoice.pk).stripe_invoice_id == invoice.stripe_invoice_id


def test_a_lead_that_a_forgotten_invoice_bills_is_not_sent_again(stripe: Any, make_lead: MakeLead) -> None:
    """The backup is from before the draft: the lead is free here, and on an invoice in Stripe."""
    sent = services.send_hosted_invoice(draft(make_lead).pk)
    forget_drafting(sent)
    again = draft_again()
    with pytest.raises(Problem) as refused:
        services.send_hosted_invoice(again.pk)
    assert (refused.value.status, refused.value.code) == (409, "lead_already_billed")
    assert stripe.account.list_invoices(metadata={"pf_key": again.reference}) == []
    stripe.account.void_invoice(sent.stripe_invoice_id, idempotency_key=secrets.token_hex(8))
    assert services.send_hosted_invoice(again.pk).status == InvoiceStatus.OPEN


def test_what_a_forgotten_invoice_does_not_hold_is_sent(stripe: Any, make_lead: MakeLead) -> None:
    sent = services.send_hosted_invoice(draft(make_lead).pk)
    forget_drafting(sent)
    set_eligible(Lead.objects.get().pk, eligible=False)
    assert services.send_hosted_invoice(draft(make_lead).pk).status == InvoiceStatus.OPEN


@pytest.mark.parametrize("paid", [False, True])
def test_an_invoice_that_lives_in_stripe_and_is_void_here_is_told(
    stripe: Any, settings: Any, make_lead: MakeLead, *, paid: bool
) -> None:
    invoice = services.send_hosted_invoice(draft(make_lead).pk)
    restore_backup_from_before_sending(invoice)
    settings.STRIPE_SECRET_KEY = ""  # nobody could look when it was voided
    services.void_draft(invoice.pk)
    settings.STRIPE_SECRET_KEY = STRIPE_KEY
    if paid:
        stripe.account.pay_invoice(
            invoice.stripe_invoice_id, idempotency_key=secrets.token_hex(8), paid_out_of_band=True
        )
    services.sweep_invoices()
    assert Alert.objects.filter(kind="void_here_only", subject=invoice.number).exists()


def test_a_draft_that_a_forgotten_sending_left_in_stripe_goes_with_ours(
    stripe: Any, make_lead: MakeLead
) -> None:
    invoice = broken_sending(stripe, make_lead)
    StripeStep.objects.all().delete()
    assert services.void_draft(invoice.pk).status == InvoiceStatus.VOID
    assert stripe.account.list_invoices(metadata={"pf_key": invoice.reference}) == []


def test_a_draft_deleted_in_stripe_by_hand_is_voided_and_its_leads_sent_anew(
    stripe: Any, make_lead: MakeLead
) -> None:
    invoice = broken_sending(stripe, make_lead)
    [there] = stripe.account.list_invoices(metadata={"pf_key": invoice.reference})
    stripe.account.delete_draft(there.id, idempotency_key=secrets.token_hex(8))
    with pytest.raises(Problem) as refused:
        services.send_hosted_invoice(invoice.pk)
    assert refused.value.code == "stripe_resource_missing"
    services.void_draft(invoice.pk)
    assert services.send_hosted_invoice(draft_again().pk).status == InvoiceStatus.OPEN


def test_deliveries_while_stripe_is_away_do_not_park_an_event(
    stripe: Any, settings: Any, transactional_db: None
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    event = pending(1, attempts=49)
    services.apply_pending(limit=10)
    event.refresh_from_db()
    assert (event.state, event.attempts) == (EventState.PENDING, 50)
    StripeEvent.objects.update(received_at=clock.now() - STRIPE_PATIENCE)
    services.apply_pending(limit=10)
    event.refresh_from_db()
    assert event.state == EventState.PARKED


def test_a_stripe_that_is_away_is_asked_a_few_times_only(
    stripe: Any, settings: Any, transactional_db: None
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    for number in range(12):
        pending(number)
    assert services.apply_pending() == (0, 12)
    assert StripeEvent.objects.filter(attempts__gt=0).count() <= 3


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "target",
    [
        f"/api/billing/list?cursor={cursor('0001-01-01T00:00:00+14:00', 1)}",
        f"/api/billing/list?cursor={cursor('9999-12-31T23:59:59-14:00', 1)}",
        f"/api/provider/usage?period=2026-01&cursor={cursor('0001-01-01T00:00:00+14:00', 1)}",
        "/api/billing/list?updatedSince=0001-01-01T00:00:00Z",
        "/api/billing/list?updatedSince=9999-12-31T23:59:59Z",
    ],
)
def test_an_instant_at_the_end_of_time_is_no_fault_of_ours(server: Any, target: str) -> None:
    assert server.get(target).status_code in {200, 400}


@pytest.mark.parametrize("mark", ["\0", "\ud800", "é"])
def test_a_mark_that_no_database_can_be_asked_for_is_no_cursor_of_ours(server: Any, mark: str) -> None:
    epoch = server.get("/api/federation/changes").json()["epoch"]
    answer = server.get(f"/api/federation/changes?cursor={cursor(epoch, 1, mark)}")
    assert answer.status_code in {400, 409}, answer.text


def test_what_was_sent_before_is_not_counted_as_the_providers_again(
    server: Any, stripe: Any, make_lead: MakeLead
) -> None:
    invoice = services.send_hosted_invoice(draft(make_lead).pk)
    services.set_provider_policy(daily_limit_cents=1, currency="usd")
    answer = server.post("/api/integrations/stripe/create-hosted-invoice", {"id": str(invoice.pk)})
    assert answer.status_code == 200, answer.text
    assert services.used_today().sent_cents == 0
