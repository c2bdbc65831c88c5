"""Reading the stored Stripe events: one, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.revenue.models import EventState, StripeEvent


@dataclass(frozen=True)
class EventFilter:
    """Only those with this state, this type and about this object; an empty text is any."""

    state: str = ""
    type: str = ""
    object_id: str = ""


@dataclass(frozen=True)
class EventPage:
    """Without their payloads, newest first; `next_cursor` is None on the last page."""

    items: list[StripeEvent]
    next_cursor: str | None


def list_events(wanted: EventFilter, *, cursor: str = "", limit: int = 50) -> EventPage:
    """One page of events. Problem 400 `bad_cursor`, `invalid_field` for an unknown state."""
    if wanted.state and wanted.state not in EventState.values:
        raise Problem(400, "invalid_field", f"state: one of {', '.join(EventState.values)}.", field="state")
    given = {"state": wanted.state, "type": wanted.type, "object_id": wanted.object_id}
    rows = StripeEvent.objects.filter(**{name: value for name, value in given.items() if value})
    if cursor:
        rows = rows.filter(_after(cursor))
    items = list(rows.defer("payload").order_by("-received_at", "-id")[: limit + 1])
    more, items = len(items) > limit, items[:limit]
    return EventPage(items, encode_cursor(items[-1].received_at.isoformat(), items[-1].pk) if more else None)


def stripe_event(event_id: str) -> StripeEvent:
    """By Stripe's id (or ours, for one without). Problem 404 when there is none."""
    found = None if "\x00" in event_id else StripeEvent.objects.filter(event_id=event_id).first()
    if found is None:
        raise not_found("event")
    return found


def _after(cursor: str) -> Q:
    at, key = decode_cursor(cursor, (str, int))
    try:
        received = datetime.fromisoformat(str(at))
    except ValueError:
        received = None
    if received is None or received.tzinfo is None:
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    return Q(received_at__lt=received) | Q(received_at=received, pk__lt=key)
