"""Looking through the client's Stripe account for what no event told of: a lost webhook is found here.

Invoices are listed by the time they were made, whatever their state; what is older and not final is listed by
status, and what is left of ours is fetched one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from provider_federation.instance.invoicing.models import Alert, Invoice, InvoiceStatus
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.merging import apply_invoice, find_invoice
from provider_federation.kit import clock
from provider_federation.stripe_account import StripeAccount, StripeFailed, StripeInvoice

WINDOW = timedelta(days=35)
"""Invoices made in this time are listed; Stripe itself gives up on a delivery after three days."""
_MOST = 1_000_000
"""Invoices in one list at most: the client's account may bill many others, whom no sweep may fail for."""
_CHANGING = (InvoiceStatus.OPEN, InvoiceStatus.UNCOLLECTIBLE)


def sweep_invoices() -> tuple[int, int]:
    """`(looked at, changed)`. An invoice that is not ours is told of once, as an alert. Problem 502 or 503 when
    Stripe cannot be asked; what was found until then is kept.
    """
    stripe = account.open_account()
    try:
        found = _listed(stripe)
        found |= _left(stripe, found.keys())
    except StripeFailed as failed:
        raise account.problem_of(failed) from failed
    told = set(Alert.objects.filter(kind="unknown_invoice").values_list("subject", flat=True))
    # Oldest first, so that alerts and the feed follow the order of things.
    in_order = sorted(found.values(), key=lambda one: (one.created, one.id))
    return len(found), sum(_changes(one, told) for one in in_order)


def _listed(stripe: StripeAccount) -> dict[str, StripeInvoice]:
    found = {one.id: one for one in stripe.list_invoices(since=clock.now() - WINDOW, most=_MOST)}
    for status in _CHANGING:
        found |= {one.id: one for one in stripe.list_invoices(status=status, most=_MOST)}
    return found


def _left(stripe: StripeAccount, listed: Iterable[str]) -> dict[str, StripeInvoice]:
    """Ours that are not final and that no list held."""
    rows = Invoice.objects.filter(status__in=(InvoiceStatus.DRAFT, *_CHANGING)).exclude(
        stripe_invoice_id=None
    )
    names = {str(name) for name in rows.values_list("stripe_invoice_id", flat=True)} - set(listed)
    found: dict[str, StripeInvoice] = {}
    for name in sorted(names):
        try:
            found[name] = stripe.retrieve_invoice(name)
        except StripeFailed as failed:
            # Missing is a draft that was deleted there; voiding ours frees its leads.
            if failed.code != "resource_missing":
                raise
    return found


def _changes(one: StripeInvoice, told: set[str]) -> bool:
    """Whether it changed a row of ours."""
    before = find_invoice(one)
    if before is None and (one.customer_id or one.id) in told:
        return False
    after = apply_invoice(one)
    return before is not None and after is not None and after.updated_at != before.updated_at
