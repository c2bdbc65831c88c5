"""Disputes of leads: the list, its export, and filing one."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from provider_federation.instance.disputes import queries
from provider_federation.instance.disputes.models import Dispute
from provider_federation.instance.disputes.services import file_dispute
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.pages.access import page, signed_in
from provider_federation.instance.pages.csv_export import disputes_csv
from provider_federation.instance.pages.forms import DisputeFilter, DisputeForm
from provider_federation.instance.pages.listing import make_listing
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem, not_found
from provider_federation.kit.web.downloads import csv_download

_COLUMNS = {"filed": "filed_at", "lead": "lead__public_id", "state": "state", "decided": "decided_at"}
_ROWS_AT_ONCE = 500
_log = get_logger(__name__)


@page("billing.read")
def disputes(request: HttpRequest) -> HttpResponse:
    form = DisputeFilter(request.GET)
    listing = make_listing(_filtered(form), request.GET, _COLUMNS, default="-filed")
    context = {"form": form, "listing": listing, "export_query": listing.address(page=None, sort=None)}
    return render(request, "instance/disputes.html", context)


@page("billing.read")
def export(request: HttpRequest) -> HttpResponse:
    """Everything that the filter lets through, newest first."""
    form = DisputeFilter(request.GET)
    if not form.is_valid():
        sentence = "This filter cannot be read; choose it on the page of the disputes."
        raise Problem(400, "invalid_field", sentence)
    rows = _filtered(form).order_by("-filed_at", "-pk").iterator(_ROWS_AT_ONCE)
    return csv_download(disputes_csv(rows), "disputes.csv")


@page("billing.manage", writes=True)
def dispute(request: HttpRequest, pk: int) -> HttpResponse:
    """File a dispute of a lead; one that waits for its decision is shown instead of a second."""
    lead = _get(pk)
    problem = queries.problem_with(lead)
    if problem is not None:
        raise problem
    if queries.undecided_of(lead) is not None:
        messages.info(request, f"A dispute of {lead.public_id} waits for the provider's decision already.")
        return redirect("lead", pk=pk)
    form = DisputeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _filed(request, form, lead):
        return redirect("lead", pk=pk)
    context = {
        "form": form,
        "title": f"Dispute the charge of {lead.public_id}",
        "intro": (
            "The provider charges for every converted lead of the system. If this one should not have been "
            "charged, say why. The provider decides; no amount changes before that."
        ),
        "button": "File the dispute",
        "back_url": reverse("lead", args=[pk]),
    }
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


def _filed(request: HttpRequest, form: DisputeForm, lead: Lead) -> bool:
    try:
        row, made = file_dispute(lead.pk, form.cleaned_data["claim"], by=signed_in(request))
    except Problem as problem:
        form.add_error(None, problem.message)
        return False
    if made:
        _log.info("dispute filed", dispute=row.reference, lead=lead.public_id, by=row.filed_by_id)
    messages.success(request, f"The dispute of {lead.public_id} is filed; the provider fetches it by itself.")
    return True


def _get(pk: int) -> Lead:
    found = Lead.objects.filter(pk=pk).first()
    if found is None:
        raise not_found("lead")
    return found


def _filtered(form: DisputeFilter) -> QuerySet[Dispute]:
    if not form.is_valid():
        return Dispute.objects.none()
    asked, rows = form.cleaned_data, queries.disputes()
    if asked["state"]:
        rows = rows.filter(state=asked["state"])
    if asked["q"]:
        words = asked["q"]
        rows = rows.filter(
            Q(lead__public_id__icontains=words)
            | Q(lead__name__icontains=words)
            | Q(claim__icontains=words)
            | Q(credit_note_number__icontains=words)
        )
    return rows
