"""`/api/provider/billing/…`: the ledger, invoices after they left, disputes of leads, statements, the sweep."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.receivables import filed, outstanding, queries
from provider_federation.portal.receivables.ledger import ledger_totals
from provider_federation.portal.receivables.models import Answer, DisputeState
from provider_federation.portal.receivables.schemas import (
    AcceptIn,
    CreditNoteIn,
    DisputeIn,
    RefundIn,
    RejectIn,
    ages_out,
    credit_note_out,
    dispute_out,
    filing_out,
    heard_out,
    ledger_out,
    preview_out,
    receivable_out,
    step_out,
    unknown_out,
    whole_out,
    whole_refund_out,
)
from provider_federation.portal.receivables.services import (
    corrections,
    credit_notes,
    disputes,
    dunning,
    refunds,
    statement_files,
    statements,
)
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.services.sweep import sweep_account
from provider_federation.portal.subscriptions.account import stripe_problems

router = Router(tags=["receivables"])
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")

Text = Annotated[str | None, Query(max_length=128)]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("/ledger", auth=_read, summary="Billed, paid, collected and outstanding, by currency")
def ledger(request: HttpRequest, clientOrgId: Text = None) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId",))
    instance = get_by_org(clientOrgId) if clientOrgId is not None else None
    totals = [ledger_out(currency, one) for currency, one in ledger_totals(instance).items()]
    coverage = unknown_out(outstanding.unknown())
    return {"ok": True, "clientOrgId": clientOrgId, "totals": totals, "coverage": coverage}


@router.get(
    "/receivables",
    auth=_read,
    summary="What is open and owed, the longest overdue first; the sums are over all of it",
)
def list_receivables(
    request: HttpRequest,
    clientOrgId: Text = None,
    overdue: bool = False,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "overdue", "cursor", "limit"))
    client = get_by_org(clientOrgId) if clientOrgId is not None else None
    asked = outstanding.Asked(client, overdue)
    page = outstanding.list_open(asked, cursor=cursor, limit=limit)
    return {
        "ok": True,
        "items": [receivable_out(one) for one in page.items],
        "count": outstanding.count_open(asked),
        "nextCursor": page.next_cursor,
        "ages": ages_out(outstanding.ages(client)),
        "coverage": unknown_out(outstanding.unknown()),
    }


@router.get("/receivables/{stripe_invoice_id}", auth=_read, summary="One invoice and all that happened to it")
def get_receivable(request: HttpRequest, stripe_invoice_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return {"ok": True, "invoice": whole_out(queries.receivable(stripe_invoice_id))}


@router.post(
    "/receivables/{stripe_invoice_id}/void", auth=_manage, summary="Void an open invoice; its leads are free"
)
def void_invoice(request: HttpRequest, stripe_invoice_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    row = corrections.void_invoice(queries.receivable(stripe_invoice_id), actor=_actor(request))
    return {"ok": True, "invoice": receivable_out(row)}


@router.post(
    "/receivables/{stripe_invoice_id}/uncollectible", auth=_manage, summary="Write an open invoice off"
)
def write_off(request: HttpRequest, stripe_invoice_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    row = corrections.write_off(queries.receivable(stripe_invoice_id), actor=_actor(request))
    return {"ok": True, "invoice": receivable_out(row)}


@router.post(
    "/receivables/{stripe_invoice_id}/credit-notes/preview",
    auth=_read,
    summary="What a credit note would come to",
)
def preview_credit_note(
    request: HttpRequest, stripe_invoice_id: str, payload: CreditNoteIn
) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    invoice = queries.receivable(stripe_invoice_id)
    return {"ok": True, "preview": preview_out(credit_notes.preview_credit_note(invoice, payload.request()))}


@router.post(
    "/receivables/{stripe_invoice_id}/credit-notes",
    auth=_manage,
    response={200: dict, 201: dict},
    summary="Credit lines of an invoice, or the whole of it, once",
)
def issue_credit_note(
    request: HttpRequest, stripe_invoice_id: str, payload: CreditNoteIn
) -> Status[dict[str, Any]]:
    refuse_unknown_query(request, ())
    invoice = queries.receivable(stripe_invoice_id)
    made = credit_notes.issue_credit_note(invoice, payload.request(), actor=_actor(request))
    answer = {"ok": True, "reused": made.reused, "creditNote": credit_note_out(made.note)}
    return Status(200 if made.reused else 201, answer)


@router.post(
    "/receivables/{stripe_invoice_id}/refunds",
    auth=_manage,
    response={200: dict, 201: dict},
    summary="Give back what was paid, once",
)
def refund_payment(request: HttpRequest, stripe_invoice_id: str, payload: RefundIn) -> Status[dict[str, Any]]:
    refuse_unknown_query(request, ())
    invoice = queries.receivable(stripe_invoice_id)
    made = refunds.refund_payment(invoice, payload.request(), actor=_actor(request))
    answer = {"ok": True, "reused": made.reused, "refund": whole_refund_out(made)}
    return Status(200 if made.reused else 201, answer)


@router.get("/disputes", auth=_read, summary="Disputes of leads, newest first")
def list_disputes(
    request: HttpRequest,
    clientOrgId: Text = None,
    state: Text = None,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "state", "cursor", "limit"))
    _check_state(state, DisputeState.values)
    page = queries.list_disputes(
        client_org_id=clientOrgId or "", state=state or "", cursor=cursor, limit=limit
    )
    items = [dispute_out(one) for one in page.items]
    heard = heard_out(filed.coverage())
    return {"ok": True, "items": items, "nextCursor": page.next_cursor, "coverage": heard}


@router.get("/client-disputes", auth=_read, summary="What clients filed themselves, and what they were told")
def list_client_disputes(
    request: HttpRequest,
    clientOrgId: Text = None,
    state: Text = None,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Limit = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "state", "cursor", "limit"))
    _check_state(state, Answer.values)
    page = filed.list_filings(client_org_id=clientOrgId or "", state=state or "", cursor=cursor, limit=limit)
    items = [filing_out(one, one.instance.org_id) for one in page.items]
    heard = heard_out(filed.coverage())
    return {"ok": True, "items": items, "nextCursor": page.next_cursor, "coverage": heard}


@router.post(
    "/disputes", auth=_manage, response={200: dict, 201: dict}, summary="Record a client's dispute of a lead"
)
def raise_dispute(request: HttpRequest, payload: DisputeIn) -> Status[dict[str, Any]]:
    refuse_unknown_query(request, ())
    charge = disputes.find_charge(get_by_org(payload.client_org_id).org_id, payload.lead_id)
    row = disputes.raise_dispute(charge, payload.claim, actor=_actor(request))
    return Status(201, {"ok": True, "dispute": dispute_out(queries.dispute(str(row.pk)))})


@router.get("/disputes/{dispute_id}", auth=_read, summary="One dispute with the lead's evidence")
def get_dispute(request: HttpRequest, dispute_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return {"ok": True, "dispute": dispute_out(queries.dispute(dispute_id))}


@router.post("/disputes/{dispute_id}/accept", auth=_manage, summary="The client is right: credit the lead")
def accept_dispute(request: HttpRequest, dispute_id: str, payload: AcceptIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    row = disputes.accept_dispute(
        queries.dispute(dispute_id),
        decision=payload.decision,
        frees_lead=payload.frees_lead,
        settle=payload.settle,
        actor=_actor(request),
    )
    return {"ok": True, "dispute": dispute_out(queries.dispute(str(row.pk)))}


@router.post("/disputes/{dispute_id}/reject", auth=_manage, summary="The charge stands")
def reject_dispute(request: HttpRequest, dispute_id: str, payload: RejectIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    row = disputes.reject_dispute(
        queries.dispute(dispute_id), decision=payload.decision, actor=_actor(request)
    )
    return {"ok": True, "dispute": dispute_out(queries.dispute(str(row.pk)))}


@router.post("/dunning", auth=_manage, summary="Do every reminder and escalation that is due now")
def remind(request: HttpRequest) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    done = [
        step_out(step) | {"stripeInvoiceId": step.invoice.stripe_invoice_id} for step in dunning.remind_all()
    ]
    return {"ok": True, "steps": done}


@router.post("/sweep", auth=_manage, summary="Look through the Stripe account for what no event told us of")
def sweep(request: HttpRequest) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    with stripe_problems():
        swept = sweep_account(actor=_actor(request))
    return {"ok": True, "lookedAt": swept.looked_at, "found": swept.found, "problems": swept.problems}


@router.get("/statements", auth=_read, summary="What happened on a client's account in a month, by currency")
def get_statement(request: HttpRequest, clientOrgId: Text = None, period: Text = None) -> dict[str, Any]:
    return {"ok": True, "statement": statements.statement_out(_statement(request, clientOrgId, period))}


@router.get("/statements.csv", auth=_read, summary="The same as CSV")
def get_statement_csv(request: HttpRequest, clientOrgId: Text = None, period: Text = None) -> HttpResponse:
    return statement_files.as_csv(_statement(request, clientOrgId, period))


@router.get("/statements.pdf", auth=_read, summary="The same as PDF")
def get_statement_pdf(request: HttpRequest, clientOrgId: Text = None, period: Text = None) -> HttpResponse:
    return statement_files.as_pdf(_statement(request, clientOrgId, period))


def _statement(request: HttpRequest, org: str | None, period: str | None) -> statements.Statement:
    refuse_unknown_query(request, ("clientOrgId", "period"))
    for name, value in (("clientOrgId", org), ("period", period)):
        if not value:
            raise Problem(400, "invalid_field", f"{name}: say which.", field=name)
    return statements.statement_of(get_by_org(org or ""), month(period or ""))


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))


def _check_state(state: str | None, known: list[str]) -> None:
    if state and state not in known:
        raise Problem(400, "invalid_field", f"state: one of {', '.join(known)}.", field="state")
