"""Voiding a draft frees its leads. Its number stays with it, so that the series has no gap."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from provider_federation.instance.invoicing.feed import UPDATED, record_change
from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus, LeadReservation
from provider_federation.instance.invoicing.queries import get_invoice
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.journal import TableJournal
from provider_federation.instance.invoicing.services.looking import invoices_there
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import StripeFailed, StripeInvoice


def free_leads(invoice: Invoice) -> None:
    """Inside the transaction that voids `invoice`: its leads can be billed again."""
    LeadReservation.objects.filter(line__invoice=invoice).delete()


def void_unsent(invoice_id: int) -> Invoice:
    """Void a draft while its sending lock is held; a draft that a broken sending left in Stripe is deleted
    there first.

    Problems: 404 `not_found`; 409 `not_a_draft`, `already_sending` (Stripe may or may not have it: send
    again, then see); 502 or 503 `stripe_…` when Stripe cannot be asked whether it has it.
    """
    invoice = get_invoice(invoice_id)
    if invoice.status == InvoiceStatus.VOID:
        return invoice
    _require_draft(invoice)
    _remove_from_stripe(invoice)
    with transaction.atomic():
        locked = Invoice.objects.select_for_update().get(pk=invoice_id)
        _require_draft(locked)
        locked.status, locked.updated_at = InvoiceStatus.VOID, clock.now()
        locked.save(update_fields=["status", "updated_at"])
        free_leads(locked)
        record_change(UPDATED, locked)
    return get_invoice(invoice_id)


def _require_draft(invoice: Invoice) -> None:
    if invoice.status != InvoiceStatus.DRAFT or invoice.sent_at is not None:
        raise Problem(
            409, "not_a_draft", "Only a draft can be voided here; a sent invoice is voided in Stripe."
        )


def _remove_from_stripe(invoice: Invoice) -> None:
    try:
        for there in _in_stripe(invoice):
            if there.status != "draft":
                raise Problem(
                    409,
                    "not_a_draft",
                    "Stripe has finalised this invoice; send it again to finish, then void it there.",
                )
            key = f"pf/{invoice.reference}/delete/{there.id}"
            account.open_account().delete_draft(there.id, idempotency_key=key)
    except StripeFailed as failed:
        if failed.code != "resource_missing":  # deleted before, by us or by hand
            raise account.problem_of(failed) from failed


def _in_stripe(invoice: Invoice) -> list[StripeInvoice]:
    """What Stripe has of it, void ones aside. It is asked also when our journal knows nothing of a sending: a database
    that was restored from a backup has forgotten it, and would free leads that were billed.
    """
    begun = TableJournal().load(invoice.reference).get("invoice")
    if begun is None and not settings.STRIPE_SECRET_KEY:
        return []
    if begun is not None and begun.result_id is None:
        raise Problem(
            409, "already_sending", "This invoice may be in Stripe already; send it again to finish."
        )
    stripe = account.open_account()
    if begun is not None and begun.result_id is not None:
        return [stripe.retrieve_invoice(begun.result_id)]
    return invoices_there(stripe, invoice)
