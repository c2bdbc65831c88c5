"""What the provider bills its clients: by month, by client, the usage invoices, and Stripe's events."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period
from provider_federation.money.period import month_name
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    address,
    chosen,
    page,
    problems_said,
    requires,
    say,
    words,
)
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue import services
from provider_federation.portal.revenue.models import (
    Alert,
    EventState,
    StripeEvent,
    UsageInvoice,
    UsageStatus,
)
from provider_federation.portal.revenue.periods import latest_months, month_now
from provider_federation.portal.revenue.periods import month as read_month
from provider_federation.portal.revenue.queries import live_usage_invoice, open_alerts
from provider_federation.portal.revenue.services.events import retry_event
from provider_federation.portal.revenue.services.report import Part, subscription_part
from provider_federation.portal.subscriptions.queries import billed_invoices, plan_in_force

_CLIENTS_A_PAGE = 50
_MONTHS_OFFERED = 18
_USAGE_COLUMNS = (
    Column("client", "Client", "instance__title"),
    Column("period", "Month", "period"),
    Column("number", "Invoice", "number"),
    Column("status", "Status", "status"),
    Column("total", "Total", "total_cents", right=True),
    Column("open", "Outstanding", "remaining_cents", right=True),
    Column("created", "Made", "created_at"),
)
_EVENT_COLUMNS = (
    Column("received", "Received", "received_at"),
    Column("type", "Type", "type"),
    Column("state", "State", "state"),
    Column("", "About"),
    Column("attempts", "Tries", "attempts", right=True),
    Column("", ""),
)


@dataclass(frozen=True)
class ClientMonth:
    """One client in one month, from the portal's own tables: nothing here asks the instance."""

    instance: Instance
    plan: str
    subscription: Part
    invoice: UsageInvoice | None

    @property
    def usage_cents(self) -> int:
        return self.invoice.total_cents if self.invoice and self.invoice.status != UsageStatus.HELD else 0

    @property
    def total_cents(self) -> int:
        return self.subscription.amount + self.usage_cents


def _client_month(instance: Instance, month: Period) -> ClientMonth:
    return ClientMonth(
        instance,
        plan_in_force(instance, month.start),
        subscription_part(instance, month),
        live_usage_invoice(instance, month.label),
    )


def _asked_month(request: HttpRequest, text: str) -> Period:
    """The month of the address; the last complete one, with a word, when it cannot be read."""
    if not text:
        return month_now().previous()
    try:
        return read_month(text)
    except Problem as problem:
        say(request, problem)
        return month_now().previous()


@require_GET
@requires("billing.read")
def revenue(request: HttpRequest) -> HttpResponse:
    """One month over all clients; the last complete month unless another is asked for."""
    month = _asked_month(request, words(request.GET, "period", 7))
    found: Page[Instance] = Paginator(Instance.objects.filter(enabled=True), _CLIENTS_A_PAGE).get_page(
        request.GET.get("page")
    )
    rows = [_client_month(instance, month) for instance in found]
    return page(
        request,
        "revenue",
        title="Revenue",
        subtitle="What each client brings the provider in a month.",
        month=month,
        months=latest_months(_MONTHS_OFFERED),
        rows=rows,
        clients=found,
        closed=month.closed(clock.now()),
        invoiced=sum(1 for row in rows if row.invoice and row.invoice.status != UsageStatus.HELD),
        previous=address(request.GET, page=found.previous_page_number()) if found.has_previous() else "",
        following=address(request.GET, page=found.next_page_number()) if found.has_next() else "",
    )


@require_GET
@requires("billing.read")
def revenue_now(request: HttpRequest) -> HttpResponse:
    """The same month calculated afresh from every instance; only when a person asks for it."""
    try:
        found = services.calculate_all_revenue([read_month(words(request.GET, "period", 7))])
    except Problem as problem:
        return render(request, "portal/parts/revenue_now.html", {"problem": problem})
    return render(
        request,
        "portal/parts/revenue_now.html",
        {"clients": found.clients, "coverage": found.coverage, "sums": sorted(found.totals().items())},
    )


@require_GET
@requires("billing.read")
def client_revenue(request: HttpRequest, instance_id: uuid.UUID, period: str) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    month = _asked_month(request, period)
    row = _client_month(instance, month)
    return page(
        request,
        "client_revenue",
        title=f"{instance}, {month_name(month.label)}",
        crumbs=[("Revenue", reverse("revenue"))],
        instance=instance,
        month=month,
        row=row,
        closed=month.closed(clock.now()),
        months=latest_months(_MONTHS_OFFERED),
        fees=billed_invoices(instance, month.start, month.end),
        lines=_lines(row.invoice),
        needs_reading=row.invoice is None or not row.invoice.lines.exists(),
    )


@require_GET
@requires("billing.read")
def client_revenue_now(request: HttpRequest, instance_id: uuid.UUID, period: str) -> HttpResponse:
    """What the usage comes to right now, asked from the instance after the page is there."""
    instance = get_object_or_404(Instance, pk=instance_id)
    try:
        found = services.calculate_revenue(instance, [read_month(period)])
    except Problem as problem:
        return render(request, "portal/parts/client_revenue_now.html", {"problem": problem})
    return render(request, "portal/parts/client_revenue_now.html", {"revenue": found})


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def make_usage_invoice(request: HttpRequest, instance_id: uuid.UUID, period: str) -> HttpResponse:
    """GET says what will happen; POST does it, once."""
    instance = get_object_or_404(Instance, pk=instance_id)
    month = _asked_month(request, period)
    back = reverse("client-revenue", args=[instance.pk, month.label])
    if request.method == "GET":
        return page(
            request,
            "confirm_usage",
            title="Make the usage invoice?",
            instance=instance,
            month=month,
            back=back,
            crumbs=[("Revenue", reverse("revenue")), (f"{instance}, {month_name(month.label)}", back)],
            closed=month.closed(clock.now()),
        )
    try:
        made = services.invoice_usage(instance, month, actor=actor(request))
    except Problem as problem:
        say(request, problem)
        return redirect(back)
    held = made.invoice is not None and made.invoice.status == UsageStatus.HELD
    (messages.warning if held else messages.success)(request, made.message)
    return redirect("usage-invoice", made.invoice.pk) if made.invoice else redirect(back)


@require_GET
@requires("billing.read")
def usage_invoices(request: HttpRequest) -> HttpResponse:
    status = chosen(request.GET, "status", UsageStatus.values)
    rows = UsageInvoice.objects.select_related("instance")
    rows = rows.filter(status=status) if status else rows
    return page(
        request,
        "usage_invoices",
        title="Usage invoices",
        subtitle="Leads and AI usage, billed by month.",
        listing=Listing(request, rows, _USAGE_COLUMNS, default="-created"),
        chosen_status=status,
        statuses=UsageStatus.choices,
    )


@require_GET
@requires("billing.read")
def usage_invoice(request: HttpRequest, invoice_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(UsageInvoice.objects.select_related("instance"), pk=invoice_id)
    return page(
        request,
        "usage_invoice",
        title=f"{found.instance}, {month_name(found.period)}",
        crumbs=[("Usage invoices", reverse("usage-invoices"))],
        invoice=found,
        lines=_lines(found),
        held=found.status == UsageStatus.HELD,
        moving=found.status in {UsageStatus.PLANNED, UsageStatus.PLACING},
    )


@require_POST
@requires("billing.manage")
def release_usage_invoice(request: HttpRequest, invoice_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(UsageInvoice.objects.select_related("instance"), pk=invoice_id)
    with problems_said(request):
        released = services.release_usage_invoice(found, actor=actor(request))
        messages.success(request, released.message)
    return redirect("usage-invoice", found.pk)


@require_GET
@requires("billing.read")
def webhooks(request: HttpRequest) -> HttpResponse:
    state = chosen(request.GET, "state", EventState.values)
    rows = StripeEvent.objects.defer("payload")
    rows = rows.filter(state=state) if state else rows
    return page(
        request,
        "webhooks",
        title="Webhook events",
        subtitle="What the provider's Stripe account told the portal.",
        listing=Listing(request, rows, _EVENT_COLUMNS, default="-received"),
        state=state,
        states=EventState.choices,
        alerts=open_alerts().order_by("-raised_at")[:50],
    )


@require_POST
@requires("billing.manage")
def retry_webhook(request: HttpRequest, event_id: int) -> HttpResponse:
    retry_event(get_object_or_404(StripeEvent, pk=event_id), actor=actor(request))
    messages.success(request, "It is applied again in a moment.")
    return redirect("webhooks")


@require_POST
@requires("billing.manage")
def resolve_alert(request: HttpRequest, alert_id: int) -> HttpResponse:
    services.resolve_alert(get_object_or_404(Alert, pk=alert_id), actor=actor(request))
    messages.success(request, "Noted as seen to. If it happens again, it comes back.")
    return redirect("webhooks")


def _lines(invoice: UsageInvoice | None) -> Sequence[Any]:
    return list(invoice.lines.all()) if invoice is not None else []
