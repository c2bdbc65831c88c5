"""What a client's AI usage costs: the cap and the markup, now, next and as they were."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.money.period import month_name
from provider_federation.portal.dashboard.forms import AiTermsForm
from provider_federation.portal.dashboard.pages import actor, page, requires, tell_form
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions import ai_terms as terms

_MONTHS_OFFERED = 12


@require_GET
@requires("billing.read")
def ai_terms(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    view = terms.view_ai_terms(instance)
    newest = view.history[0].terms if view.history else view.in_force
    initial = AiTermsForm.initial_of(newest, instance.currency)
    return _page(request, instance, view, AiTermsForm(None, months=_months(view), initial=initial))


@require_POST
@requires("billing.manage")
def set_ai_terms(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    """From the chosen month on; what cannot be is said beside its field."""
    instance = get_object_or_404(Instance, pk=instance_id)
    view = terms.view_ai_terms(instance)
    form = AiTermsForm(request.POST, months=_months(view))
    if form.is_valid() and _set(request, instance, form):
        return redirect("ai-terms", instance.pk)
    return _page(request, instance, view, form)


def _set(request: HttpRequest, instance: Instance, form: AiTermsForm) -> bool:
    month = form.cleaned_data["first_month"]
    try:
        made = terms.set_ai_terms(
            instance, form.terms(instance.currency), first_month=month, actor=actor(request)
        )
    except Problem as problem:
        tell_form(form, problem)
        return False
    held, new = (
        "These terms hold already, or will by then.",
        f"The new terms hold from {month_name(month)} on.",
    )
    messages.success(request, held if made.reused else new)
    return True


def _months(view: terms.TermsView) -> list[str]:
    months = [view.month.next()]
    while len(months) < _MONTHS_OFFERED:
        months.append(months[-1].next())
    return [month.label for month in months]


def _page(request: HttpRequest, instance: Instance, view: terms.TermsView, form: AiTermsForm) -> HttpResponse:
    return page(
        request,
        "ai_terms",
        title=f"AI usage of {instance}",
        subtitle="What is passed on a month: the cost with its markup, up to the cap.",
        crumbs=[
            ("Instances", reverse("instances")),
            (str(instance), reverse("instance", args=[instance.pk])),
        ],
        instance=instance,
        terms=view,
        form=form,
    )
