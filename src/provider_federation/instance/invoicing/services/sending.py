"""A draft becomes a finalised and sent invoice in the client's own Stripe account: once, whatever crashes."""

from __future__ import annotations

from provider_federation.instance.invoicing.locks import exclusive
from provider_federation.instance.invoicing.models import Invoice, InvoiceLine, InvoiceStatus
from provider_federation.instance.invoicing.queries import get_invoice
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.alerts import raise_alert
from provider_federation.instance.invoicing.services.journal import TableJournal
from provider_federation.instance.invoicing.services.looking import refuse_billed_before
from provider_federation.instance.invoicing.services.merging import merge
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import (
    InvoiceOrder,
    OrderCustomer,
    OrderLine,
    Patience,
    StripeFailed,
    place_invoice,
)

_WAIT_SECONDS = 25.0
_STRIPE_SECONDS = 20.0


def send_hosted_invoice(invoice_id: int) -> Invoice:
    """The invoice as it stands after it was sent; a second call answers the same one and asks Stripe nothing.

    Call outside of any transaction. Problems: 404 `not_found`; 409 `invoice_void`, `sending_in_progress`,
    `lead_already_billed` (in Stripe, by an invoice that this database has forgotten); 503
    `stripe_not_configured`; 502 or 503 `stripe_…`. After any of them, or a crash, call again: what was done
    is found.
    """
    invoice = get_invoice(invoice_id)
    if invoice.sent_at is not None:
        return invoice
    stripe_account = account.open_account()
    with sending_lock(invoice):
        invoice = get_invoice(invoice_id)
        if invoice.sent_at is not None:
            return invoice
        if invoice.status == InvoiceStatus.VOID:
            raise Problem(409, "invoice_void", f"Invoice {invoice.number} is void; draft its leads again.")
        patience = Patience(tries=3, seconds=_STRIPE_SECONDS)
        try:
            if "invoice" not in TableJournal().load(invoice.reference):
                refuse_billed_before(stripe_account, invoice)
            placed = place_invoice(
                stripe_account, _order(invoice), TableJournal(), now=clock.now, patience=patience
            )
        except StripeFailed as failed:
            _alert(invoice, failed)
            raise account.problem_of(failed) from failed
        return merge(invoice.pk, placed, sent=True)


def sending_lock(invoice: Invoice):  # type: ignore[no-untyped-def]  # noqa: ANN201  contextmanager's own type says less than its name
    """Whoever sends or voids an invoice holds this. By customer: two first invoices must not create them
    twice in Stripe.
    """
    busy = Problem(
        409, "sending_in_progress", "Another request is sending an invoice to this customer; ask again."
    )
    return exclusive("invoice", f"customer-{invoice.customer_id}", wait=_WAIT_SECONDS, busy=busy)


def _order(invoice: Invoice) -> InvoiceOrder:
    customer = invoice.customer
    return InvoiceOrder(
        key=invoice.reference,
        customer=OrderCustomer(key=customer.reference, name=customer.name, email=customer.email or None),
        currency=invoice.currency,
        lines=tuple(_line(line) for line in sorted(invoice.lines.all(), key=lambda line: line.position)),
        description=f"Invoice {invoice.number}",
        metadata={"pf_number": invoice.number},
    )


def _line(line: InvoiceLine) -> OrderLine:
    return OrderLine(
        f"lead-{line.lead_id}", line.description, line.amount_cents, metadata={"pf_lead": line.lead.public_id}
    )


def _alert(invoice: Invoice, failed: StripeFailed) -> None:
    if not failed.retryable:
        raise_alert("sending_failed", invoice.number, f"Stripe refused this invoice: {failed.message}"[:500])
