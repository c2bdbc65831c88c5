"""The billing routes of the contract, section 3."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Router

from provider_federation.instance.invoicing import queries, services
from provider_federation.instance.invoicing.idempotency import run_once
from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus, ProviderAction
from provider_federation.instance.invoicing.schemas import (
    CreateIn,
    CreateOut,
    GetOut,
    GetQuery,
    InvoiceOut,
    InvoiceWithLines,
    ListOut,
    ListQuery,
    PreviewOut,
    SendIn,
    SendOut,
    StripeInvoiceOut,
    WebhookOut,
    WindowQuery,
)
from provider_federation.instance.people.access import Access, principal_of
from provider_federation.instance.wire import read_id, read_instant
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.money import Period, parse_window

router = Router(tags=["billing"], by_alias=True)
_WINDOW = ("range", "start", "end")
_NO_BODY = CreateIn()


@router.get("/billing/preview", response=PreviewOut, auth=Access("billing.manage", "read"))
def preview(request: HttpRequest, query: Query[WindowQuery]) -> PreviewOut:
    """Converted leads that can be billed in a window (default: the last 30 days), newest first."""
    refuse_unknown_query(request, _WINDOW)
    window = _window(query)
    return PreviewOut.of(services.preview_billable(window), window)


@router.post("/billing/invoices.create", response=CreateOut, auth=Access("billing.manage"))
def create_invoices(
    request: HttpRequest, query: Query[WindowQuery], body: Body[CreateIn] = _NO_BODY
) -> HttpResponse:
    """Draft invoices, one per customer and currency, for a window or for the lines given. Repeating it reuses
    what exists.
    """
    refuse_unknown_query(request, _WINDOW)
    return run_once(request, caller(request), lambda: _create(request, query, body), transactional=True)


@router.get("/billing/list", response=ListOut, auth=Access("billing.read", "read"))
def list_invoices(request: HttpRequest, query: Query[ListQuery]) -> ListOut:
    """Invoices, newest first, a page at a time."""
    refuse_unknown_query(request, ("status", "cursor", "limit", "updatedSince"))
    since = None if query.updated_since is None else read_instant(query.updated_since, "updatedSince")
    page, following = queries.list_invoices(
        status=query.status, updated_since=since, cursor=query.cursor, limit=query.limit
    )
    return ListOut(items=[InvoiceOut.of(invoice) for invoice in page], next_cursor=following)


@router.get("/billing/get", response=GetOut, auth=Access("billing.read", "read"))
def get_invoice(request: HttpRequest, query: Query[GetQuery]) -> GetOut:
    """One invoice with its lines."""
    refuse_unknown_query(request, ("id",))
    return GetOut(invoice=InvoiceWithLines.of(queries.get_invoice(read_id(query.id, "invoice"))))


@router.post(
    "/integrations/stripe/create-hosted-invoice",
    response=SendOut,
    auth=Access("billing.manage"),
)
def create_hosted_invoice(request: HttpRequest, body: Body[SendIn]) -> HttpResponse:
    """Finalise and send the invoice in the client's own Stripe account. A second call answers the same Stripe
    invoice.
    """
    refuse_unknown_query(request, ())
    invoice_id = read_id(body.id, "invoice")
    return run_once(request, caller(request), lambda: _send(request, invoice_id), transactional=False)


@router.post("/webhooks/stripe", response=WebhookOut, auth=None)
def stripe_webhook(request: HttpRequest) -> WebhookOut:
    """Stripe's events. Authenticated by Stripe's signature over the raw body, which is stored before this
    answers.
    """
    refuse_unknown_query(request, ())
    state = services.receive_event(
        request.body, request.headers.get("Stripe-Signature", ""), clock.timestamp()
    )
    return WebhookOut(state=state)


def caller(request: HttpRequest) -> str:
    """The name that `Access` gave this request's caller."""
    return str(request.auth)  # type: ignore[attr-defined]  # ninja sets it


def _window(asked: WindowQuery | CreateIn) -> Period:
    return parse_window(clock.now(), range_name=asked.range, start=asked.start, end=asked.end)


def _create(request: HttpRequest, query: WindowQuery, body: CreateIn) -> CreateOut:
    in_query, in_body = (any(_given(part).values()) for part in (query, body))
    if ((in_query or in_body) and body.lines is not None) or (in_query and in_body):
        raise Problem(
            400,
            "invalid_field",
            "Give one window, in the query or in the body, or lines; not several.",
            field="lines",
        )
    if body.lines is not None:
        drafted = services.draft_lines([line.wanted() for line in body.lines])
    else:
        drafted = services.draft_invoices(_window(query if in_query else body))
    if principal_of(request) is not None:
        services.allow_provider(ProviderAction.DRAFT, drafted.made)
    return CreateOut.of(drafted, queries.count_lines(drafted.invoices))


def _given(part: WindowQuery | CreateIn) -> dict[str, Any]:
    return {name: getattr(part, name) for name in _WINDOW}


def _still_to_send(invoice: Invoice) -> list[Invoice]:
    """What counts against the provider's day: nothing leaves for an invoice that was sent, or is void."""
    return [invoice] if invoice.sent_at is None and invoice.status != InvoiceStatus.VOID else []


def _send(request: HttpRequest, invoice_id: int) -> SendOut:
    if principal_of(request) is not None:
        services.allow_provider(ProviderAction.SEND, _still_to_send(queries.get_invoice(invoice_id)))
    invoice = services.send_hosted_invoice(invoice_id)
    assert invoice.stripe_invoice_id is not None
    return SendOut(
        stripe_invoice=StripeInvoiceOut(
            id=invoice.stripe_invoice_id,
            number=invoice.stripe_number or None,
            status=invoice.status,  # type: ignore[arg-type]  # the column's check constraint
            amount_due=invoice.total_cents,
            hosted_invoice_url=invoice.hosted_invoice_url or None,
            invoice_pdf=invoice.invoice_pdf or None,
        )
    )
