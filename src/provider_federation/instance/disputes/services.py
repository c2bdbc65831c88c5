"""Filing a dispute, and taking the provider's word on it, in any order and any number of times."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from django.db import transaction

from provider_federation.instance.disputes.models import (
    LONGEST_WORDS,
    Dispute,
    DisputeChange,
)
from provider_federation.instance.disputes.queries import (
    count_undecided,
    last_seq,
    problem_with,
    undecided_of,
)
from provider_federation.instance.invoicing.feed import hold_feed, new_mark
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.people.models import Person
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.kit.text import clean_text

MOST_UNDECIDED = 1_000
"""What a provider can be asked to decide at once."""


@dataclass(frozen=True)
class Word:
    """What the provider says of a dispute; a higher `version` replaces a lower one."""

    version: int
    state: str
    decision: str
    decided_at: datetime | None
    credit_note_number: str
    lead_freed: bool


def file_dispute(lead_id: int, claim: str, *, by: Person) -> tuple[Dispute, bool]:
    """Keep the client's words for the provider to fetch; and whether it is new. While one of this lead is
    undecided, that one is answered.

    Problem 404 `not_found`, 400 `invalid_field`, 409 `lead_not_charged`, `dispute_decided`, `too_many_disputes`.
    """
    words = _words(claim)
    with transaction.atomic():
        lead = Lead.objects.select_for_update().filter(pk=lead_id).first()
        if lead is None:
            raise not_found("lead")
        earlier = undecided_of(lead)
        if earlier is not None:
            return earlier, False
        problem = problem_with(lead)
        if problem is not None:
            raise problem
        hold_feed()
        _check_room()
        row = Dispute.objects.create(lead=lead, claim=words, filed_by=by, filed_at=clock.now())
        _append(row)
    return row, True


def store_word(reference: str, word: Word) -> tuple[Dispute, bool]:
    """Keep it if it is newer than what is known; and whether it was. Problem 404 `not_found`, 409
    `dispute_conflict` when this version said something else before.
    """
    with transaction.atomic():
        row = _held(reference)
        values = asdict(word)
        if word.version == row.version and any(getattr(row, name) != said for name, said in values.items()):
            sentence = (
                f"Version {word.version} said something else before; a version says one thing for ever."
            )
            raise Problem(409, "dispute_conflict", sentence)
        if word.version <= row.version:
            return row, False
        for name, said in values.items():
            setattr(row, name, said)
        row.told_at = clock.now()
        row.save()
        hold_feed()
        _append(row)
    return row, True


def _held(reference: str) -> Dispute:
    known = reference.isalnum()  # a NUL is more than PostgreSQL can be asked for
    row = Dispute.objects.select_for_update().filter(reference=reference).first() if known else None
    if row is None:
        raise not_found("dispute")
    return row


def _words(claim: str) -> str:
    words = " ".join(clean_text(claim, len(claim) + 1).split())
    if not 1 <= len(words) <= LONGEST_WORDS:
        sentence = f"Say in 1 to {LONGEST_WORDS:,} characters why this lead should not be charged."
        raise Problem(400, "invalid_field", sentence, field="claim")
    return words


def _check_room() -> None:
    if count_undecided() >= MOST_UNDECIDED:
        sentence = f"{MOST_UNDECIDED:,} disputes wait for the provider; file this one when some are decided."
        raise Problem(409, "too_many_disputes", sentence)


def _append(row: Dispute) -> None:
    """Call while the feed is held, so that a later number is never visible before an earlier one."""
    DisputeChange.objects.create(seq=last_seq() + 1, mark=new_mark(), at=clock.now(), dispute=row)
