"""The way out for an order that Stripe lost: somebody deleted its draft, voided it, or changed it beyond use.

A row that is given up is void; its leads are free, and the month is planned anew under the next order key.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from provider_federation.kit import clock
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.account import provider_account, stripe_problems
from provider_federation.portal.subscriptions.customers import stripe_customers
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.stripe_account import StripeAccount, StripeFailed, StripeInvoice

_CHANGED = "stripe_totals_differ"


def abandon_order(held: UsageInvoice, *, actor: str) -> bool:
    """Whether the held row was given up because nothing of it is left in Stripe. An order that was never
    sent there, that stands there unharmed, or of which there is another invoice, stays as it is.

    A draft that somebody changed is deleted first. Problem 503, 422 when Stripe cannot be asked or refuses.
    """
    stripe_id = _stripe_id(held)
    if not held.lines.exists() or stripe_id is None:
        return False
    account = provider_account()
    with stripe_problems():
        found = _find(account, stripe_id)
        if found is not None and _is_spoilt(found, held):
            account.delete_draft(stripe_id, idempotency_key=f"pf/{held.order_key}/delete-draft/1")
            found = None
        gone = found is None or found.status == "void"
        if not gone or _has_another(account, held, stripe_id):
            return False
    return _give_up(held, stripe_id, actor)


def _stripe_id(held: UsageInvoice) -> str | None:
    begun = DatabaseJournal().load(held.order_key).get("invoice")
    return held.stripe_invoice_id or (begun.result_id if begun else None)


def _find(account: StripeAccount, stripe_id: str) -> StripeInvoice | None:
    try:
        return account.retrieve_invoice(stripe_id)
    except StripeFailed as failure:
        if failure.code == "resource_missing":
            return None
        raise


def _is_spoilt(found: StripeInvoice, held: UsageInvoice) -> bool:
    ours = found.metadata.get("pf_key") == held.order_key
    return ours and found.status == "draft" and held.hold_code == _CHANGED


def _has_another(account: StripeAccount, held: UsageInvoice, stripe_id: str) -> bool:
    """Whether Stripe holds a second invoice of this order: then its leads may be billed there."""
    mine = {"pf_key": held.order_key}
    for customer in stripe_customers(held.instance):
        found = account.list_invoices(customer_id=customer, metadata=mine)
        if any(one.status != "void" and one.id != stripe_id for one in found):
            return True
    return False


def _give_up(held: UsageInvoice, stripe_id: str, actor: str) -> bool:
    with transaction.atomic():
        still = UsageInvoice.objects.filter(pk=held.pk, status=UsageStatus.HELD)
        if not still.update(status=UsageStatus.VOID, updated_at=clock.now(), version=F("version") + 1):
            return False
        LeadCharge.objects.filter(line__invoice=held, released_at=None).update(released_at=clock.now())
        subject, facts = f"usage_invoice:{held.pk}", {"was": held.hold_code, "stripe_invoice": stripe_id}
        record(Event.USAGE_ABANDONED, actor, subject, period=held.period, **facts)
    return True
