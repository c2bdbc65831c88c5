"""Invoices after they left: who owes how long, what is credited, given back, disputed; statements."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.money import format_amount
from provider_federation.money.period import month_name
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.dashboard.pages import (
    actor,
    address,
    chosen,
    may,
    page,
    problems_at,
    problems_said,
    requires,
    say,
)
from provider_federation.portal.dashboard.views.receivables_forms import (
    CreditForm,
    DecisionForm,
    DisputeForm,
    RefundForm,
)
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables import filed, outstanding, queries
from provider_federation.portal.receivables.export import receivables_csv
from provider_federation.portal.receivables.models import DisputeState, LeadDispute, Receivable
from provider_federation.portal.receivables.services import (
    corrections,
    credit_notes,
    disputes,
    refunds,
    statement_files,
    statements,
)
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice
from provider_federation.portal.revenue.periods import latest_months, month_now
from provider_federation.portal.revenue.periods import month as read_month
from provider_federation.portal.revenue.services.sweep import sweep_account
from provider_federation.portal.subscriptions.account import stripe_problems

_A_PAGE = 25
_MOST_LEADS = 500
_SHOWN = 10
_FILES = {"pdf": statement_files.as_pdf, "csv": statement_files.as_csv}
_SORTS = ("amount", "client")
"""By what the list is sorted when not by age; within a client, or a currency, the oldest stay first."""


@dataclass(frozen=True)
class Way:
    """One way out of an invoice, as its page of confirmation says it."""

    title: str
    button: str
    done: str
    does: Callable[..., Receivable]


_WAYS = {
    "void": Way(
        "Void this invoice?", "Void it", "The invoice is void; its leads are free.", corrections.void_invoice
    ),
    "uncollectible": Way(
        "Write this invoice off?", "Write it off", "The invoice is written off.", corrections.write_off
    ),
}


@require_GET
@requires("billing.read")
def receivables(request: HttpRequest) -> HttpResponse:
    asked, order = _asked(request)
    part = Paginator(_Open(asked, order), _A_PAGE).get_page(request.GET.get("page"))
    part.object_list = [(one, queries.days_overdue(one), queries.due_of(one)) for one in part.object_list]
    return page(
        request,
        "receivables",
        title="Receivables",
        subtitle="What clients still owe the provider, the longest overdue first.",
        rows=part,
        ages=outstanding.ages(),
        only=chosen(request.GET, "only", ("overdue",)),
        sort=chosen(request.GET, "sort", _SORTS),
        export_query=address(request.GET),
        previous=address(request.GET, page=part.previous_page_number()) if part.has_previous() else "",
        following=address(request.GET, page=part.next_page_number()) if part.has_next() else "",
    )


@dataclass(frozen=True)
class _Open(Sequence[Any]):
    """The open invoices as a Paginator takes them: counted and cut in the database."""

    asked: outstanding.Asked
    order: outstanding.Order

    def __len__(self) -> int:
        return outstanding.count_open(self.asked)

    def __getitem__(self, place: Any) -> Any:
        return outstanding.open_slice(self.asked, self.order, place.start, place.stop)


@require_GET
@requires("billing.read")
def receivables_file(request: HttpRequest) -> HttpResponse:
    """The list as CSV, with the page's filter and order."""
    asked, order = _asked(request)
    text = receivables_csv(outstanding.every_open(asked, order))
    record(Kind.EXPORTED, actor(request), "receivables:csv", rows=text.count("\r\n") - 1)
    return csv_download(text, "receivables.csv")


def _asked(request: HttpRequest) -> tuple[outstanding.Asked, outstanding.Order]:
    overdue = bool(chosen(request.GET, "only", ("overdue",)))
    order = chosen(request.GET, "sort", _SORTS) or "age"
    return outstanding.Asked(overdue=overdue), cast("outstanding.Order", order)


@require_GET
@requires("billing.read")
def receivable(request: HttpRequest, stripe_invoice_id: str) -> HttpResponse:
    invoice = _invoice(stripe_invoice_id)
    usage = isinstance(invoice, UsageInvoice)
    return page(
        request,
        "receivable",
        title=f"{invoice.instance}, {invoice.number or invoice.stripe_invoice_id}",
        crumbs=[("Receivables", reverse("receivables"))],
        invoice=invoice,
        usage=usage,
        due=queries.due_of(invoice),
        days=queries.days_overdue(invoice),
        lines=queries.lines_left(invoice) if isinstance(invoice, UsageInvoice) else [],
        creditable=queries.creditable(invoice),
        refundable=queries.refundable(invoice),
        history=queries.history_of(invoice),
        charges=_charges(invoice),
        month=month_now().label,
    )


def _charges(invoice: Receivable) -> list[LeadCharge]:
    if not isinstance(invoice, UsageInvoice):
        return []
    rows = LeadCharge.objects.filter(line__invoice=invoice).prefetch_related("disputes")
    return list(rows[:_MOST_LEADS])


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def correct(request: HttpRequest, stripe_invoice_id: str, way: str) -> HttpResponse:
    """Void or write off: GET says what will happen, POST does it, once."""
    invoice, chosen_way = _invoice(stripe_invoice_id), _WAYS.get(way)
    if chosen_way is None:
        raise Http404
    if request.method == "POST":
        with problems_said(request):
            chosen_way.does(invoice, actor=actor(request))
            messages.success(request, chosen_way.done)
        return redirect("receivable", stripe_invoice_id)
    return page(
        request,
        "confirm_correction",
        title=chosen_way.title,
        crumbs=_crumbs(invoice),
        invoice=invoice,
        way=way,
        button=chosen_way.button,
        leads=LeadCharge.objects.filter(line__invoice=invoice.pk, released_at=None).count()
        if isinstance(invoice, UsageInvoice)
        else 0,
    )


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def credit(request: HttpRequest, stripe_invoice_id: str) -> HttpResponse:
    """Choose lines and amounts; look at what it comes to; make it."""
    invoice = _invoice(stripe_invoice_id)
    try:
        with stripe_problems():
            lines = credit_notes.credit_lines(invoice)
    except Problem as problem:
        say(request, problem)
        return redirect("receivable", stripe_invoice_id)
    form = CreditForm(invoice, lines, request.POST or None)
    preview = None
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            if "make" in request.POST:
                made = credit_notes.issue_credit_note(invoice, form.wanted, actor=actor(request))
                amount = format_amount(made.note.total_cents, made.note.currency)
                messages.success(request, f"Credit note {made.note.number} over {amount} was made.")
                return redirect("receivable", stripe_invoice_id)
            preview = credit_notes.preview_credit_note(invoice, form.wanted)
    return _form_page(request, "credit", "Credit this invoice", invoice, form, preview=preview)


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def refund(request: HttpRequest, stripe_invoice_id: str) -> HttpResponse:
    """How much goes back; what will happen; POST does it, once."""
    invoice = _invoice(stripe_invoice_id)
    form = RefundForm(invoice, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            made = refunds.refund_payment(invoice, form.wanted, actor=actor(request))
            amount = format_amount(made.amount_cents, made.refund.currency)
            messages.success(request, f"{amount} goes back to the client.")
            return redirect("receivable", stripe_invoice_id)
    return _form_page(request, "refund", "Give money back", invoice, form, left=queries.refundable(invoice))


def _form_page(
    request: HttpRequest, kind: str, title: str, invoice: Receivable, form: Any, **more: Any
) -> HttpResponse:
    status = 422 if form.errors else 200
    answer = page(
        request,
        "correction_form",
        title=title,
        crumbs=_crumbs(invoice),
        kind=kind,
        invoice=invoice,
        form=form,
        **more,
    )
    answer.status_code = status
    return answer


@require_GET
@requires("billing.read")
def lead_disputes(request: HttpRequest) -> HttpResponse:
    state = chosen(request.GET, "state", DisputeState.values)
    rows = queries.disputes().filter(state=state) if state else queries.disputes()
    part = Paginator(rows, _A_PAGE).get_page(request.GET.get("page"))
    return page(
        request,
        "disputes",
        title="Lead disputes",
        subtitle="What clients say that they should not pay for.",
        rows=part,
        state=state,
        states=DisputeState.choices,
        heard=filed.coverage(),
        unbilled=[] if state else filed.not_billed(_SHOWN),
        previous=address(request.GET, page=part.previous_page_number()) if part.has_previous() else "",
        following=address(request.GET, page=part.next_page_number()) if part.has_next() else "",
    )


@require_http_methods(["GET", "POST"])
@requires("billing.manage")
def raise_dispute(request: HttpRequest, charge_id: int) -> HttpResponse:
    charge = get_object_or_404(LeadCharge.objects.select_related("instance", "line__invoice"), pk=charge_id)
    form = DisputeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            row = disputes.raise_dispute(charge, form.cleaned_data["claim"], actor=actor(request))
            return redirect("lead-dispute", row.pk)
    return page(
        request,
        "raise_dispute",
        title=f"Lead {charge.lead_public_id or charge.lead_id}: the client's words",
        crumbs=_crumbs(charge.line.invoice),
        charge=charge,
        form=form,
    )


@require_http_methods(["GET", "POST"])
@requires("billing.read")
def lead_dispute(request: HttpRequest, dispute_id: uuid.UUID) -> HttpResponse:
    """Who may read may look; deciding is for those who bill."""
    if request.method == "POST" and not may(request, "billing.manage"):
        raise PermissionDenied
    row = get_object_or_404(queries.disputes(), pk=dispute_id)
    form = DecisionForm(row.charge.line.invoice, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            _decide(request, row, form)
            return redirect("lead-dispute", row.pk)
    return page(
        request,
        "dispute",
        title=f"Lead {row.charge.lead_public_id or row.charge.lead_id}",
        crumbs=[("Lead disputes", reverse("lead-disputes"))],
        dispute=row,
        charge=row.charge,
        invoice=row.charge.line.invoice,
        filings=row.filings.all(),
        form=form,
    )


def _decide(request: HttpRequest, row: LeadDispute, form: DecisionForm) -> None:
    given = form.cleaned_data
    if "accept" in request.POST:
        disputes.accept_dispute(
            row,
            decision=given["decision"],
            frees_lead=given["frees_lead"],
            settle=given["settle"],
            actor=actor(request),
        )
        messages.success(request, "Accepted; the credit note is made.")
    else:
        disputes.reject_dispute(row, decision=given["decision"], actor=actor(request))
        messages.success(request, "Rejected; the charge stands.")


@require_GET
@requires("billing.read")
def statement(request: HttpRequest, instance_id: uuid.UUID, period: str, ending: str = "") -> HttpResponse:
    """The page, or with an ending the file."""
    if ending and ending not in _FILES:
        raise Http404
    instance = get_object_or_404(Instance, pk=instance_id)
    try:
        found = statements.statement_of(instance, read_month(period))
    except Problem as problem:
        say(request, problem)
        return redirect("statement", instance_id, month_now().previous().label)
    if ending:
        return _FILES[ending](found)
    return page(
        request,
        "statement",
        title=f"Statement {month_name(found.month.label)}",
        subtitle=f"From {settings.PROVIDER_NAME} to {instance}",
        crumbs=[("Receivables", reverse("receivables"))],
        statement=found,
        instance=instance,
        months=latest_months(12),
    )


@require_POST
@requires("billing.manage")
def sweep(request: HttpRequest) -> HttpResponse:
    with problems_said(request), stripe_problems():
        swept = sweep_account(actor=actor(request))
        messages.success(
            request, f"{swept.looked_at} objects looked at, {swept.found} of them were news to us."
        )
    return redirect("webhooks")


def _invoice(stripe_invoice_id: str) -> Receivable:
    try:
        return queries.receivable(stripe_invoice_id)
    except Problem as problem:
        raise Http404 from problem


def _crumbs(invoice: Receivable) -> list[tuple[str, str]]:
    here = reverse("receivable", args=[invoice.stripe_invoice_id])
    return [("Receivables", reverse("receivables")), (invoice.number or str(invoice), here)]
