"""What Stripe says about an invoice, brought into ours: forward only.

Answers and webhooks arrive late, twice and in any order. A finalised invoice only ever moves forward in
Stripe (open, then uncollectible, then paid or void), so an older answer is recognised by its status and
changes nothing.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from provider_federation.instance.invoicing.feed import UPDATED, record_change
from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.alerts import raise_alert
from provider_federation.instance.invoicing.services.voiding import free_leads
from provider_federation.kit import clock
from provider_federation.stripe_account import StripeInvoice

_RANK = {
    InvoiceStatus.DRAFT: 0,
    InvoiceStatus.OPEN: 1,
    InvoiceStatus.UNCOLLECTIBLE: 2,
    InvoiceStatus.PAID: 3,
    InvoiceStatus.VOID: 3,
}


def apply_invoice(stripe: StripeInvoice) -> Invoice | None:
    """Bring an invoice of the account into ours; None, and an alert, when we did not make it."""
    ours = find_invoice(stripe)
    if ours is None:
        subject = stripe.customer_id or stripe.id
        raise_alert("unknown_invoice", subject, "Stripe reports an invoice that this instance did not make.")
        return None
    return merge(ours.pk, stripe)


def find_invoice(stripe: StripeInvoice) -> Invoice | None:
    """By Stripe's id, or by our reference inside while (or just before) a sending stores that id."""
    reference = stripe.metadata.get(account.ORDER_KEY, "")
    # One query: between two of them a sending could commit, and its own event would look like a stranger's.
    found = Invoice.objects.filter(Q(stripe_invoice_id=stripe.id) | Q(reference=reference)).first()
    return found if found is not None and found.stripe_invoice_id in {None, stripe.id} else None


def merge(invoice_id: int, stripe: StripeInvoice, *, sent: bool = False) -> Invoice:
    """Bring `stripe` (fetched from the account just now) into the invoice; `sent`: the customer has it by
    email.

    Writes a feed entry only when something changed.
    """
    with transaction.atomic():
        invoice = Invoice.objects.select_for_update().get(pk=invoice_id)
        first_sent = sent and invoice.sent_at is None
        if first_sent:
            invoice.sent_at = clock.now()
        changed = _take(invoice, stripe) or first_sent
        if changed:
            invoice.updated_at = clock.now()
            invoice.save()
            if invoice.status == InvoiceStatus.VOID:
                free_leads(invoice)
            record_change(UPDATED, invoice)
    if stripe.total != invoice.total_cents:
        raise_alert("total_differs", invoice.number, "The invoice in Stripe has another total than ours.")
    if _void_here_only(invoice, stripe):
        sentence = "This invoice is void here, and its leads can be billed again; in Stripe it lives. Void or refund it there."
        raise_alert("void_here_only", invoice.number, sentence)
    return invoice


def _void_here_only(invoice: Invoice, stripe: StripeInvoice) -> bool:
    """Only an invoice that was not sent is voided here; of one that was, an older answer can be on its way still."""
    if invoice.status != InvoiceStatus.VOID:
        return False
    return stripe.status == InvoiceStatus.PAID or (
        invoice.sent_at is None and stripe.status in {InvoiceStatus.OPEN, InvoiceStatus.UNCOLLECTIBLE}
    )


def _take(invoice: Invoice, stripe: StripeInvoice) -> bool:
    rank, known = _RANK.get(InvoiceStatus(stripe.status), 0), _RANK[InvoiceStatus(invoice.status)]
    # Of two final answers the first stays: Stripe itself never goes from one to the other.
    if rank < known or (rank == known == _RANK[InvoiceStatus.PAID] and stripe.status != invoice.status):
        return False
    before = _figures(invoice)
    invoice.stripe_invoice_id = stripe.id
    if rank > 1 or (rank == 1 and invoice.sent_at is not None):
        # Finalised and not sent is still a draft here: whoever looks for drafts to send has to find it.
        invoice.status = stripe.status
    invoice.stripe_number = stripe.number or invoice.stripe_number
    invoice.hosted_invoice_url = stripe.hosted_invoice_url or invoice.hosted_invoice_url
    invoice.invoice_pdf = stripe.invoice_pdf or invoice.invoice_pdf
    invoice.amount_paid_cents = max(invoice.amount_paid_cents, stripe.amount_paid)
    invoice.paid_out_of_band = invoice.paid_out_of_band or stripe.paid_out_of_band
    if invoice.status == InvoiceStatus.PAID and invoice.paid_at is None:
        invoice.paid_at = stripe.paid_at or clock.now()
    return _figures(invoice) != before


def _figures(invoice: Invoice) -> tuple[object, ...]:
    return (
        invoice.stripe_invoice_id,
        invoice.status,
        invoice.stripe_number,
        invoice.hosted_invoice_url,
        invoice.invoice_pdf,
        invoice.amount_paid_cents,
        invoice.paid_out_of_band,
        invoice.paid_at,
    )
