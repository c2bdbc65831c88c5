"""Looking for what no webhook told of: every invoice that is not final is fetched from the client's account."""

from __future__ import annotations

from django.db.models import Q

from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.merging import merge
from provider_federation.stripe_account import StripeFailed

_CHANGING = (InvoiceStatus.DRAFT, InvoiceStatus.OPEN, InvoiceStatus.UNCOLLECTIBLE)


def sweep_invoices() -> tuple[int, int]:
    """`(looked at, changed)`. A paid or void invoice is final and is not asked for; a lost event about any
    other is made up for here. Problem 502 or 503 when Stripe cannot be asked.
    """
    stripe = account.open_account()
    rows = Invoice.objects.filter(Q(status__in=_CHANGING), ~Q(stripe_invoice_id=None)).order_by("pk")
    changed = 0
    for row in rows:
        try:
            fresh = stripe.retrieve_invoice(str(row.stripe_invoice_id))
        except StripeFailed as failed:
            if failed.code == "resource_missing":  # a draft that was deleted there; sending it again makes it
                continue
            raise account.problem_of(failed) from failed
        changed += merge(row.pk, fresh).updated_at != row.updated_at
    return len(rows), changed
