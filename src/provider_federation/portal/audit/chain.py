"""What the hash of an event covers."""

from __future__ import annotations

from datetime import UTC

from provider_federation.kit.hash_chain import chain
from provider_federation.portal.audit.models import AuditEvent


def seal(event: AuditEvent) -> str:
    """The link over every field of the event and the hash of the one before it."""
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    return chain(event.previous, [event.number, at, event.kind, event.actor, event.subject, event.facts])
