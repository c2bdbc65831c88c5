"""Billing runs: planning a month, reviewing it client by client, approving its hash, watching it being billed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.money.period import month_name
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.billing_runs import queries, services
from provider_federation.portal.billing_runs.models import (
    LIVING,
    BillingPlanItem,
    BillingRun,
    ItemState,
    RunStatus,
)
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    chosen,
    page,
    problems_said,
    requires,
    say,
    words,
)
from provider_federation.portal.revenue.periods import latest_months

_COLUMNS = (
    Column("period", "Month", "period"),
    Column("status", "State", "status"),
    Column("", "Clients", "", right=True),
    Column("", "Billed", "", right=True),
    Column("", "Held", "", right=True),
    Column("created", "Planned", "created_at"),
    Column("", "By", ""),
)
_ITEM_COLUMNS = (
    Column("client", "Client", "instance__name"),
    Column("state", "State", "state"),
    Column("lines", "Lines"),
    Column("total", "Total", "total_cents", right=True),
    Column("before", "Last month", "previous_cents", right=True),
    Column("difference", "Difference", "change", right=True),
)
_LIVE = (RunStatus.PLANNING, RunStatus.EXECUTING)
# Only these have an amount of this plan that last month's can be held against.
_COMPARED = (ItemState.READY, ItemState.NOTHING, ItemState.PLACING, ItemState.BILLED)
_MONTHS_OFFERED = 12
_TONES = {
    "billed": "is-good",
    "already": "is-good",
    "nothing": "is-good",
    "held": "is-warn",
    "cancelled": "is-off",
}
# Before anything is billed, what is ready counts as done.
_PLANNING = {RunStatus.PLANNING, RunStatus.PLANNED, RunStatus.APPROVED}


def _crumbs() -> list[tuple[str, str]]:
    return [("Billing runs", reverse("billing-runs"))]


@require_GET
@requires("billing.read")
def billing_runs(request: HttpRequest) -> HttpResponse:
    counted = BillingRun.objects.annotate(
        clients=Count("items"),
        billed=Count("items", filter=Q(items__state=ItemState.BILLED)),
        held=Count("items", filter=Q(items__state=ItemState.HELD)),
    )
    return page(
        request,
        "billing_runs",
        title="Billing runs",
        subtitle="One month of all clients: planned, approved by its hash, then billed exactly so.",
        listing=Listing(request, counted, _COLUMNS, default="-created"),
        months=[
            one.label for one in latest_months(_MONTHS_OFFERED + 1)[1:]
        ],  # the running one cannot be planned
    )


@require_POST
@requires("billing.manage")
def plan_billing_run(request: HttpRequest) -> HttpResponse:
    try:
        run = services.start_plan(words(request.POST, "period", 7), actor=actor(request))
    except Problem as problem:
        return _already(request, problem)
    return redirect("billing-run", run.pk)


def _already(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A month has one run: who asks for a second one is led to it."""
    period = words(request.POST, "period", 7)
    living = BillingRun.objects.filter(period=period, status__in=LIVING).first()
    if problem.code != "run_exists" or living is None:
        say(request, problem)
        return redirect("billing-runs")
    messages.info(request, f"{month_name(period)} has a billing run already: this one.")
    return redirect("billing-run", living.pk)


@require_GET
@requires("billing.read")
def billing_run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    run = get_object_or_404(BillingRun, pk=run_id)
    return page(
        request,
        "billing_run",
        title=f"Billing run {month_name(run.period)}",
        crumbs=_crumbs(),
        **_watched(request, run),
        **_review(request, run),
    )


@require_GET
@requires("billing.read")
def billing_run_progress(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    """The part of the page that changes; when the phase is over the whole page comes again."""
    run = get_object_or_404(BillingRun, pk=run_id)
    answer = render(request, "portal/parts/billing_run.html", _watched(request, run))
    if not _is_live(run):
        answer["HX-Refresh"] = "true"
    return answer


@require_GET
@requires("billing.read")
def billing_run_rows(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    """One page of the review as it is now, filtered and sorted as the page around it."""
    run = get_object_or_404(BillingRun, pk=run_id)
    context = {"run": run, "live": _is_live(run), **_review(request, run)}
    return render(request, "portal/parts/billing_rows.html", context)


@require_GET
@requires("billing.read")
def billing_item(request: HttpRequest, run_id: uuid.UUID, item_id: int) -> HttpResponse:
    found = BillingPlanItem.objects.select_related("instance", "invoice", "run")
    item = get_object_or_404(found, pk=item_id, run=run_id)
    crumbs = [*_crumbs(), (month_name(item.run.period), reverse("billing-run", args=[run_id]))]
    return page(
        request,
        "billing_item",
        title=str(item.instance),
        subtitle=f"Its part of the billing run {month_name(item.run.period)}",
        crumbs=crumbs,
        item=item,
    )


@require_GET
@requires("billing.manage")
def approve_billing_run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    """The dialogue before anything is allowed: hash, totals, coverage, who is held."""
    run = get_object_or_404(BillingRun, pk=run_id)
    if run.status != "planned":
        return redirect("billing-run", run_id)
    return page(
        request,
        "approve_billing_run",
        title=f"Approve the plan of {month_name(run.period)}?",
        crumbs=[*_crumbs(), (month_name(run.period), reverse("billing-run", args=[run_id]))],
        four_eyes=settings.BILLING_FOUR_EYES,
        **_watched(request, run),
    )


@require_POST
@requires("billing.manage")
def approve_billing_plan(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    plan_hash = words(request.POST, "plan_hash", 80)
    return _done(request, run_id, lambda: services.approve_plan(run_id, plan_hash, actor=actor(request)))


@require_POST
@requires("billing.manage")
def execute_billing_run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    return _done(request, run_id, lambda: services.execute_plan(run_id, actor=actor(request)))


@require_POST
@requires("billing.manage")
def cancel_billing_run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    return _done(request, run_id, lambda: services.cancel_run(run_id, actor=actor(request)))


@require_POST
@requires("billing.manage")
def retry_billing_run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    only = [org] if (org := words(request.POST, "client", 128)) else []
    reviewed = "reviewed" in request.POST
    return _done(
        request,
        run_id,
        lambda: services.retry_held(run_id, actor=actor(request), only=only, reviewed=reviewed),
    )


@require_GET
@requires("billing.read")
def billing_run_csv(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    run = get_object_or_404(BillingRun, pk=run_id)
    record(Kind.EXPORTED, actor(request), f"billing_run:{run.pk}", period=run.period)
    return csv_download("".join(queries.report_csv(run)), f"billing-run-{run.period}.csv")


def _done(request: HttpRequest, run_id: uuid.UUID, act: Callable[[], object]) -> HttpResponse:
    with problems_said(request):
        act()
    return redirect("billing-run", run_id)


def _watched(request: HttpRequest, run: BillingRun) -> dict[str, Any]:
    report = queries.report(run)
    planning = run.status in _PLANNING
    done = report.clients - report.states.get("waiting", 0) if planning else report.finished
    tones = _TONES | {"ready": ""} if planning else _TONES
    can_cancel = run.status in LIVING
    can_retry = bool(report.holds) and run.status in {"planned", "approved", "done"}
    can_resume = run.status == "cancelled" and bool(run.approved_hash)
    share = 100 / max(report.clients, 1)
    return {
        "run": run,
        "report": report,
        "live": _is_live(run),
        "stopped": report.states.get(ItemState.CANCELLED, 0),
        "states_told": [(ItemState(state).label, count) for state, count in report.states.items()],
        "done": done,
        "bars": [(tone, report.states.get(state, 0) * share) for state, tone in tones.items()],
        "planning": planning,
        "own_plan": settings.BILLING_FOUR_EYES and actor(request) in {run.planned_by, *run.planners},
        "can_cancel": can_cancel,
        "can_retry": can_retry,
        "can_resume": can_resume,
        "can_go_on": can_cancel or can_retry or can_resume,
    }


def _is_live(run: BillingRun) -> bool:
    """Whether a worker still changes it; of a cancelled run what is on its way to Stripe still arrives."""
    return run.status in _LIVE or (run.status == RunStatus.CANCELLED and run.finished_at is None)


def _review(request: HttpRequest, run: BillingRun) -> dict[str, Any]:
    state = chosen(request.GET, "state", ItemState.values)
    rows = queries.review(run, state)
    listing = Listing(request, rows, _ITEM_COLUMNS, size=50, default="-difference")
    return {"listing": listing, "state": state, "states": ItemState.choices, "compared": _COMPARED}
