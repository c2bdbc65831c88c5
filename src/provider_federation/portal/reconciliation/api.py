"""`GET /api/provider/billing/reconcile`: do the portal's ledger and the provider's Stripe account agree?
Reads only.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.reconciliation.services import Difference, compare_provider_account
from provider_federation.portal.revenue.schemas import ledger_out

router = Router(tags=["reconciliation"])


@router.get(
    "/reconcile", auth=operator_or_token("billing.read"), summary="The ledger against Stripe, line by line"
)
def reconcile(
    request: HttpRequest,
    clientOrgId: Annotated[str | None, Query(max_length=128)] = None,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId",))
    instance = get_by_org(clientOrgId) if clientOrgId is not None else None
    found = compare_provider_account(instance)
    return {
        "ok": True,
        "agrees": found.agrees,
        "checkedAt": found.at.isoformat().replace("+00:00", "Z"),
        "clientOrgId": clientOrgId,
        "portal": ledger_out(found.portal),
        "stripe": ledger_out(found.stripe),
        "differences": [_difference(one) for one in found.differences],
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "class": one.kind,
        "message": one.message,
        "clientOrgId": one.client_org_id,
        "stripeInvoiceId": one.stripe_invoice_id,
        "portal": one.portal,
        "stripe": one.stripe,
    }
