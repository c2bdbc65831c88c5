"""The clients' subscriptions in the provider's Stripe account."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.money import MoneyError
from provider_federation.portal.dashboard.forms import SubscriptionForm
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    chosen,
    page,
    requires,
    say,
    tell_form,
)
from provider_federation.portal.subscriptions import services
from provider_federation.portal.subscriptions.models import PlanCode, Status, Subscription
from provider_federation.portal.subscriptions.queries import summarise

_COLUMNS = (
    Column("client", "Client", "instance__title"),
    Column("plan", "Plan", "plan"),
    Column("status", "Status", "status"),
    Column("fee", "Fee a month", "fee_cents", right=True),
    Column("end", "Paid until", "current_period_end"),
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
    )


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
    found = get_object_or_404(Subscription.objects.select_related("instance"), pk=subscription_id)
    return page(
        request,
        "subscription",
        title=f"{found.instance}: {found.get_plan_display()}",
        crumbs=_crumbs(),
        subscription=found,
        invoices=found.invoices.order_by("-billed_at")[:24],
        history=found.instance.plan_changes.order_by("-effective_at", "-id")[:12],
        payable=found.status in {Status.INCOMPLETE, Status.PAST_DUE, Status.UNPAID}
        and found.hosted_invoice_url,
        unfinished=found.status == Status.CREATING,
    )


@require_POST
@requires("billing.manage")
def cancel_subscription(request: HttpRequest, subscription_id: uuid.UUID) -> HttpResponse:
    """At the end of what is paid, or at once when `when` says now."""
    found = get_object_or_404(Subscription.objects.select_related("instance"), pk=subscription_id)
    now = request.POST.get("when") == "now"
    try:
        services.cancel_subscription(found, immediate=now, actor=actor(request))
        messages.success(request, "It ended." if now else "It ends with the period that is paid.")
    except Problem as problem:
        say(request, problem)
    return redirect("subscription", found.pk)
