"""What the hash of an event covers."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC

from provider_federation.portal.audit.models import AuditEvent


def seal(event: AuditEvent) -> str:
    """SHA-256 in hex over every field and the hash of the event before, as canonical JSON."""
    content = [
        event.number, event.at.astimezone(UTC).isoformat(timespec="microseconds"), event.kind, event.actor, event.subject,
        event.facts, event.previous,
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
