"""The directory's pages: the list, adding, editing, the key, and one instance with invoices and actions."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.kit import clock
from provider_federation.portal.dashboard.forms import InstanceEditForm, InstanceForm, KeyForm
from provider_federation.portal.dashboard.modes import expected_mode, misfits, mode_fit, mode_fits
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    chosen,
    page,
    problems_at,
    problems_said,
    requires,
    seen_version,
    words,
)
from provider_federation.portal.dashboard.results import RANGES
from provider_federation.portal.dashboard.views.invoices import invoice_list
from provider_federation.portal.directory import services
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.directory.queries import current_key, pending_key
from provider_federation.portal.fleet.models import UNFINISHED, Action, FleetCall
from provider_federation.portal.fleet.queries import InvoiceFilter, coverage, totals
from provider_federation.portal.fleet.services import start_run
from provider_federation.portal.subscriptions.models import PlanChange
from provider_federation.portal.subscriptions.queries import current_subscription, plan_in_force

_HEALTHS = (("ok", "Healthy"), ("failing", "Failing"), ("unchecked", "Not checked"), ("disabled", "Disabled"))
_COLUMNS = (
    Column("name", "Instance", "title"),
    Column("mode", "Signatures", "remote_mode"),
    Column("health", "Health", "check_ok"),
    Column("sync", "Last sync", "sync_state__synced_at"),
    Column("plan", "Plan"),
    Column("", ""),
)


def _crumbs(instance: Instance | None = None) -> list[tuple[str, str]]:
    crumbs = [("Instances", reverse("instances"))]
    return crumbs if instance is None else [*crumbs, (str(instance), reverse("instance", args=[instance.pk]))]


def with_plan() -> QuerySet[Instance]:
    """Instances with `plan` (None: never subscribed, so BASE), their sync state and their key in use."""
    latest = PlanChange.objects.filter(instance=OuterRef("pk"), effective_at__lte=clock.now())
    newest = Subquery(latest.order_by("-effective_at", "-id").values("plan")[:1])
    keys = Prefetch("keys", InstanceKey.objects.filter(retired_at__isnull=True))
    return Instance.objects.select_related("sync_state").prefetch_related(keys).annotate(plan=newest)


@require_GET
@requires("instances.read")
def instances(request: HttpRequest) -> HttpResponse:
    search = words(request.GET, "q", 100)
    health = chosen(request.GET, "health", [key for key, _ in _HEALTHS])
    listing = Listing(request, _narrowed(with_plan(), search, health), _COLUMNS, size=50, default="name")
    rows = [(row, mode_fit(row)) for row in listing.page if isinstance(row, Instance)]
    enabled = Instance.objects.filter(enabled=True).prefetch_related("keys")
    fits = mode_fits(enabled[:500])
    return page(
        request,
        "instances",
        title="Instances",
        subtitle=f"Coverage: {coverage()}",
        listing=listing,
        rows=rows,
        search=search,
        health=health,
        healths=_HEALTHS,
        filtered=bool(search or health),
        expected=expected_mode(),
        misfits=misfits(fits),
        fitting=len(fits) - len(misfits(fits)),
        ranges=RANGES,
        range="d30",
        any=Instance.objects.exists(),
    )


def _narrowed(rows: QuerySet[Instance], search: str, health: str) -> QuerySet[Instance]:
    if search:
        rows = rows.filter(
            Q(name__icontains=search)
            | Q(title__icontains=search)
            | Q(org_id__icontains=search)
            | Q(base_url__icontains=search)
        )
    if health == "disabled":
        return rows.filter(enabled=False)
    if health:
        return rows.filter(enabled=True, check_ok={"ok": True, "failing": False, "unchecked": None}[health])
    return rows


@require_http_methods(["GET", "POST"])
@requires("instances.manage")
def add_instance(request: HttpRequest) -> HttpResponse:
    form = InstanceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            made = services.add_instance(**form.fields_of_instance(), **form.way_in(), actor=actor(request))
            if current_key(made) is None and not form.cleaned_data["code"]:
                messages.success(request, f"{made} was added. Its key waits for the owner of the instance.")
                return redirect("instance-keys", made.pk)
            _tell_check(request, made, f"{made} was added.")
            return redirect("instance", made.pk)
    return page(
        request,
        "instance_form",
        title="Add an instance",
        crumbs=_crumbs(),
        form=form,
        by_hand=form.BY_HAND,
        keyed=form.keyed(),
        button="Add and check",
        back=reverse("instances"),
    )


@require_http_methods(["GET", "POST"])
@requires("instances.manage")
def edit_instance(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    form = InstanceEditForm(request.POST or None, initial=InstanceEditForm.initial_of(instance))
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            services.edit_instance(
                instance.pk, form.cleaned_data["version"], actor=actor(request), **form.fields_of_instance()
            )
            messages.success(request, "The changes are saved.")
            return redirect("instance", instance.pk)
    return page(
        request,
        "form",
        title=f"Edit {instance}",
        crumbs=_crumbs(instance),
        form=form,
        button="Save",
        back=reverse("instance", args=[instance.pk]),
    )


@require_http_methods(["GET", "POST"])
@requires("instances.manage")
def replace_key(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    form = KeyForm(request.POST or None, initial={"version": instance.version})
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            version = form.cleaned_data["version"]
            changed = services.replace_key(
                instance.pk,
                version,
                form.key(),
                actor=actor(request),
                response_key=form.response_key(),
            )
            _tell_check(request, changed, "The new key is in use, the old one retired.")
            return redirect("instance", instance.pk)
    return page(
        request,
        "form",
        title="Type in a key",
        crumbs=[*_crumbs(instance), ("Keys", reverse("instance-keys", args=[instance.pk]))],
        form=form,
        button="Replace and check",
        back=reverse("instance-keys", args=[instance.pk]),
    )


@require_POST
@requires("instances.manage")
def switch_instance(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    """Disable or enable it, as `to` says; `version` is the one the operator saw."""
    seen = seen_version(request)
    with problems_said(request):
        if request.POST.get("to") == "disabled":
            services.disable_instance(instance_id, seen, actor=actor(request))
            messages.success(request, "Disabled: the portal no longer calls, syncs or bills it.")
        else:
            _tell_check(
                request,
                services.enable_instance(instance_id, seen, actor=actor(request)),
                "Enabled again.",
            )
    return redirect("instance", instance_id)


@require_POST
@requires("instances.check")
def check_instance(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    """As a job: this page never waits for the instance."""
    instance = get_object_or_404(Instance, pk=instance_id)
    with problems_said(request):
        start_run(actor(request), Action.CHECK, [instance])
    return redirect("instance", instance.pk)


@require_GET
@requires("instances.read")
def instance(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(with_plan(), pk=instance_id)
    sums = totals("status", InvoiceFilter(instance_ids=(found.pk,))).sums
    return page(
        request,
        "instance",
        title=str(found),
        crumbs=_crumbs(),
        sums=sums,
        ranges=RANGES,
        range="d30",
        subscription=current_subscription(found),
        plan=plan_in_force(found, clock.now()),
        runs=FleetCall.objects.filter(instance=found)
        .select_related("run")
        .order_by("-run__created_at", "-pk")[:5],
        **_state(found),
        **invoice_list(request, found),
    )


@require_GET
@requires("instances.read")
def instance_state(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    """The facts of the page; htmx asks for them while a check or a sync is under way."""
    return render(
        request, "portal/parts/instance_state.html", _state(get_object_or_404(with_plan(), pk=instance_id))
    )


def _state(found: Instance) -> dict[str, Any]:
    busy = FleetCall.objects.filter(
        instance=found, status__in=UNFINISHED, run__action__in=(Action.CHECK, Action.SYNC)
    )
    return {
        "instance": found,
        "fit": mode_fit(found),
        "expected": expected_mode(),
        "key": current_key(found),
        "pending": pending_key(found),
        "sync": getattr(found, "sync_state", None),
        "disputes": getattr(found, "dispute_reading", None),
        "busy": busy.exists(),
    }


def _tell_check(request: HttpRequest, instance: Instance, done: str) -> None:
    if instance.check_ok:
        messages.success(request, f"{done} It answers and takes our signature.")
    else:
        messages.warning(request, f"{done} The check failed: {instance.check_message or instance.check_code}")
