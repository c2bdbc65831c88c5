"""`/api/provider/billing/…`: revenue, the provider's usage invoices (contract, section 4)."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.revenue import queries, services
from provider_federation.portal.revenue.models import UsageStatus
from provider_federation.portal.revenue.periods import month_between, months_asked
from provider_federation.portal.revenue.schemas import (
    InvoiceUsageIn,
    all_revenue_out,
    client_revenue_out,
    invoiced_out,
    usage_invoice_out,
)

router = Router(tags=["revenue"])
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")

Text = Annotated[str | None, Query(max_length=128)]


@router.get("/revenue", auth=_read, summary="What clients bring in a month: subscription, leads, AI usage")
def revenue(
    request: HttpRequest,
    clientOrgId: Text = None,
    period: Text = None,
    startDate: Text = None,
    endDate: Text = None,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "period", "startDate", "endDate"))
    months = months_asked(period, startDate, endDate)
    if clientOrgId is None:
        return all_revenue_out(services.calculate_all_revenue(months), months)
    return client_revenue_out(services.calculate_revenue(get_by_org(clientOrgId), months), months)


@router.post(
    "/revenue", auth=_manage, response={200: dict, 201: dict}, summary="Make the client's usage invoice, once"
)
def invoice_usage(request: HttpRequest, payload: InvoiceUsageIn) -> Status[dict[str, Any]]:
    refuse_unknown_query(request, ())
    month = month_between(payload.period_start, payload.period_end)
    result = services.invoice_usage(get_by_org(payload.client_org_id), month, actor=_actor(request))
    made = result.invoice is not None and not result.reused
    return Status(201 if made else 200, invoiced_out(result))


@router.get("/invoices", auth=_read, summary="The provider's usage invoices, newest first")
def list_invoices(
    request: HttpRequest,
    clientOrgId: Text = None,
    status: Text = None,
    period: Text = None,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "status", "period", "cursor", "limit"))
    if status and status not in UsageStatus.values:
        raise Problem(
            400, "invalid_field", f"status: one of {', '.join(UsageStatus.values)}.", field="status"
        )
    page = queries.list_usage_invoices(
        client_org_id=clientOrgId or "", status=status or "", period=period or "", cursor=cursor, limit=limit
    )
    items = [usage_invoice_out(row) for row in page.items]
    return {"ok": True, "items": items, "nextCursor": page.next_cursor}


@router.get("/invoices/{invoice_id}", auth=_read, summary="One usage invoice with its frozen lines")
def get_invoice(request: HttpRequest, invoice_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return {"ok": True, "invoice": usage_invoice_out(queries.usage_invoice(invoice_id), lines=True)}


@router.post("/invoices/{invoice_id}/release", auth=_manage, summary="Bill what was held, after a look at it")
def release_invoice(request: HttpRequest, invoice_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    held = queries.usage_invoice(invoice_id)
    return invoiced_out(services.release_usage_invoice(held, actor=_actor(request)))


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
