"""Looking in Stripe before something is done that cannot be taken back: a database that was restored from a backup
has forgotten what it sent.
"""

from __future__ import annotations

from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus
from provider_federation.instance.invoicing.services.account import ORDER_KEY
from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import StripeAccount, StripeInvoice


def invoices_there(stripe: StripeAccount, invoice: Invoice) -> list[StripeInvoice]:
    """What Stripe has of the invoice, void ones aside."""
    return [one for one in _of_customer(stripe, invoice) if one.metadata.get(ORDER_KEY) == invoice.reference]


def refuse_billed_before(stripe: StripeAccount, invoice: Invoice) -> None:
    """Problem 409 `lead_already_billed` when an invoice that this database does not know holds one of the leads."""
    ours = {line.lead.public_id for line in invoice.lines.all()}
    for one in _forgotten(_of_customer(stripe, invoice)):
        both = ours & {line.metadata.get("pf_lead", "") for line in stripe.list_lines(one.id)}
        if both:
            raise Problem(
                409,
                "lead_already_billed",
                f"Lead {min(both)} is on the invoice {one.number or one.id} in Stripe, which this instance has forgotten "
                "(a restored backup?). Void this draft and mark the lead as not eligible, or void the other in Stripe.",
            )


def _of_customer(stripe: StripeAccount, invoice: Invoice) -> list[StripeInvoice]:
    who = invoice.customer
    customers = stripe.list_customers(metadata={"pf_customer": who.reference}, email=who.email)
    found = [one for there in customers for one in stripe.list_invoices(customer_id=there.id)]
    return [one for one in found if one.status != InvoiceStatus.VOID]


def _forgotten(found: list[StripeInvoice]) -> list[StripeInvoice]:
    keys = {one.metadata[ORDER_KEY] for one in found if one.metadata.get(ORDER_KEY)}
    known = set(Invoice.objects.filter(reference__in=keys).values_list("reference", flat=True))
    return [one for one in found if one.metadata.get(ORDER_KEY) in keys - known]
