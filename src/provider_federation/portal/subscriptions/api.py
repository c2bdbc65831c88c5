"""`/api/provider/billing/subscriptions`: who subscribes to what (contract, section 4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.subscriptions import queries, services
from provider_federation.portal.subscriptions.models import Status as SubscriptionStatus
from provider_federation.portal.subscriptions.schemas import SubscribeIn, page_out, subscription_out

router = Router(tags=["subscriptions"])
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")


@router.get("", auth=_read, summary="Subscriptions, newest first, with sums over all of them")
def list_subscriptions(
    request: HttpRequest,
    clientOrgId: Annotated[str, Query(max_length=128)] = "",
    planId: Literal["", "BASE", "PRO", "ELITE"] = "",
    status: Annotated[str, Query(description=", ".join(SubscriptionStatus.values), max_length=32)] = "",
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=queries.MOST)] = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, ("clientOrgId", "planId", "status", "cursor", "limit"))
    filters = queries.Filters(plan=planId, status=queries.known_status(status), client_org_id=clientOrgId)
    page = queries.list_subscriptions(filters, cursor=cursor, limit=limit)
    return page_out(page, queries.summarise())


@router.post("", auth=_manage, response={200: dict, 201: dict}, summary="Subscribe a client to a plan, once")
def create_subscription(request: HttpRequest, payload: SubscribeIn) -> Status[dict[str, Any]]:
    refuse_unknown_query(request, ())
    details = payload.billing_details
    created = services.create_subscription(
        get_by_org(payload.client_org_id),
        payload.plan_id,
        actor=_actor(request),
        payment_method=payload.payment_method_id or "",
        billing_details=details.model_dump() if details else None,
    )
    answer = {"ok": True, "reused": created.reused, "subscription": subscription_out(created.subscription)}
    return Status(200 if created.reused else 201, answer)


@router.get("/{subscription_id}", auth=_read, summary="One subscription")
def get_subscription(request: HttpRequest, subscription_id: str) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return {"ok": True, "subscription": subscription_out(queries.get_subscription(subscription_id))}


@router.delete("/{subscription_id}", auth=_manage, summary="Cancel: at the end of the period, or at once")
def cancel_subscription(
    request: HttpRequest, subscription_id: str, immediate: bool = False
) -> dict[str, Any]:
    refuse_unknown_query(request, ("immediate",))
    refuse_body(request)
    row = queries.get_subscription(subscription_id)
    ended = services.cancel_subscription(row, immediate=immediate, actor=_actor(request))
    return {"ok": True, "subscription": subscription_out(ended)}


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
