"""From billable leads to drafts: a window, what it holds, a confirmation, the drafts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.queries import drafts_of_window
from provider_federation.instance.invoicing.services import Drafted
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.pages import figures
from provider_federation.instance.pages.access import page
from provider_federation.instance.pages.forms import LinesForm, WindowForm, lines_text
from provider_federation.kit.problem import Problem

MOST_LEADS = 1_000


@dataclass(frozen=True)
class Coming:
    """One draft to be: a customer, a currency, its leads."""

    customer: str
    currency: str
    leads: list[Lead]
    total_cents: int


@page("billing.manage")
def billing(request: HttpRequest) -> HttpResponse:
    """What a window holds that can be billed, and the drafts that hold the rest of it."""
    form = WindowForm(request.GET or {"range": "d30"})
    if not form.is_valid():
        return render(request, "instance/billing.html", {"form": form}, status=422)
    leads = services.preview_billable(form.window)
    context = {
        "form": form,
        "window": form.window,
        "leads": leads[:MOST_LEADS],
        "too_many": len(leads) > MOST_LEADS,
        "sums": figures.sums_of_leads(leads),
        "coming": coming_drafts(leads),
        "drafts": drafts_of_window(form.window),
        "query": request.GET.urlencode(),
    }
    return render(request, "instance/billing.html", context)


@page("billing.manage", writes=True)
def draft(request: HttpRequest) -> HttpResponse:
    """GET shows the drafts to be. POST drafts exactly the leads that were shown, at the amounts that were shown."""
    if request.method == "POST":
        return _draft(request)
    form = WindowForm(request.GET)
    if not form.is_valid():
        return render(request, "instance/billing.html", {"form": form}, status=422)
    leads = services.preview_billable(form.window)
    _check_count(len(leads))
    context = {
        "window": form.window,
        "sums": figures.sums_of_leads(leads),
        "coming": coming_drafts(leads),
        "lines": lines_text(leads),
        "query": request.GET.urlencode(),
    }
    return render(request, "instance/draft.html", context)


def coming_drafts(leads: list[Lead]) -> list[Coming]:
    """As drafting will group them: one for each customer and currency."""

    def whose(lead: Lead) -> tuple[str, int, str]:
        return str(lead.customer), lead.customer_id or 0, lead.currency

    groups = ((key, list(group)) for key, group in groupby(sorted(leads, key=whose), key=whose))
    return [
        Coming(name, currency, group, sum(lead.price_cents or 0 for lead in group))
        for (name, _, currency), group in groups
    ]


def _draft(request: HttpRequest) -> HttpResponse:
    form = LinesForm(request.POST)
    if not form.is_valid():
        raise Problem(400, "invalid_field", "This list of leads cannot be read; open the page again.")
    wanted = form.cleaned_data["lines"]
    _check_count(len(wanted))
    drafted = services.draft_lines(wanted)
    messages.success(request, _told(drafted))
    if len(drafted.invoices) == 1:
        return redirect("invoice", pk=drafted.invoices[0].pk)
    return redirect("invoices")


def _told(drafted: Drafted) -> str:
    sums = figures.add_up(
        ((one.currency, one.total_cents) for one in drafted.invoices), len(drafted.invoices)
    )
    drafts = "1 draft" if sums.count == 1 else f"{sums.count} drafts"
    return (
        f"Nothing new: {drafts} held these leads already."
        if drafted.reused
        else f"{drafts} made; nothing is sent yet."
    )


def _check_count(count: int) -> None:
    if not count:
        raise Problem(409, "nothing_billable", "Nothing in this window is billable.")
    if count > MOST_LEADS:
        raise Problem(409, "too_many_lines", f"At most {MOST_LEADS} leads at once; choose a shorter window.")
