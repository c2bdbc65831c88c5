"""The reconciliation of the three books: start one, watch it, look at what differs, mend what is safe."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.money.period import month_name
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    address,
    chosen,
    page,
    requires,
    say,
    words,
)
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.reconciliation import queries, services
from provider_federation.portal.reconciliation.classes import CLASSES, REPAIRS, Class
from provider_federation.portal.reconciliation.export import rows_csv
from provider_federation.portal.reconciliation.models import UNFINISHED, ReconciliationReport
from provider_federation.portal.reconciliation.services.reporting import FIGURES
from provider_federation.portal.revenue.periods import latest_months, month

_MONTHS_OFFERED = 18
_REPORTS = (
    Column("started", "Started", "created_at"),
    Column("month", "Month", "period"),
    Column("", "Result"),
    Column("", "Answered", right=True),
    Column("by", "By", "requested_by"),
)
_ROWS = (
    Column("client", "Client", "instance__title"),
    Column("class", "Class", "kind"),
    Column("", "What differs"),
    Column("gap", "Gap", "gap_cents", right=True),
    Column("", "Repair"),
)


@dataclass(frozen=True)
class _Count:
    """A class with how many rows it has, for the page's filter."""

    kind: Class
    rows: int


@require_GET
@requires("billing.read")
def reconciliations(request: HttpRequest) -> HttpResponse:
    listing = Listing(request, ReconciliationReport.objects.all(), _REPORTS, default="-started")
    months = latest_months(_MONTHS_OFFERED)
    return page(
        request,
        "reconciliations",
        title="Reconciliation",
        subtitle="The portal's ledger, the clients' instances and Stripe, held against each other.",
        listing=listing,
        views=queries.views_of([one for one in listing.page if isinstance(one, ReconciliationReport)]),
        months=months,
        last_month=months[1],
        clients=Instance.objects.filter(enabled=True)[:1000],
    )


@require_POST
@requires("billing.manage")
def start_reconciliation(request: HttpRequest) -> HttpResponse:
    try:
        period = month(words(request.POST, "period", 7))
        org = words(request.POST, "client", 128)
        instance = get_object_or_404(Instance, org_id=org) if org else None
        report, new = services.start_report(period, instance, actor=actor(request))
    except Problem as problem:
        say(request, problem)
        return redirect("reconciliations")
    if not new:
        messages.info(request, "This one is under way already.")
    return redirect("reconciliation", report.pk)


@require_GET
@requires("billing.read")
def reconciliation(request: HttpRequest, report_id: uuid.UUID) -> HttpResponse:
    report = get_object_or_404(ReconciliationReport, pk=report_id)
    view = queries.view_of(report)
    kind = chosen(request.GET, "class", list(CLASSES))
    client = words(request.GET, "client", 128)
    rows = queries.filtered_rows(report, queries.RowFilter(kind=kind, client_org_id=client))
    return page(
        request,
        "reconciliation",
        title=f"Reconciliation of {month_name(report.period)}",
        crumbs=[("Reconciliation", reverse("reconciliations"))],
        report=report,
        listing=Listing(request, rows, _ROWS),
        counts=[_Count(CLASSES[one], count) for one, count in view.counts.items()],
        kind=CLASSES.get(kind),
        repairable=bool(kind and services.repairable(report, kinds=[kind])),
        client=client,
        export_query=address(request.GET),
        repairs=REPAIRS,
        **_standing(view),
    )


@require_GET
@requires("billing.read")
def reconciliation_progress(request: HttpRequest, report_id: uuid.UUID) -> HttpResponse:
    """The live part; once the report is over, the whole page is loaded again."""
    report = get_object_or_404(ReconciliationReport, pk=report_id)
    response = render(
        request,
        "portal/parts/reconciliation_state.html",
        {"report": report, **_standing(queries.view_of(report))},
    )
    if report.status not in UNFINISHED:
        response["HX-Refresh"] = "true"
    return response


@require_GET
@requires("billing.read")
def reconciliation_csv(request: HttpRequest, report_id: uuid.UUID) -> HttpResponse:
    """The rows as CSV with the page's filters."""
    report = get_object_or_404(ReconciliationReport, pk=report_id)
    kind = chosen(request.GET, "class", list(CLASSES))
    wanted = queries.RowFilter(kind=kind, client_org_id=words(request.GET, "client", 128))
    text = rows_csv(queries.all_rows(report, wanted))
    record(Kind.EXPORTED, actor(request), f"reconciliation:{report.pk}", rows=text.count("\r\n") - 1)
    return csv_download(text, f"reconciliation-{report.period}.csv")


@require_POST
@requires("billing.manage")
def repair_reconciliation(request: HttpRequest, report_id: uuid.UUID) -> HttpResponse:
    """Mend everything of one class, or one row."""
    report = get_object_or_404(ReconciliationReport, pk=report_id)
    row, kind = words(request.POST, "row", 18), chosen(request.POST, "class", list(CLASSES))
    if not row.isdigit() and not kind:
        messages.error(request, "Choose what to repair.")
        return redirect("reconciliation", report.pk)
    try:
        rows = services.repairable(
            report, kinds=[kind] if kind else (), row_ids=[int(row)] if row.isdigit() else ()
        )
        count = services.request_repair(report, rows, actor=actor(request))
    except Problem as problem:
        say(request, problem)
        return redirect("reconciliation", report.pk)
    if count:
        queued = f"{count} {'repair is' if count == 1 else 'repairs are'} queued"
        messages.success(request, f"{queued}; reconcile again to see what is left.")
    else:
        messages.info(request, "There is nothing left to repair here.")
    return redirect("reconciliation", report.pk)


def _standing(view: queries.ReportView) -> dict[str, object]:
    return {
        "view": view,
        "live": view.report.status in UNFINISHED,
        "changes": queries.changes_of(view.report),
        "unanswered": queries.unanswered(view.report)[:5],
        "figures": _figures(view.report),
        "share": 100 * view.progress.finished / view.progress.of if view.progress.of else 0,
    }


def _figures(report: ReconciliationReport) -> list[tuple[str, str, int, int]]:
    """Currency, name, the portal's sum and Stripe's, for the table of both books."""
    portal, stripe = report.figures.get("portal", {}), report.figures.get("stripe", {})
    return [
        (
            currency,
            name.replace("_", " "),
            portal.get(currency, {}).get(name, 0),
            stripe.get(currency, {}).get(name, 0),
        )
        for currency in sorted({*portal, *stripe})
        for name in FIGURES
    ]
