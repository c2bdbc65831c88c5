"""`/api/provider/billing/subscriptions`: who subscribes to what, and what a change costs (contract, section
4); `/api/provider/billing/entitlements`: what each client may use, and which instance knows it;
`/api/provider/billing/ai-terms`: what its AI usage costs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.kit.web.downloads import csv_download
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.queries import get_by_org
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.subscriptions import ai_terms as terms
from provider_federation.portal.subscriptions import publishing, queries, services
from provider_federation.portal.subscriptions.entitlements import grace_until
from provider_federation.portal.subscriptions.export import subscriptions_csv
from provider_federation.portal.subscriptions.models import Status as SubscriptionStatus
from provider_federation.portal.subscriptions.models import Subscription
from provider_federation.portal.subscriptions.previews import proration_date_of
from provider_federation.portal.subscriptions.schemas import (
    AiTermsIn,
    AiTermsOut,
    AiTermsRowOut,
    AiTermsSetOut,
    ChangedOut,
    ChangeIn,
    ChangeOut,
    CreatedOut,
    DetailOut,
    EntitlementCoverageOut,
    EntitlementOut,
    EntitlementsOut,
    ListOut,
    PreviewedOut,
    PreviewIn,
    PreviewOut,
    PublishedOut,
    SubscribeIn,
    SubscriptionOut,
    history_out,
)

router = Router(tags=["subscriptions"], by_alias=True)
entitlements = Router(tags=["entitlements"], by_alias=True)
ai_terms = Router(tags=["AI terms"], by_alias=True)
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")
_FILTERS = ("clientOrgId", "planId", "status", "sort")

Client = Annotated[str, Query(max_length=128)]
PlanFilter = Literal["", "BASE", "PRO", "ELITE"]
StatusFilter = Annotated[str, Query(description=", ".join(SubscriptionStatus.values), max_length=32)]
Sort = Annotated[str, Query(description=", ".join(queries.SORTS), max_length=32)]


@router.get("", auth=_read, response=ListOut, summary="Subscriptions, with sums over all of them")
def list_subscriptions(
    request: HttpRequest,
    clientOrgId: Client = "",
    planId: PlanFilter = "",
    status: StatusFilter = "",
    sort: Sort = "-createdAt",
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=queries.MOST)] = 50,
) -> ListOut:
    refuse_unknown_query(request, (*_FILTERS, "cursor", "limit"))
    filters = queries.Filters(plan=planId, status=queries.known_status(status), client_org_id=clientOrgId)
    page = queries.list_subscriptions(filters, sort=sort, cursor=cursor, limit=limit)
    return ListOut.of(page, queries.summarise())


@router.get("/export.csv", auth=_read, summary="The same, all of them, as CSV")
def export_subscriptions(
    request: HttpRequest,
    clientOrgId: Client = "",
    planId: PlanFilter = "",
    status: StatusFilter = "",
    sort: Sort = "-createdAt",
) -> HttpResponse:
    refuse_unknown_query(request, _FILTERS)
    filters = queries.Filters(plan=planId, status=queries.known_status(status), client_org_id=clientOrgId)
    rows = queries.sorted_subscriptions(filters, sort).select_related("instance")
    content = subscriptions_csv(rows)
    record(Kind.EXPORTED, _actor(request), "subscriptions", rows=content.count("\r\n") - 1)
    return csv_download(content, "subscriptions.csv")


@router.post(
    "",
    auth=_manage,
    response={200: CreatedOut, 201: CreatedOut},
    summary="Subscribe a client to a plan, once",
)
def create_subscription(request: HttpRequest, payload: SubscribeIn) -> Status[CreatedOut]:
    refuse_unknown_query(request, ())
    details = payload.billing_details
    created = services.create_subscription(
        get_by_org(payload.client_org_id),
        payload.plan_id,
        actor=_actor(request),
        payment_method=payload.payment_method_id or "",
        billing_details=details.model_dump() if details else None,
        trial_days=payload.trial_days,
    )
    answer = CreatedOut(reused=created.reused, subscription=SubscriptionOut.of(created.subscription))
    return Status(200 if created.reused else 201, answer)


@router.get("/{subscription_id}", auth=_read, response=DetailOut, summary="One subscription")
def get_subscription(request: HttpRequest, subscription_id: str) -> DetailOut:
    refuse_unknown_query(request, ())
    return _detail(queries.get_subscription(subscription_id))


@router.post(
    "/{subscription_id}/preview",
    auth=_read,
    response=PreviewedOut,
    summary="What a change of plan costs, now and next; nothing is changed",
)
def preview_change(request: HttpRequest, subscription_id: str, payload: PreviewIn) -> PreviewedOut:
    refuse_unknown_query(request, ())
    row = queries.get_subscription(subscription_id)
    preview = services.preview_plan(row, payload.plan_id, payload.proration_behavior or "")
    return PreviewedOut(preview=PreviewOut.of(preview))


@router.put(
    "/{subscription_id}",
    auth=_manage,
    response={200: ChangedOut, 201: ChangedOut},
    summary="Change the plan, as previewed",
)
def change_plan(request: HttpRequest, subscription_id: str, payload: ChangeIn) -> Status[ChangedOut]:
    refuse_unknown_query(request, ())
    _check_date(payload)
    changed = services.change_plan(
        queries.get_subscription(subscription_id),
        payload.plan_id,
        actor=_actor(request),
        proration=payload.proration_behavior or "",
        preview_token=payload.preview_token or "",
        payment_method=payload.payment_method_id or "",
    )
    return Status(200 if changed.reused or changed.change else 201, _changed(changed))


@router.delete(
    "/{subscription_id}",
    auth=_manage,
    response=ChangedOut,
    summary="Cancel: at the end of the period, or at once",
)
def cancel_subscription(
    request: HttpRequest, subscription_id: str, immediate: bool = False, prorate: bool = False
) -> ChangedOut:
    refuse_unknown_query(request, ("immediate", "prorate"))
    refuse_body(request)
    if prorate and not immediate:
        raise Problem(
            400, "invalid_field", "prorate: what is paid is used to its end; add immediate.", field="prorate"
        )
    row = queries.get_subscription(subscription_id)
    ended = services.cancel_subscription(row, immediate=immediate, prorate=prorate, actor=_actor(request))
    change = queries.newest_change(ended)
    return ChangedOut(
        reused=row.ended,
        subscription=SubscriptionOut.of(ended),
        change=ChangeOut.of(change) if change else None,
    )


@router.post(
    "/{subscription_id}/resume",
    auth=_manage,
    response=ChangedOut,
    summary="Take back a cancellation at the end of the period, or go on after a pause",
)
def resume_subscription(request: HttpRequest, subscription_id: str) -> ChangedOut:
    refuse_unknown_query(request, ())
    refuse_body(request)
    row = queries.get_subscription(subscription_id)
    return _changed(services.resume_subscription(row, actor=_actor(request)))


@router.delete(
    "/{subscription_id}/change",
    auth=_manage,
    response=ChangedOut,
    summary="Take back a change that is scheduled or waits for its payment",
)
def withdraw_change(request: HttpRequest, subscription_id: str) -> ChangedOut:
    refuse_unknown_query(request, ())
    refuse_body(request)
    row = queries.get_subscription(subscription_id)
    return _changed(services.withdraw_change(row, actor=_actor(request)))


@entitlements.get(
    "", auth=_read, response=EntitlementsOut, summary="What each client may use, and who has confirmed it"
)
def list_entitlements(
    request: HttpRequest,
    clientOrgId: Client = "",
    state: Literal["", "full", "restricted", "base"] = "",
    acknowledged: bool | None = None,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=queries.MOST)] = 50,
) -> EntitlementsOut:
    refuse_unknown_query(request, ("clientOrgId", "state", "acknowledged", "cursor", "limit"))
    items, following = queries.list_entitlements(
        client_org_id=clientOrgId, state=state, acknowledged=acknowledged, cursor=cursor, limit=limit
    )
    return EntitlementsOut(
        items=[EntitlementOut.of(row) for row in items],
        next_cursor=following,
        coverage=EntitlementCoverageOut.made_of(publishing.coverage()),
    )


@entitlements.post(
    "/{client_org_id}/publish",
    auth=_manage,
    response={202: PublishedOut},
    summary="Tell the client's instance again what it may use",
)
def publish_entitlement(request: HttpRequest, client_org_id: str) -> Status[PublishedOut]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    row = publishing.publish_again(get_by_org(client_org_id), actor=_actor(request))
    return Status(202, PublishedOut(entitlement=EntitlementOut.of(row)))


@ai_terms.get(
    "/{client_org_id}",
    auth=_read,
    response=AiTermsOut,
    summary="Cap and markup of a client's AI usage: now, next, and as they were",
)
def get_ai_terms(request: HttpRequest, client_org_id: str) -> AiTermsOut:
    refuse_unknown_query(request, ())
    instance = get_by_org(client_org_id)
    return AiTermsOut.of(instance, terms.view_ai_terms(instance))


@ai_terms.put(
    "/{client_org_id}",
    auth=_manage,
    response=AiTermsSetOut,
    summary="Set both from a month on that has not begun; a repeat changes nothing",
)
def set_ai_terms(request: HttpRequest, client_org_id: str, payload: AiTermsIn) -> AiTermsSetOut:
    refuse_unknown_query(request, ())
    made = terms.set_ai_terms(
        get_by_org(client_org_id), payload.terms(), first_month=payload.first_month, actor=_actor(request)
    )
    return AiTermsSetOut(reused=made.reused, terms=AiTermsRowOut.of(made.row))


def _detail(row: Subscription) -> DetailOut:
    pending = queries.change_under_way(row)
    entitlement = queries.entitlement_of(row.instance)
    return DetailOut(
        subscription=SubscriptionOut.of(row),
        pending_change=ChangeOut.of(pending) if pending else None,
        changes=[ChangeOut.of(one) for one in row.changes.order_by("-created_at", "-id")[:50]],
        plan_history=history_out(row.instance.plan_changes.order_by("-effective_at", "-id")[:50]),
        entitlement=EntitlementOut.of(entitlement, grace_until(row)) if entitlement else None,
    )


def _changed(changed: services.Changed) -> ChangedOut:
    return ChangedOut(
        reused=changed.reused,
        subscription=SubscriptionOut.of(changed.subscription),
        change=ChangeOut.of(changed.change) if changed.change else None,
    )


def _check_date(payload: ChangeIn) -> None:
    """The date beside a preview is the preview's own: no other second can be charged from."""
    if payload.proration_date is None:
        return
    if not payload.preview_token:
        sentence = "prorationDate: it comes from a preview; send its previewToken too."
        raise Problem(400, "invalid_field", sentence, field="prorationDate")
    try:
        given = datetime.fromisoformat(payload.proration_date).astimezone(UTC)
    except (ValueError, OverflowError):
        sentence = "prorationDate: give the instant of the preview."
        raise Problem(400, "invalid_field", sentence, field="prorationDate") from None
    if given != proration_date_of(payload.preview_token):
        raise Problem(400, "bad_preview", "This date is not the preview's; preview the change again.")


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
