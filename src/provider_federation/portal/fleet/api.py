"""The fleet over HTTP: runs, totals, invoices, sync. Paths stand below /api/provider."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema, Status
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import Strict, refuse_body, refuse_unknown_query
from provider_federation.kit.web.downloads import csv_download
from provider_federation.kit.web.fields import Day
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.fleet import queries, services, sync
from provider_federation.portal.fleet.export import invoices_csv
from provider_federation.portal.fleet.models import CallStatus
from provider_federation.portal.fleet.schemas import MOST_INSTANCES, StartRun
from provider_federation.portal.fleet.wire import (
    InvoicesOut,
    OneRunOut,
    RunCallsOut,
    RunsOut,
    SyncOut,
    TotalsOut,
    call_out,
    coverage_out,
    invoice_out,
    run_out,
    totals_out,
)
from provider_federation.portal.operators.auth import operator_or_token

router = Router(tags=["fleet"], by_alias=True)
_reads, _acts = operator_or_token("fleet.read"), operator_or_token("fleet.act")

Limit = Annotated[int, Field(ge=1, le=200)]
Text = Annotated[str, Field(max_length=512)]


class _Camel(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RunsQuery(_Camel):
    cursor: Text = ""
    limit: Limit = 25


class CallsQuery(_Camel):
    cursor: Text = ""
    limit: Limit = 100
    status: Literal["", "waiting", "running", "ok", "failed", "cancelled"] = ""


class FilterQuery(_Camel):
    """`from` and `to` are days in the provider's time zone, both included."""

    instance_id: Text = ""
    status: Literal["", "draft", "open", "paid", "void", "uncollectible"] = ""
    currency: Annotated[str, Field(pattern=r"^([A-Za-z]{3})?$")] = ""
    from_day: Annotated[Day | None, Field(alias="from")] = None
    to_day: Annotated[Day | None, Field(alias="to")] = None
    search: Annotated[str, Field(max_length=100)] = ""


class TotalsQuery(FilterQuery):
    by: Literal["status", "client", "month"] = "status"


class InvoicesQuery(FilterQuery):
    cursor: Text = ""
    limit: Limit = 50


class SyncBody(Strict):
    """Which instances to ask now; all enabled ones when left out."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    instance_ids: list[str] | None = Field(None, min_length=1, max_length=MOST_INSTANCES)


@router.post("/fleet/sync", auth=_acts, response={202: SyncOut})
def sync_now(request: HttpRequest, payload: SyncBody) -> Status[SyncOut]:
    """Read the changes feeds now instead of at their next turn."""
    refuse_unknown_query(request, ())
    chosen = None if payload.instance_ids is None else queries.instances_named(payload.instance_ids)
    return Status(202, SyncOut(queued=sync.request_sync(chosen)))


@router.post("/fleet", auth=_acts, response={202: OneRunOut})
def start(request: HttpRequest, payload: StartRun) -> Status[OneRunOut]:
    """Start one action over many instances. An `Idempotency-Key` makes a repeat answer with the same run."""
    refuse_unknown_query(request, ())
    instances = (
        queries.enabled_instances() if payload.all else queries.instances_named(payload.instance_ids or [])
    )
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > 128 or not key.isprintable():
        raise Problem(400, "invalid_field", "An Idempotency-Key has at most 128 printable characters.")
    run = services.start_run(_actor(request), payload.action, instances, payload.params, request_key=key)
    return Status(202, OneRunOut(run=run_out(queries.run_with_calls(run.pk, limit=1))))


@router.get("/fleet", auth=_reads, response=RunsOut)
def runs(request: HttpRequest, query: Query[RunsQuery]) -> RunsOut:
    """Runs, newest first."""
    _known_only(request, RunsQuery)
    found, following = queries.page_of_runs(query.cursor, query.limit)
    return RunsOut(items=[run_out(view) for view in found], next_cursor=following or None)


@router.get("/fleet/{run_id}", auth=_reads, response=RunCallsOut)
def one_run(request: HttpRequest, run_id: str, query: Query[CallsQuery]) -> RunCallsOut:
    """A run's progress, and a page of what came of each instance."""
    _known_only(request, CallsQuery)
    run_uuid = queries.read_uuid(run_id, "run")
    view = queries.run_with_calls(
        run_uuid, query.cursor, query.limit, CallStatus(query.status) if query.status else ""
    )
    return RunCallsOut(
        run=run_out(view), calls=[call_out(call) for call in view.calls], next_cursor=view.next_cursor or None
    )


@router.post("/fleet/{run_id}/cancel", auth=_acts, response=OneRunOut)
def cancel(request: HttpRequest, run_id: str) -> OneRunOut:
    """Stop what has not begun yet."""
    refuse_unknown_query(request, ())
    refuse_body(request)
    run = services.cancel_run(_actor(request), queries.read_uuid(run_id, "run"))
    return OneRunOut(run=run_out(queries.run_with_calls(run.pk, limit=1)))


@router.post("/fleet/{run_id}/retry", auth=_acts, response={202: OneRunOut})
def retry(request: HttpRequest, run_id: str) -> Status[OneRunOut]:
    """Ask the failed instances of a run again."""
    refuse_unknown_query(request, ())
    refuse_body(request)
    run = services.retry_failed(_actor(request), queries.read_uuid(run_id, "run"))
    return Status(202, OneRunOut(run=run_out(queries.run_with_calls(run.pk, limit=1))))


@router.get("/totals", auth=_reads, response=TotalsOut)
def totals(request: HttpRequest, query: Query[TotalsQuery]) -> TotalsOut:
    """The clients' invoices summed by status, client or month, each currency by itself, with the coverage."""
    _known_only(request, TotalsQuery)
    return totals_out(query.by, queries.totals(query.by, _filter(query)))


@router.get("/invoices", auth=_reads, response=InvoicesOut)
def invoices(request: HttpRequest, query: Query[InvoicesQuery]) -> InvoicesOut:
    """The clients' invoices, newest first."""
    _known_only(request, InvoicesQuery)
    page = queries.page_of_invoices(_filter(query), query.cursor, query.limit)
    return InvoicesOut(
        items=[invoice_out(invoice) for invoice in page.items],
        next_cursor=page.next_cursor or None,
        coverage=coverage_out(page.coverage),
    )


@router.get("/invoices.csv", auth=_reads, response={200: None})
def export(request: HttpRequest, query: Query[FilterQuery]) -> HttpResponse:
    """The same as a spreadsheet; the header `X-Coverage` says what it covers."""
    _known_only(request, FilterQuery)
    text = invoices_csv(queries.all_invoices(_filter(query)))
    record(Kind.EXPORTED, _actor(request), "invoices:csv", rows=text.count("\r\n") - 1)
    response = csv_download(text, "invoices.csv")
    response["X-Coverage"] = str(queries.coverage())
    return response


def _actor(request: HttpRequest) -> str:
    actor: str = request.actor  # type: ignore[attr-defined]  # set by operators.auth
    return actor


def _known_only(request: HttpRequest, query: type[Schema]) -> None:
    refuse_unknown_query(request, [field.alias or name for name, field in query.model_fields.items()])


def _filter(query: FilterQuery) -> queries.InvoiceFilter:
    instances: tuple[Any, ...] = ()
    if query.instance_id:
        instances = tuple(one.pk for one in queries.instances_named([query.instance_id]))
    return queries.InvoiceFilter(
        instance_ids=instances,
        statuses=(query.status,) if query.status else (),
        currency=query.currency,
        since=_midnight(query.from_day),
        before=_midnight(query.to_day, days=1),
        search=query.search,
    )


def _midnight(day: date | None, days: int = 0) -> datetime | None:
    if day is None:
        return None
    if not 1970 <= day.year <= 9000:
        raise Problem(400, "invalid_field", "Give a day from 1970 to 9000.", field="from")
    return datetime.combine(day + timedelta(days=days), time(), ZoneInfo(settings.PROVIDER_TIME_ZONE))
