"""The clients' subscriptions in the provider's Stripe account."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.money import PLANS, MoneyError
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.dashboard.forms import SubscriptionForm
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    chosen,
    page,
    problems_said,
    requires,
    tell_form,
)
from provider_federation.portal.subscriptions import publishing, services
from provider_federation.portal.subscriptions.entitlements import grace_until
from provider_federation.portal.subscriptions.export import subscriptions_csv
from provider_federation.portal.subscriptions.models import (
    IN_ARREARS,
    ChangeState,
    PlanCode,
    Proration,
    Status,
    Subscription,
    SubscriptionChange,
)
from provider_federation.portal.subscriptions.queries import (
    Filters,
    change_under_way,
    entitlement_of,
    sorted_subscriptions,
    summarise,
)

_COLUMNS = (
    Column("client", "Client", "instance__title"),
    Column("plan", "Plan", "plan"),
    Column("status", "Status", "status"),
    Column("fee", "Fee a month", "fee_cents", right=True),
    Column("end", "Period ends", "current_period_end"),
    Column("created", "Since", "created_at"),
    Column("", ""),
)


def _crumbs() -> list[tuple[str, str]]:
    return [("Subscriptions", reverse("subscriptions"))]


@require_GET
@requires("billing.read")
def subscriptions(request: HttpRequest) -> HttpResponse:
    status, plan = chosen(request.GET, "status", Status.values), chosen(request.GET, "plan", PlanCode.values)
    given = {name: value for name, value in (("status", status), ("plan", plan)) if value}
    rows = Subscription.objects.select_related("instance").filter(**given)
    summary = summarise()
    return page(
        request,
        "subscriptions",
        title="Subscriptions",
        subtitle="What the clients pay for the product every month.",
        listing=Listing(request, rows, _COLUMNS, default="-created"),
        summary=summary,
        recurring=sorted(summary.mrr_cents.items()),
        chosen_status=status,
        chosen_plan=plan,
        statuses=Status.choices,
        plans=PlanCode.choices,
        filtered=bool(given),
        export=f"{reverse('subscriptions-csv')}?{urlencode(given)}",
        coverage=publishing.coverage(),
    )


@require_GET
@requires("billing.read")
def export(request: HttpRequest) -> HttpResponse:
    """The list as CSV with the same filters."""
    status, plan = chosen(request.GET, "status", Status.values), chosen(request.GET, "plan", PlanCode.values)
    rows = sorted_subscriptions(Filters(plan=plan, status=status)).select_related("instance")
    text = subscriptions_csv(rows.iterator(chunk_size=1000))
    record(Kind.EXPORTED, actor(request), "subscriptions", rows=text.count("\r\n") - 1)
    return csv_download(text, "subscriptions.csv")


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def add_subscription(request: HttpRequest) -> HttpResponse:
    form = SubscriptionForm(request.POST or None, initial={"instance": request.GET.get("instance", "")})
    if request.method == "POST" and form.is_valid():
        made = _create(request, form)
        if made is not None:
            return redirect("subscription", made.pk)
    return page(
        request,
        "form",
        title="New subscription",
        crumbs=_crumbs(),
        form=form,
        button="Create subscription",
        back=reverse("subscriptions"),
    )


def _create(request: HttpRequest, form: SubscriptionForm) -> Subscription | None:
    data = form.cleaned_data
    try:
        created = services.create_subscription(
            data["instance"],
            data["plan"],
            actor=actor(request),
            payment_method=data["payment_method"],
            billing_details={"name": data["name"], "email": data["email"]},
            trial_days=data["trial_days"] or 0,
        )
    except Problem as problem:
        tell_form(form, problem)
        return None
    except MoneyError as error:
        form.add_error("plan", error.message)
        return None
    messages.success(request, "The client has this subscription already." if created.reused else "Created.")
    return created.subscription


@require_GET
@requires("billing.read")
def subscription(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    found = _found(subscription_id)
    pending = change_under_way(found)
    return page(
        request,
        "subscription",
        title=f"{found.instance}: {found.get_plan_display()}",
        crumbs=_crumbs(),
        subscription=found,
        pending=pending,
        invoices=found.invoices.order_by("-billed_at")[:24],
        history=found.instance.plan_changes.order_by("-effective_at", "-id")[:12],
        changes=found.changes.order_by("-created_at", "-id")[:12],
        entitlement=entitlement_of(found.instance),
        grace_until=grace_until(found),
        payable=(found.status in {Status.INCOMPLETE, *IN_ARREARS} or _waits(pending))
        and found.hosted_invoice_url,
        unfinished=found.status == Status.CREATING,
        changeable=found.plan == PlanCode.BASE or found.status in {Status.ACTIVE, Status.TRIALING},
    )


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def change_plan(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    """Choose a plan, see what it costs now and next, and carry out exactly that."""
    found = _found(subscription_id)
    if request.method == "POST":
        return _carry_out(request, found)
    plan = chosen(request.GET, "plan", PlanCode.values)
    timing = chosen(request.GET, "proration", Proration.values)
    preview = None
    if plan:
        with problems_said(request):
            preview = services.preview_plan(found, plan, timing)
    return page(
        request,
        "change_plan",
        title=f"Change the plan of {found.instance}",
        crumbs=[*_crumbs(), (str(found.instance), reverse("subscription", args=[found.pk]))],
        subscription=found,
        preview=preview,
        timing=dict(Proration.choices)[preview.proration] if preview else "",
        chosen_plan=plan,
        chosen_proration=timing,
        plans=[plan for plan in PLANS.values() if plan.code != found.plan],
        prorations=Proration.choices,
    )


def _carry_out(request: HttpRequest, found: Subscription) -> HttpResponse:
    plan = chosen(request.POST, "plan", PlanCode.values)
    timing = chosen(request.POST, "proration", Proration.values)
    there = f"{reverse('change-plan', args=[found.pk])}?{urlencode({'plan': plan, 'proration': timing})}"
    token = request.POST.get("preview", "")
    if not plan or not token:
        return redirect(there)
    with problems_said(request):
        changed = services.change_plan(
            found, plan, actor=actor(request), proration=timing, preview_token=token
        )
        messages.success(request, _SAID.get(_outcome(changed), "The plan is changed."))
        there = reverse("subscription", args=[changed.subscription.pk])
    return redirect(there)


def _outcome(changed: services.Changed) -> str:
    """The state of the change; a first paid plan is a subscription of its own, which may wait for its payment."""
    if changed.change:
        return changed.change.state
    return "awaiting_payment" if changed.subscription.status == Status.INCOMPLETE else ""


_SAID = {
    "scheduled": "Scheduled: it happens when the paid period ends.",
    "awaiting_payment": "Stripe waits for the payment; until then the plan stays as it is.",
}


@require_POST
@requires("billing.manage")
def cancel_subscription(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    """At the end of what is paid, or at once when `when` says now (with `credit`, for what is not used)."""
    now = request.POST.get("when") == "now"
    return _do(
        request,
        subscription_id,
        lambda found: services.cancel_subscription(
            found, immediate=now, prorate=now and bool(request.POST.get("credit")), actor=actor(request)
        ),
        "It ended." if now else "It ends with the period that is paid.",
    )


@require_POST
@requires("billing.manage")
def resume_subscription(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        subscription_id,
        lambda found: services.resume_subscription(found, actor=actor(request)),
        "It goes on.",
    )


@require_POST
@requires("billing.manage")
def withdraw_change(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        subscription_id,
        lambda found: services.withdraw_change(found, actor=actor(request)),
        "The change is taken back.",
    )


@require_POST
@requires("billing.manage")
def publish_entitlement(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        subscription_id,
        lambda found: publishing.publish_again(found.instance, actor=actor(request)),
        "The instance is being told.",
    )


def _do(
    request: HttpRequest, subscription_id: uuid.UUID, work: Callable[[Subscription], object], words: str
) -> HttpResponse:
    found = _found(subscription_id)
    with problems_said(request):
        work(found)
        messages.success(request, words)
    return redirect("subscription", found.pk)


def _found(subscription_id: uuid.UUID) -> Subscription:
    return get_object_or_404(Subscription.objects.select_related("instance"), pk=subscription_id)


def _waits(change: SubscriptionChange | None) -> bool:
    return change is not None and change.state == ChangeState.AWAITING_PAYMENT
