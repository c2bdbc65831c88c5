"""Reading the audit trail, newest first."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.portal.audit.models import AuditEvent

_MOST = 200


@dataclass(frozen=True)
class EventPage:
    """`next_cursor` is None on the last page."""

    items: list[AuditEvent]
    next_cursor: str | None


def list_events(
    *,
    kind: str = "",
    actor: str = "",
    subject: str = "",
    cursor: str = "",
    limit: int = 50,
) -> EventPage:
    """One page of events, newest first; filters are exact. Raises Problem 400 `bad_cursor`."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.order_by("-number")
    filters = {
        name: value for name, value in (("kind", kind), ("actor", actor), ("subject", subject)) if value
    }
    events = events.filter(**filters)
    if cursor:
        (before,) = decode_cursor(cursor, (int,))
        events = events.filter(number__lt=before)
    size = max(1, min(limit, _MOST))
    rows = list(events[: size + 1])
    items = rows[:size]
    return EventPage(items, encode_cursor(items[-1].number) if len(rows) > size else None)
