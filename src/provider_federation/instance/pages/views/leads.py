"""Leads and customers."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from provider_federation.instance.disputes.queries import disputes_of, problem_with
from provider_federation.instance.invoicing.models import Invoice
from provider_federation.instance.leads import services
from provider_federation.instance.leads.models import Customer, Lead
from provider_federation.instance.leads.queries import chargeable_leads
from provider_federation.instance.pages import figures
from provider_federation.instance.pages.access import page
from provider_federation.instance.pages.forms import CustomerFilter, LeadFilter
from provider_federation.instance.pages.listing import make_listing
from provider_federation.kit.problem import Problem, not_found

_LEAD_COLUMNS = {
    "created": "created_at", "converted": "converted_at", "lead": "public_id", "customer": "customer__name",
    "price": "price_cents", "status": "status",
}  # fmt: skip
_CUSTOMER_COLUMNS = {
    "created": "created_at",
    "name": "name",
    "leads": "lead_count",
    "invoices": "invoice_count",
}


@page("billing.read")
def leads(request: HttpRequest) -> HttpResponse:
    form = LeadFilter(request.GET)
    rows = _filtered(form) if form.is_valid() else Lead.objects.none()
    rows = rows.select_related("customer", "reservation__line__invoice")
    listing = make_listing(rows, request.GET, _LEAD_COLUMNS)
    return render(request, "instance/leads.html", {"form": form, "listing": listing})


@page("billing.read")
def lead(request: HttpRequest, pk: int) -> HttpResponse:
    found = _get(pk)
    history = found.invoice_lines.select_related("invoice").order_by("-invoice__created_at", "-pk")
    disputes = list(disputes_of(found))
    can_dispute = problem_with(found) is None and not any(row.undecided for row in disputes)
    context = {
        "lead": found,
        "history": history,
        "billing": billing_of(found),
        "disputes": disputes,
        "can_dispute": can_dispute,
    }
    return render(request, "instance/lead.html", context)


@page("billing.manage", writes=True)
def convert(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark a lead as converted now. The time is set once; doing it twice changes nothing."""
    found = _get(pk)
    if request.method == "POST":
        services.convert_lead(pk)
        messages.success(request, f"{found.public_id} is converted.")
        return redirect("lead", pk=pk)
    if found.converted_at is not None:
        raise Problem(
            409, "already_converted", f"{found.public_id} is converted already; its time stays as it is."
        )
    context = {
        "title": f"Mark {found.public_id} as converted?",
        "sentences": [
            "Its conversion time will be now, for good: it cannot be taken back or moved.",
            "From then on it can be billed to its customer, and the provider counts it in this month's usage.",
        ],
        "button": "Mark as converted",
        "back_url": reverse("lead", args=[pk]),
    }
    return render(request, "instance/confirm.html", context)


@page("billing.manage", writes=True)
def eligible(request: HttpRequest, pk: int, *, wanted: bool) -> HttpResponse:
    """Whether a lead may be billed. Two addresses, one for each answer: twice is the same as once."""
    found = _get(pk)
    if request.method == "POST":
        services.set_eligible(pk, eligible=wanted)
        messages.success(request, f"{found.public_id} {'may' if wanted else 'will not'} be billed.")
        return redirect("lead", pk=pk)
    may_or_not = "It can be drafted with the next invoices." if wanted else "Drafting will leave it out."
    context = {
        "title": f"Mark {found.public_id} as {'' if wanted else 'not '}eligible?",
        "sentences": [may_or_not, "An invoice that holds it already stays as it is."],
        "button": f"Mark as {'' if wanted else 'not '}eligible",
        "back_url": reverse("lead", args=[pk]),
    }
    return render(request, "instance/confirm.html", context)


@page("billing.read")
def customers(request: HttpRequest) -> HttpResponse:
    form = CustomerFilter(request.GET)
    rows = Customer.objects.annotate(lead_count=_count_of(Lead), invoice_count=_count_of(Invoice))
    words = form.cleaned_data["q"] if form.is_valid() else ""
    if words:
        rows = rows.filter(Q(name__icontains=words) | Q(email__icontains=words))
    listing = make_listing(rows if form.is_valid() else rows.none(), request.GET, _CUSTOMER_COLUMNS)
    billed = figures.billed_by_customer([row.pk for row in listing.page])
    shown = [(row, billed[row.pk]) for row in listing.page]
    return render(request, "instance/customers.html", {"form": form, "listing": listing, "rows": shown})


def billing_of(found: Lead) -> str:
    """One sentence: on which invoice, billable now, or why not."""
    reservation = getattr(found, "reservation", None)
    if reservation is not None:
        return f"On invoice {reservation.line.invoice.number}."
    reasons = {
        "it has not converted": found.converted_at is None,
        "it did not come from the system": found.source != "system",
        "it is marked as not eligible": not found.eligible,
        "it has no price": found.price_cents is None,
        "it belongs to no customer": found.customer_id is None,
    }
    against = [reason for reason, applies in reasons.items() if applies]
    return f"Not billable: {', '.join(against)}." if against else "Billable now."


def _count_of(model: type[Lead | Invoice]) -> Coalesce:
    """By itself for each customer: two joins at once would multiply leads with invoices."""
    counted = (
        model.objects.filter(customer=OuterRef("pk")).order_by().values("customer").annotate(n=Count("pk"))
    )
    return Coalesce(Subquery(counted.values("n")), 0)


def _get(pk: int) -> Lead:
    found = Lead.objects.select_related("customer", "reservation__line__invoice").filter(pk=pk).first()
    if found is None:
        raise not_found("lead")
    return found


def _filtered(form: LeadFilter) -> QuerySet[Lead]:
    asked, rows = form.cleaned_data, Lead.objects.all()
    if asked["status"]:
        rows = rows.filter(status=asked["status"])
    if asked["q"]:
        words = asked["q"]
        rows = rows.filter(
            Q(public_id__icontains=words) | Q(name__icontains=words) | Q(customer__name__icontains=words)
        )
    if asked["billed"] == "invoiced":
        return rows.filter(reservation__isnull=False)
    if asked["billed"] == "billable":
        return rows.filter(pk__in=chargeable_leads().values("pk"), reservation__isnull=True)
    if asked["billed"] == "no":
        return rows.exclude(pk__in=chargeable_leads().values("pk")).filter(reservation__isnull=True)
    return rows
