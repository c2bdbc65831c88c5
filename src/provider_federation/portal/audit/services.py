"""Recording audit events, and checking that nobody changed them since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Subquery
from django.db.models.functions import Coalesce

from provider_federation.kit import clock
from provider_federation.kit.hash_chain import GENESIS
from provider_federation.kit.logs import scrub
from provider_federation.portal.audit.chain import seal
from provider_federation.portal.audit.kinds import Kind
from provider_federation.portal.audit.models import AuditEvent, AuditHead
from provider_federation.portal.bulk import insert_all

__all__ = ["ChainReport", "Happened", "Kind", "record", "record_all", "verify_chain"]

_LONGEST_NAME = 254
_LONGEST_TEXT = 2000


def record(kind: Kind, actor: str, subject: str, **facts: Any) -> AuditEvent:
    """Add one event in the caller's transaction, so that it stands or falls with the change it tells of.

    `actor` is `operator:<e-mail>`, `token:<name>`, `instance:<name>`, `stripe` or `system`; `subject` is
    `<thing>:<id>`. Facts become JSON; what looks like a secret is scrubbed. Call it last in the transaction:
    events take turns from here until the commit.
    """
    return record_all([Happened(kind, actor, subject, facts)])[0]


@dataclass(frozen=True)
class Happened:
    """One event to be recorded; see `record` for its parts."""

    kind: Kind
    actor: str
    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def record_all(happened: Iterable[Happened]) -> list[AuditEvent]:
    """Add these events in this order, each sealed to the one before it, for the price of one turn."""
    told = list(happened)
    if not told:
        return []
    with transaction.atomic():
        head = _head()
        events = []
        for one in told:
            event = _event(one, head)
            head.count, head.hash = event.number, event.hash
            events.append(event)
        insert_all(events)
        head.save()
    return events


def _head() -> AuditHead:
    """The newest link, its row locked; made by whoever records first."""
    rows = AuditHead.objects.select_for_update()
    head = rows.filter(pk=1).first()
    if head is not None:
        return head
    AuditHead.objects.get_or_create(pk=1)
    return rows.get(pk=1)


def _event(one: Happened, head: AuditHead) -> AuditEvent:
    event = AuditEvent(
        number=head.count + 1,
        at=clock.now(),
        kind=Kind(one.kind).value,
        actor=_line(one.actor),
        subject=_line(one.subject),
        facts=_plain(scrub(dict(one.facts))),
        previous=head.hash,
    )
    event.hash = seal(event)
    return event


@dataclass(frozen=True)
class ChainReport:
    """`checked` events were read; `broken_at` is the number of the first wrong one, `problem` says how."""

    checked: int
    broken_at: int | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.broken_at is None


def verify_chain() -> ChainReport:
    """Read the whole trail and recompute it: edits, deletions (also of the newest) and reordering are found.

    Holds no lock; events recorded while it reads are left for the next time. Somebody who may write to the
    database can recompute all hashes from an edit on: compare `AuditHead` with a copy kept elsewhere (backups,
    exports) against that.
    """
    head = AuditHead.objects.filter(pk=1).first() or AuditHead()
    previous, checked = GENESIS, 0
    for event in (
        AuditEvent.objects.filter(number__lte=head.count).order_by("number").iterator(chunk_size=1000)
    ):
        problem = _fault(event, checked + 1, previous)
        if problem:
            return ChainReport(checked, checked + 1, problem)
        previous, checked = event.hash, checked + 1
    if (checked, previous) != (head.count, head.hash):
        return ChainReport(checked, checked + 1, "the newest events are missing")
    if _has_strangers():
        return ChainReport(checked, checked + 1, "there are events that were never recorded")
    return ChainReport(checked)


def _has_strangers() -> bool:
    """Events behind the head, seen in one statement, so that one that is being recorded now is none."""
    count = Coalesce(Subquery(AuditHead.objects.filter(pk=1).values("count")), 0)
    return AuditEvent.objects.filter(number__gt=count).exists()


def _fault(event: AuditEvent, expected: int, previous: str) -> str:
    if event.number != expected:
        return "an event is missing or was renumbered"
    if event.previous != previous:
        return "this event does not follow the one before it"
    return "" if event.hash == seal(event) else "this event was changed after it was written"


def _line(text: str) -> str:
    """One line without control characters: a typed name cannot forge a second line in an export."""
    if text.isprintable():
        return text[:_LONGEST_NAME]
    return "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_NAME]


def _plain(value: Any) -> Any:
    """JSON that PostgreSQL gives back exactly as it was (no floats, no NUL, no lone surrogates)."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(_plain(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    text = value.isoformat() if isinstance(value, date) else str(value)
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:_LONGEST_TEXT]
