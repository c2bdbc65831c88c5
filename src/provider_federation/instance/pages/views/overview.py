"""The first page, and what needs attention."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from provider_federation.instance.entitlements.queries import allowed_now
from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.pages import figures
from provider_federation.instance.pages.access import page
from provider_federation.instance.pages.banner import federation_banner
from provider_federation.instance.pages.views.usage import plan_use
from provider_federation.instance.usage.queries import ai_usage

_FEW, _MANY = 5, 200


@page("billing.read")
def overview(request: HttpRequest) -> HttpResponse:
    newest = Invoice.objects.select_related("customer").order_by("-created_at", "-pk")[:_FEW]
    converted = Lead.objects.filter(converted_at__isnull=False).order_by("-converted_at", "-pk")[:_FEW]
    context = {
        "banner": federation_banner(),
        "figures": figures.overview(),
        **_plan(),
        "stripe_ready": bool(settings.STRIPE_SECRET_KEY),
        "alerts": figures.open_alerts(_FEW),
        "stuck": figures.stuck_events(_FEW),
        "invoices": newest,
        "leads": converted.select_related("customer"),
    }
    return render(request, "instance/overview.html", context)


def _plan() -> dict[str, object]:
    month = figures.this_month()
    limits = plan_use(month, ai_usage(month).calls)
    return {"allowed": allowed_now(), "limits": limits, "over": [one for one in limits if one.over]}


@page("billing.read")
def alerts(request: HttpRequest) -> HttpResponse:
    context = {"alerts": figures.open_alerts(_MANY), "stuck": figures.stuck_events(_MANY)}
    return render(request, "instance/alerts.html", context)
