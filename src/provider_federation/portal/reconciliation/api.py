"""`/api/provider/billing/reconcile` (live: the ledger against Stripe) and `/reconciliations` (stored reports over
all three books).
"""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.kit.web.downloads import csv_download
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.reconciliation import queries, services
from provider_federation.portal.reconciliation.export import rows_csv
from provider_federation.portal.reconciliation.schemas import (
    OneReportOut,
    RepairIn,
    RepairOut,
    ReportsOut,
    RowsOut,
    StartIn,
    WholeReportOut,
    comparison_out,
    planned_repair_out,
    report_out,
    row_out,
    whole_report_out,
)
from provider_federation.portal.revenue.periods import month

router = Router(tags=["reconciliation"], by_alias=True)
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")

Text = Annotated[str | None, Query(max_length=128)]
Cursor = Annotated[str, Query(max_length=512)]


@router.get("/reconcile", auth=_read, summary="The ledger against Stripe, line by line, now")
def reconcile(request: HttpRequest, clientOrgId: Text = None, period: Text = None) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "period"))
    instance = get_by_org(clientOrgId) if clientOrgId is not None else None
    scope = services.Scope(month(period) if period is not None else None, instance)
    return comparison_out(services.compare_provider_account(scope), clientOrgId)


@router.post(
    "/reconciliations",
    auth=_manage,
    response={200: OneReportOut, 202: OneReportOut},
    summary="Compare the three books of a month",
)
def start(request: HttpRequest, payload: StartIn) -> Status[OneReportOut]:
    refuse_unknown_query(request, ())
    instance = get_by_org(payload.client_org_id) if payload.client_org_id is not None else None
    report, new = services.start_report(month(payload.period), instance, actor=_actor(request))
    out = OneReportOut(report=report_out(queries.view_of(report)), reused=not new)
    return Status(202 if new else 200, out)


@router.get("/reconciliations", auth=_read, response=ReportsOut, summary="Reports, newest first")
def list_reports(
    request: HttpRequest,
    period: Text = None,
    cursor: Cursor = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 25,
) -> ReportsOut:
    refuse_unknown_query(request, ("period", "cursor", "limit"))
    label = month(period).label if period else ""
    views, following = queries.list_reports(period=label, cursor=cursor, limit=limit)
    return ReportsOut(items=[report_out(view) for view in views], next_cursor=following)


@router.get(
    "/reconciliations/{report_id}",
    auth=_read,
    response=WholeReportOut,
    summary="One report: progress, coverage, what differs by class, and what changed since the last",
)
def get_report(request: HttpRequest, report_id: str) -> WholeReportOut:
    refuse_unknown_query(request, ())
    return whole_report_out(queries.view_of(queries.get_report(report_id)))


@router.get(
    "/reconciliations/{report_id}/rows",
    auth=_read,
    response=RowsOut,
    summary="The differences of a report, in pages",
)
def rows(
    request: HttpRequest,
    report_id: str,
    class_: Annotated[str, Query(alias="class", max_length=24)] = "",
    clientOrgId: Annotated[str, Query(max_length=128)] = "",
    cursor: Cursor = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RowsOut:
    refuse_unknown_query(request, ("class", "clientOrgId", "cursor", "limit"))
    chosen = queries.RowFilter(kind=class_, client_org_id=clientOrgId)
    page = queries.page_of_rows(queries.get_report(report_id), chosen, cursor=cursor, limit=limit)
    return RowsOut(items=[row_out(row) for row in page.items], next_cursor=page.next_cursor)


@router.get("/reconciliations/{report_id}/rows.csv", auth=_read, summary="The differences of a report as CSV")
def rows_as_csv(
    request: HttpRequest,
    report_id: str,
    class_: Annotated[str, Query(alias="class", max_length=24)] = "",
    clientOrgId: Annotated[str, Query(max_length=128)] = "",
) -> HttpResponse:
    refuse_unknown_query(request, ("class", "clientOrgId"))
    report = queries.get_report(report_id)
    text = rows_csv(queries.all_rows(report, queries.RowFilter(kind=class_, client_org_id=clientOrgId)))
    record(Kind.EXPORTED, _actor(request), f"reconciliation:{report.pk}", rows=text.count("\r\n") - 1)
    return csv_download(text, f"reconciliation-{report.period}.csv")


@router.post(
    "/reconciliations/{report_id}/repair",
    auth=_manage,
    response={200: RepairOut, 202: RepairOut},
    summary="Mend what is safe to mend; a dry run unless told otherwise",
)
def repair(request: HttpRequest, report_id: str, payload: RepairIn) -> Status[RepairOut]:
    refuse_unknown_query(request, ())
    report = queries.get_report(report_id)
    for kind in payload.classes:
        queries.filtered_rows(
            report, queries.RowFilter(kind=kind)
        )  # an unknown class is refused, not ignored
    found = services.repairable(report, kinds=payload.classes, row_ids=[int(one) for one in payload.row_ids])
    queued = 0 if payload.dry_run else services.request_repair(report, found, actor=_actor(request))
    planned = [planned_repair_out(row) for row in found]
    out = RepairOut(dry_run=payload.dry_run, queued=queued, planned=planned)
    return Status(200 if payload.dry_run else 202, out)


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
