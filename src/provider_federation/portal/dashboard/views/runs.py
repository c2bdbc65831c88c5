"""Runs: choosing what to do on which instances, confirming it, and watching it happen."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from django.contrib import messages
from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import ValidationError

from provider_federation.kit.problem import Problem
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    a_uuid,
    actor,
    chosen,
    page,
    problems_said,
    requires,
    say,
    words,
)
from provider_federation.portal.dashboard.results import (
    CHANGES_SOMETHING,
    RANGES,
    call_details,
    call_words,
    consequences,
    progress_of,
    window_words,
)
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet import services
from provider_federation.portal.fleet.models import Action, CallStatus, FleetCall, FleetRun
from provider_federation.portal.fleet.schemas import RunParams

_OFFERED = (Action.PREVIEW, Action.DRAFT, Action.SEND, Action.SYNC, Action.CHECK)
_WINDOWED = (Action.PREVIEW, Action.DRAFT)
_SHOWN = 500
_COLUMNS = (
    Column("created", "Started", "created_at"),
    Column("action", "Action", "action"),
    Column("by", "By", "requested_by"),
    Column("status", "State", "status"),
    Column("", "Instances", "", right=True),
    Column("", "Failed", "", right=True),
)
# What needs attention comes first while a run is watched.
_FAILED_FIRST = Case(
    When(status=CallStatus.FAILED, then=Value(0)),
    When(status=CallStatus.RUNNING, then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)


def _crumbs() -> list[tuple[str, str]]:
    return [("Runs", reverse("runs"))]


@require_GET
@requires("fleet.read")
def runs(request: HttpRequest) -> HttpResponse:
    action = chosen(request.GET, "action", Action.values)
    rows = FleetRun.objects.annotate(
        total=Count("calls"), failed=Count("calls", filter=Q(calls__status=CallStatus.FAILED))
    )
    listing = Listing(request, rows.filter(action=action) if action else rows, _COLUMNS, default="-created")
    return page(
        request,
        "runs",
        title="Runs",
        subtitle="One action over one or many instances, with a result for each.",
        listing=listing,
        actions=Action.choices,
        action=action,
    )


@require_http_methods(["GET", "POST"])
@requires("fleet.act")
def new_run(request: HttpRequest) -> HttpResponse:
    """GET: choose. POST: confirm when it changes something there, else (or when confirmed) start it."""
    if request.method == "GET":
        return _chooser(request)
    try:
        action, instances, params = _asked(request)
        services.checked_params(action, params, len(instances))
        if action in CHANGES_SOMETHING and request.POST.get("confirmed") != _seal(action, instances, params):
            return _confirmation(request, action, instances, params)
        key = words(request.POST, "request_key", 64)
        run = services.start_run(actor(request), action, instances, params, request_key=key)
    except Problem as problem:
        say(request, problem)
        return redirect(f"{reverse('new-run')}?{_remembered(request)}")
    return redirect("run", run.pk)


@require_GET
@requires("fleet.read")
def run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(FleetRun, pk=run_id)
    return page(request, "run", title=_title(found), crumbs=_crumbs(), **_watched(found))


@require_GET
@requires("fleet.read")
def run_progress(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    """The part of the run's page that changes; htmx asks for it while the run is live."""
    return render(request, "portal/parts/run.html", _watched(get_object_or_404(FleetRun, pk=run_id)))


@require_POST
@requires("fleet.act")
def cancel(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    with problems_said(request):
        services.cancel_run(actor(request), run_id)
        messages.success(request, "What had not begun is cancelled; what is under way still finishes.")
    return redirect("run", run_id)


@require_POST
@requires("fleet.act")
def retry(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    with problems_said(request):
        services.retry_failed(actor(request), run_id)
    return redirect("run", run_id)


def _chooser(request: HttpRequest) -> HttpResponse:
    preset = {found for text in request.GET.getlist("instance") if (found := a_uuid(text))}
    return page(
        request,
        "new_run",
        title="New run",
        crumbs=_crumbs(),
        instances=Instance.objects.all()[:_SHOWN],
        enabled=Instance.objects.filter(enabled=True).count(),
        preset=preset,
        everything="all" in request.GET,
        action=chosen(request.GET, "action", Action.values) or Action.PREVIEW,
        actions=_OFFERED,
        ranges=RANGES,
        range=chosen(request.GET, "range", [key for key, _ in RANGES]) or "d30",
        start=words(request.GET, "start", 10),
        end=words(request.GET, "end", 10),
    )


def _confirmation(
    request: HttpRequest, action: str, instances: list[Instance], params: RunParams
) -> HttpResponse:
    if "confirmed" in request.POST:
        messages.warning(request, "What this acts on has changed in the meantime; look at it again.")
    back = reverse("instance", args=[instances[0].pk]) if len(instances) == 1 else reverse("instances")
    return page(
        request,
        "confirm_run",
        title=f"{Action(action).label}?",
        crumbs=_crumbs(),
        action=Action(action),
        instances=instances[:_SHOWN],
        count=len(instances),
        params=params,
        consequences=consequences(action, params, len(instances)),
        request_key=str(uuid.uuid4()),
        confirmed=_seal(action, instances, params),
        back=back,
        fields=[(name, value) for name, values in request.POST.lists() for value in values if _kept(name)],
    )


def _seal(action: str, instances: list[Instance], params: RunParams) -> str:
    """What a confirmation is of: whoever is enabled a moment later has not been confirmed with "all"."""
    what = [action, params.stored(), sorted(str(instance.pk) for instance in instances if instance.enabled)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _kept(name: str) -> bool:
    return name in {"action", "instance", "all", "range", "start", "end", "invoice"}


def _asked(request: HttpRequest) -> tuple[str, list[Instance], RunParams]:
    action = chosen(request.POST, "action", Action.values)
    if not action:
        raise Problem(400, "invalid_field", "Choose what to do.")
    ids = [found for text in request.POST.getlist("instance") if (found := a_uuid(text))]
    rows = (
        Instance.objects.filter(enabled=True)
        if "all" in request.POST
        else Instance.objects.filter(pk__in=ids)
    )
    instances = list(rows)
    if not instances:
        raise Problem(400, "no_instances", "Choose at least one instance.")
    return action, instances, _params(request, action)


def _params(request: HttpRequest, action: str) -> RunParams:
    invoices = request.POST.getlist("invoice")
    wanted: dict[str, Any] = {"invoice_ids": invoices} if invoices and action == Action.SEND else {}
    if action in _WINDOWED:
        wanted = _window(request)
    try:
        return RunParams.model_validate(wanted)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise Problem(400, "invalid_field", f"The window cannot be read: {reason}.") from None


def _window(request: HttpRequest) -> dict[str, Any]:
    wanted = chosen(request.POST, "range", [key for key, _ in RANGES]) or "d30"
    if wanted != "custom":
        return {"range": wanted}
    start, end = words(request.POST, "start", 10), words(request.POST, "end", 10)
    if not (start and end):
        raise Problem(400, "invalid_field", "Give the first and the last day of the window.")
    return {"start": start, "end": end}


def _remembered(request: HttpRequest) -> str:
    """The choices so far, for the chooser to show again."""
    query = request.POST.copy()
    for name in list(query):
        if not _kept(name) or name == "invoice":
            del query[name]
    return query.urlencode()


def _title(found: FleetRun) -> str:
    return str(Action(found.action).label)


def _watched(found: FleetRun) -> dict[str, Any]:
    calls = list(
        found.calls.select_related("instance", "run").order_by(_FAILED_FIRST, "instance__name", "pk")[:_SHOWN]
    )
    progress = progress_of(found)
    return {
        "run": found,
        "window": window_words(found.params) if found.action in _WINDOWED else "",
        "progress": progress,
        "calls": [(call, call_words(call), call_details(call), _took(call)) for call in calls],
        "hidden": progress.total - len(calls),
        "can_cancel": progress.live and found.status != "cancelled",
        "can_retry": progress.counts[CallStatus.FAILED] > 0
        and found.status != "cancelled"
        and not progress.live,
    }


def _took(call: FleetCall) -> str:
    if call.started_at is None or call.finished_at is None:
        return "—"
    return f"{(call.finished_at - call.started_at).total_seconds():.1f} s"
