"""`/api/provider/reports/…`: what the provider earns and is owed, by month, client or kind. Reads only."""

from __future__ import annotations

from typing import Annotated, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from provider_federation.kit.problem import not_found
from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.kit.web.downloads import csv_download
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.reports import queries
from provider_federation.portal.reports.export import NAMES, report_csv
from provider_federation.portal.reports.queries.ai_usage import totals as ai_totals
from provider_federation.portal.reports.queries.kinds import totals as kinds_totals
from provider_federation.portal.reports.queries.owed import totals as owed_totals
from provider_federation.portal.reports.schemas import (
    AiReportOut,
    KindsReportOut,
    MrrReportOut,
    OwedReportOut,
    ai_out,
    kinds_out,
    mrr_out,
    owed_out,
)
from provider_federation.portal.reports.window import window_asked

router = Router(tags=["reports"], by_alias=True)
_read = operator_or_token("billing.read")

First = Annotated[str | None, Query(alias="from", max_length=7)]
Last = Annotated[str | None, Query(alias="to", max_length=7)]
OrgId = Annotated[str | None, Query(max_length=128)]
_WINDOW = ("from", "to", "clientOrgId")


@router.get(
    "/owed",
    auth=_read,
    response=OwedReportOut,
    summary="Billed, paid, collected, outstanding",
)
def owed(
    request: HttpRequest,
    by: Literal["month", "client", "kind"] = "month",
    first: First = None,
    last: Last = None,
    clientOrgId: OrgId = None,
) -> OwedReportOut:
    refuse_unknown_query(request, ("by", *_WINDOW))
    window = window_asked(first, last)
    rows = queries.owed(window, by, client=_client(clientOrgId))
    return owed_out(by, window, rows, owed_totals(rows), queries.covered())


@router.get(
    "/revenue",
    auth=_read,
    response=KindsReportOut,
    summary="Subscriptions, leads, AI usage",
)
def revenue(
    request: HttpRequest,
    by: Literal["month", "client"] = "month",
    first: First = None,
    last: Last = None,
    clientOrgId: OrgId = None,
) -> KindsReportOut:
    refuse_unknown_query(request, ("by", *_WINDOW))
    window = window_asked(first, last)
    rows = queries.revenue_by_kind(window, by, client=_client(clientOrgId))
    return kinds_out(by, window, rows, kinds_totals(rows), queries.covered())


@router.get(
    "/mrr",
    auth=_read,
    response=MrrReportOut,
    summary="Monthly recurring revenue, and why it moved",
)
def mrr(
    request: HttpRequest, first: First = None, last: Last = None, clientOrgId: OrgId = None
) -> MrrReportOut:
    refuse_unknown_query(request, _WINDOW)
    window = window_asked(first, last)
    return mrr_out(window, queries.mrr(window, client=_client(clientOrgId)), queries.covered())


@router.get(
    "/ai",
    auth=_read,
    response=AiReportOut,
    summary="What AI usage cost, and what it was billed at",
)
def ai(
    request: HttpRequest,
    by: Literal["month", "client"] = "month",
    first: First = None,
    last: Last = None,
    clientOrgId: OrgId = None,
) -> AiReportOut:
    refuse_unknown_query(request, ("by", *_WINDOW))
    window = window_asked(first, last)
    rows = queries.ai_usage(window, by, client=_client(clientOrgId))
    return ai_out(by, window, rows, ai_totals(rows), queries.covered())


@router.get("/{name}.csv", auth=_read, summary="A report as CSV, its coverage below it")
def as_csv(
    request: HttpRequest,
    name: str,
    by: Literal["month", "client", "kind"] = "month",
    first: First = None,
    last: Last = None,
) -> HttpResponse:
    refuse_unknown_query(request, ("by", "from", "to"))
    if name not in NAMES:
        raise not_found("report")
    window = window_asked(first, last)
    text = report_csv(name, by, window)
    record(
        Kind.EXPORTED, str(getattr(request, "actor", "system")), f"report:{name}", by=by, months=window.label
    )
    return csv_download(text, f"{name}-{window.months[0].label}-{window.months[-1].label}.csv")


def _client(org_id: str | None) -> Instance | None:
    return get_by_org(org_id) if org_id is not None else None
