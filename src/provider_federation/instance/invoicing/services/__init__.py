"""What the instance does with invoices: preview, draft, void, send, and listen to Stripe."""

from __future__ import annotations

from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.invoicing.queries import get_invoice
from provider_federation.instance.invoicing.services.alerts import raise_alert
from provider_federation.instance.invoicing.services.allowance import (
    UsedToday,
    allow_provider,
    lock_provider_policy,
    provider_policy,
    set_provider_policy,
    used_today,
)
from provider_federation.instance.invoicing.services.drafting import (
    Drafted,
    WantedLine,
    draft_invoices,
    draft_lines,
    preview_billable,
)
from provider_federation.instance.invoicing.services.events import (
    apply_event,
    apply_pending,
    receive_event,
    retry_parked,
)
from provider_federation.instance.invoicing.services.sending import send_hosted_invoice, sending_lock
from provider_federation.instance.invoicing.services.sweep import sweep_invoices
from provider_federation.instance.invoicing.services.voiding import void_unsent

__all__ = [
    "Drafted",
    "UsedToday",
    "WantedLine",
    "allow_provider",
    "apply_event",
    "apply_pending",
    "draft_invoices",
    "draft_lines",
    "lock_provider_policy",
    "preview_billable",
    "provider_policy",
    "raise_alert",
    "receive_event",
    "retry_parked",
    "send_hosted_invoice",
    "set_provider_policy",
    "sweep_invoices",
    "used_today",
    "void_draft",
]


def void_draft(invoice_id: int) -> Invoice:
    """Void a draft and free its leads; see `void_unsent`. Waits for a sending that is under way. Call outside
    of a transaction.
    """
    with sending_lock(get_invoice(invoice_id)):
        return void_unsent(invoice_id)
