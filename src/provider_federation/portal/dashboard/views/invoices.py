"""The clients' invoices to their customers, as the mirror has them; of all clients, or of one; and as CSV."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from provider_federation.kit.web.downloads import csv_download
from provider_federation.money import MoneyError, Period
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    a_uuid,
    actor,
    address,
    chosen,
    page,
    requires,
    words,
)
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.export import invoices_csv
from provider_federation.portal.fleet.models import ClientInvoice, InvoiceStatus
from provider_federation.portal.fleet.queries import coverage, totals

_CLIENT = Column("client", "Client", "instance__title")
_COLUMNS = (
    Column("number", "Invoice", "number"),
    Column("customer", "Customer", "customer_name"),
    Column("created", "Created", "created_at"),
    Column("status", "Status", "status"),
    Column("total", "Total", "total_cents", right=True),
    Column("paid", "Paid", "amount_paid_cents", right=True),
    Column("", ""),
)


@require_GET
@requires("billing.read")
def invoices(request: HttpRequest) -> HttpResponse:
    by_status = totals("status")
    return page(
        request,
        "invoices",
        title="Invoices",
        subtitle="What the clients bill their customers, over all instances.",
        clients=Instance.objects.all()[:1000],
        sums=by_status.sums,
        coverage=by_status.coverage,
        **invoice_list(request, None),
    )


@require_GET
@requires("billing.read")
def export(request: HttpRequest) -> HttpResponse:
    """The list as CSV with the same filters; text that a spreadsheet would run is defused."""
    rows = _filtered(request).select_related("instance").order_by("-created_at", "-id")
    text = invoices_csv(rows.iterator(chunk_size=1000))
    record(Kind.EXPORTED, actor(request), "invoices:csv", rows=text.count("\r\n") - 1)
    response = csv_download(text, "invoices.csv")
    response["X-Coverage"] = str(coverage())
    return response


def invoice_list(request: HttpRequest, instance: Instance | None) -> dict[str, Any]:
    """Filters, sorting and paging over the mirror; of one client, or of all."""
    rows = _filtered(request).select_related("instance")
    columns: tuple[Column, ...] = (_CLIENT, *_COLUMNS)
    query = request.GET.copy()
    if instance is not None:
        rows, columns = rows.filter(instance=instance), _COLUMNS
        query["instance"] = str(instance.pk)
    listing = Listing(request, rows, columns, size=25 if instance is None else 10, default="-created")
    filters = {name: words(request.GET, name, 100) for name in ("q", "status", "instance", "month")}
    return {
        "listing": listing,
        "filters": filters,
        "filtered": any(filters.values()),
        "statuses": InvoiceStatus.choices,
        "export_query": address(query),
    }


def _filtered(request: HttpRequest) -> QuerySet[ClientInvoice]:
    rows = ClientInvoice.objects.all()
    if status := chosen(request.GET, "status", InvoiceStatus.values):
        rows = rows.filter(status=status)
    if text := words(request.GET, "instance"):
        found = a_uuid(text)
        rows = rows.filter(instance=found) if found else rows.none()
    if search := words(request.GET, "q", 100):
        rows = rows.filter(
            Q(number__icontains=search)
            | Q(customer_name__icontains=search)
            | Q(customer_email__icontains=search)
            | Q(stripe_invoice_id=search)
        )
    return _of_month(rows, words(request.GET, "month", 7))


def _of_month(rows: QuerySet[ClientInvoice], label: str) -> QuerySet[ClientInvoice]:
    """Created in the billing month `YYYY-MM`; anything else filters nothing."""
    try:
        month = Period.month(label, settings.PROVIDER_TIME_ZONE)
    except MoneyError:
        return rows
    return rows.filter(created_at__gte=month.start, created_at__lt=month.end)
