"""Invoices: the list, its export, one invoice, and sending or voiding it."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Invoice, InvoiceStatus
from provider_federation.instance.invoicing.queries import get_invoice
from provider_federation.instance.pages.access import page
from provider_federation.instance.pages.csv_export import invoices_csv
from provider_federation.instance.pages.forms import InvoiceFilter
from provider_federation.instance.pages.listing import make_listing
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.money import format_amount

_COLUMNS = {
    "created": "created_at", "number": "number", "customer": "customer__name", "total": "total_cents",
    "status": "status",
}  # fmt: skip
_ROWS_AT_ONCE = 500


@page("billing.read")
def invoices(request: HttpRequest) -> HttpResponse:
    form = InvoiceFilter(request.GET)
    listing = make_listing(_filtered(form), request.GET, _COLUMNS)
    context = {"form": form, "listing": listing, "export_query": listing.address(page=None, sort=None)}
    return render(request, "instance/invoices.html", context)


@page("billing.read")
def export(request: HttpRequest) -> HttpResponse:
    """Everything that the filter lets through, newest first."""
    form = InvoiceFilter(request.GET)
    if not form.is_valid():
        raise Problem(
            400, "invalid_field", "This filter cannot be read; choose it on the page of the invoices."
        )
    rows = _filtered(form).order_by("-created_at", "-pk").iterator(_ROWS_AT_ONCE)
    return csv_download(invoices_csv(rows), "invoices.csv")


@page("billing.read")
def invoice(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_invoice(pk)
    context = {
        "invoice": found,
        "lines": sorted(found.lines.all(), key=lambda line: line.position),
        "hosted": web_address(found.hosted_invoice_url),
        "pdf": web_address(found.invoice_pdf),
        "outstanding": _outstanding(found),
        "can_send": found.sent_at is None and found.status != InvoiceStatus.VOID,
        "can_void": found.status == InvoiceStatus.DRAFT and found.sent_at is None,
    }
    return render(request, "instance/invoice.html", context)


@page("billing.manage", writes=True)
def send(request: HttpRequest, pk: int) -> HttpResponse:
    """Through the API's own service: a second press finds what the first one did."""
    found = get_invoice(pk)
    if request.method == "POST":
        sent = services.send_hosted_invoice(pk)
        messages.success(request, f"{sent.number} was sent to {sent.customer.email}.")
        return redirect("invoice", pk=pk)
    if found.sent_at is not None:
        return redirect("invoice", pk=pk)
    if found.status == InvoiceStatus.VOID:
        raise Problem(409, "invoice_void", f"{found.number} is void; draft its leads again.")
    total = format_amount(found.total_cents, found.currency)
    context = {
        "title": f"Send {found.number}?",
        "sentences": [
            f"Stripe will finalise this invoice over {total} and email it to {found.customer.name} ({found.customer.email}), with a page to pay on.",
            "From then on it is final: it can be paid or voided in Stripe, but not changed.",
        ],
        "button": f"Send {total} to {found.customer.name}",
        "back_url": reverse("invoice", args=[pk]),
    }
    return render(request, "instance/confirm.html", context)


@page("billing.manage", writes=True)
def void(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_invoice(pk)
    if request.method == "POST":
        services.void_draft(pk)
        messages.success(request, f"{found.number} is void; its leads can be billed again.")
        return redirect("invoice", pk=pk)
    if found.status != InvoiceStatus.DRAFT or found.sent_at is not None:
        raise Problem(
            409, "not_a_draft", "Only a draft can be voided here; a sent invoice is voided in Stripe."
        )
    context = {
        "title": f"Void {found.number}?",
        "sentences": [
            f"The draft over {format_amount(found.total_cents, found.currency)} for {found.customer.name} becomes void for good. Nobody is told.",
            "Its leads become billable again; the number is not used a second time.",
        ],
        "button": f"Void {found.number}",
        "danger": True,
        "back_url": reverse("invoice", args=[pk]),
    }
    return render(request, "instance/confirm.html", context)


def web_address(url: str) -> str:
    """`url` when a browser may be sent there; empty for anything but http and https."""
    return url if urlsplit(url).scheme in {"https", "http"} else ""


def _outstanding(found: Invoice) -> int:
    return max(0, found.total_cents - found.amount_paid_cents) if found.status == InvoiceStatus.OPEN else 0


def _filtered(form: InvoiceFilter) -> QuerySet[Invoice]:
    rows = Invoice.objects.select_related("customer")
    if not form.is_valid():
        return rows.none()
    asked = form.cleaned_data
    if asked["status"]:
        rows = rows.filter(status=asked["status"])
    if asked["q"]:
        words = asked["q"]
        rows = rows.filter(
            Q(number__icontains=words)
            | Q(customer__name__icontains=words)
            | Q(customer__email__icontains=words)
            | Q(stripe_number__icontains=words)
        )
    return rows
