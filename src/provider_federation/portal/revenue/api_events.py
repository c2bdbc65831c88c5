"""`/api/provider/billing/stripe-events`: what Stripe told the portal, and sending parked events round again."""

from __future__ import annotations

from typing import Annotated, Literal

from django.http import HttpRequest
from ninja import Query, Router

from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.portal.fleet.wire import Instant, Wire
from provider_federation.portal.operators.auth import operator_or_token
from provider_federation.portal.revenue.event_queries import EventFilter, list_events, stripe_event
from provider_federation.portal.revenue.models import StripeEvent
from provider_federation.portal.revenue.services.events import retry_event, retry_parked

router = Router(tags=["revenue"], by_alias=True)
_read, _manage = operator_or_token("billing.read"), operator_or_token("billing.manage")


class StripeEventOut(Wire):
    """`error` is why it failed last, `note` what became of it; `attempts` since it was last sent round."""

    event_id: str
    type: str
    state: str
    object_id: str | None
    attempts: int
    note: str | None
    error: str | None
    happened_at: Instant | None
    received_at: Instant
    applied_at: Instant | None


class StripeEventsOut(Wire):
    ok: Literal[True] = True
    items: list[StripeEventOut]
    next_cursor: str | None


class EventRetriedOut(Wire):
    """`retried` is false when the event was not parked: nothing was changed."""

    ok: Literal[True] = True
    retried: bool
    event: StripeEventOut


class EventsRetriedOut(Wire):
    """How many go round again, and how many are still parked because one call takes a thousand at most."""

    ok: Literal[True] = True
    retried: int
    left: int


@router.get("/stripe-events", auth=_read, response=StripeEventsOut, summary="Events, newest first")
def events(
    request: HttpRequest,
    state: Annotated[str, Query(max_length=16)] = "",
    type_: Annotated[str, Query(alias="type", max_length=128)] = "",
    object_id: Annotated[str, Query(alias="objectId", max_length=128)] = "",
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> StripeEventsOut:
    refuse_unknown_query(request, ("state", "type", "objectId", "cursor", "limit"))
    page = list_events(EventFilter(state, type_, object_id), cursor=cursor, limit=limit)
    return StripeEventsOut(items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@router.post(
    "/stripe-events/retry",
    auth=_manage,
    response=EventsRetriedOut,
    summary="Send all parked events round again",
)
def retry_all(request: HttpRequest) -> EventsRetriedOut:
    refuse_unknown_query(request, ())
    refuse_body(request)
    retried, left = retry_parked(actor=_actor(request))
    return EventsRetriedOut(retried=retried, left=left)


@router.post(
    "/stripe-events/{event_id}/retry",
    auth=_manage,
    response=EventRetriedOut,
    summary="Send a parked event round again",
)
def retry(request: HttpRequest, event_id: str) -> EventRetriedOut:
    refuse_unknown_query(request, ())
    refuse_body(request)
    event = stripe_event(event_id)
    retried = retry_event(event, actor=_actor(request))
    event.refresh_from_db()
    return EventRetriedOut(retried=retried, event=_out(event))


def _out(event: StripeEvent) -> StripeEventOut:
    return StripeEventOut(
        event_id=event.event_id,
        type=event.type,
        state=event.state,
        object_id=event.object_id or None,
        attempts=event.attempts,
        note=event.note or None,
        error=event.error or None,
        happened_at=event.happened_at,
        received_at=event.received_at,
        applied_at=event.applied_at,
    )


def _actor(request: HttpRequest) -> str:
    return str(getattr(request, "actor", "system"))
