"""`/api/provider/billing/runs`: plan, review, approve, execute, report, cancel, retry."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.kit.web.downloads import csv_download
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.billing_runs import queries, services
from provider_federation.portal.billing_runs.models import BillingRun
from provider_federation.portal.billing_runs.schemas import (
    ApproveIn,
    BillingRunsOut,
    ItemsOut,
    OneBillingRunOut,
    PlanIn,
    RetryIn,
    items_out,
    one_run_out,
    runs_out,
)
from provider_federation.portal.operators.auth import operator_or_token

router = Router(tags=["billing runs"], by_alias=True)
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")

Cursor = Annotated[str, Query(max_length=512)]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.post("", auth=_manage, response={202: OneBillingRunOut}, summary="Plan a month over all clients")
def plan(request: HttpRequest, payload: PlanIn) -> Status[OneBillingRunOut]:
    refuse_unknown_query(request, ())
    return Status(202, _one(services.start_plan(payload.period, actor=_actor(request))))


@router.get("", auth=_read, response=BillingRunsOut, summary="Billing runs, newest first")
def list_runs(request: HttpRequest, cursor: Cursor = "", limit: Limit = 25) -> BillingRunsOut:
    refuse_unknown_query(request, ("cursor", "limit"))
    return runs_out(queries.list_runs(cursor=cursor, limit=limit))


@router.get(
    "/{run_id}",
    auth=_read,
    response=OneBillingRunOut,
    summary="One run with its counts, totals and coverage",
)
def one_run(request: HttpRequest, run_id: str) -> OneBillingRunOut:
    refuse_unknown_query(request, ())
    return _one(queries.get_run(run_id))


@router.get(
    "/{run_id}/items",
    auth=_read,
    response=ItemsOut,
    summary="The review, client by client",
)
def items(
    request: HttpRequest,
    run_id: str,
    state: Annotated[str, Query(max_length=16)] = "",
    sort: Annotated[str, Query(max_length=16)] = "client",
    cursor: Cursor = "",
    limit: Limit = 50,
) -> ItemsOut:
    refuse_unknown_query(request, ("state", "sort", "cursor", "limit"))
    run = queries.get_run(run_id)
    return items_out(queries.list_items(run, state=state, sort=sort, cursor=cursor, limit=limit))


@router.get("/{run_id}/report.csv", auth=_read, summary="The report as CSV, a row a client")
def report_csv(request: HttpRequest, run_id: str) -> HttpResponse:
    refuse_unknown_query(request, ())
    run = queries.get_run(run_id)
    record(Kind.EXPORTED, _actor(request), f"billing_run:{run.pk}", period=run.period)
    return csv_download("".join(queries.report_csv(run)), f"billing-run-{run.period}.csv")


@router.post(
    "/{run_id}/approve",
    auth=_manage,
    response=OneBillingRunOut,
    summary="Approve it by its hash",
)
def approve(request: HttpRequest, run_id: str, payload: ApproveIn) -> OneBillingRunOut:
    refuse_unknown_query(request, ())
    run = queries.get_run(run_id)
    return _one(services.approve_plan(run.pk, payload.plan_hash, actor=_actor(request)))


@router.post(
    "/{run_id}/execute",
    auth=_manage,
    response={202: OneBillingRunOut},
    summary="Bill exactly what was approved; also goes on with a run that was cancelled half-way",
)
def execute(request: HttpRequest, run_id: str) -> Status[OneBillingRunOut]:
    run = _named(request, run_id)
    return Status(202, _one(services.execute_plan(run.pk, actor=_actor(request))))


@router.post(
    "/{run_id}/cancel",
    auth=_manage,
    response=OneBillingRunOut,
    summary="Stop what has not begun",
)
def cancel(request: HttpRequest, run_id: str) -> OneBillingRunOut:
    run = _named(request, run_id)
    return _one(services.cancel_run(run.pk, actor=_actor(request)))


@router.post(
    "/{run_id}/retry",
    auth=_manage,
    response={202: OneBillingRunOut},
    summary="Plan the held clients again",
)
def retry(request: HttpRequest, run_id: str, payload: RetryIn) -> Status[OneBillingRunOut]:
    refuse_unknown_query(request, ())
    run = queries.get_run(run_id)
    again = services.retry_held(
        run.pk, actor=_actor(request), only=payload.client_org_ids, reviewed=payload.reviewed
    )
    return Status(202, _one(again))


def _named(request: HttpRequest, run_id: str) -> BillingRun:
    refuse_unknown_query(request, ())
    refuse_body(request)
    return queries.get_run(run_id)


def _one(run: BillingRun) -> OneBillingRunOut:
    return one_run_out(queries.report(run))


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
