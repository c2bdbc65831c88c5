"""Disputes on the wire (docs/architecture.md)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from ninja import Schema
from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from provider_federation.instance.disputes.models import LONGEST_WORDS, Dispute, DisputeChange
from provider_federation.instance.disputes.services import Word
from provider_federation.instance.invoicing.schemas import Cursor
from provider_federation.instance.usage.queries import evidence_of
from provider_federation.instance.wire import Answer, Instant, Wire, read_instant
from provider_federation.kit.text import clean_text
from provider_federation.kit.web.api import Strict

Version = Annotated[int, Field(strict=True, ge=1, le=9_007_199_254_740_991)]


class DisputesQuery(Schema):
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class DisputeOut(Wire):
    """One dispute as it is now. `version` 0: the provider's word was not heard yet."""

    id: str
    lead_id: str
    lead_public_id: str
    converted_at: Instant
    evidence: str
    claim: str
    filed_at: Instant
    state: str
    version: int

    @classmethod
    def of(cls, row: Dispute) -> DisputeOut:
        assert row.lead.converted_at is not None  # only converted leads are disputed, and a conversion stays
        return cls(
            id=row.reference,
            lead_id=str(row.lead_id),
            lead_public_id=row.lead.public_id,
            converted_at=row.lead.converted_at,
            evidence=evidence_of(row.lead),
            claim=row.claim,
            filed_at=row.filed_at,
            state=row.state,
            version=row.version,
        )


class DisputeChangeOut(Wire):
    seq: int
    at: Instant
    dispute: DisputeOut

    @classmethod
    def of(cls, change: DisputeChange) -> DisputeChangeOut:
        return cls(seq=change.seq, at=change.at, dispute=DisputeOut.of(change.dispute))


class DisputesOut(Answer):
    """`epoch` and the cursors are as those of the feed of changes."""

    epoch: str
    items: list[DisputeChangeOut]
    next_cursor: str
    has_more: bool


class WordIn(Strict):
    """The provider's word. Each field has to be there, so that nothing is said by omission."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, alias_generator=to_camel)

    version: Version
    state: Literal["open", "accepted", "rejected", "not_billed"]
    decision: Annotated[str, Field(max_length=LONGEST_WORDS)]
    decided_at: Annotated[str, Field(min_length=1, max_length=40)] | None
    credit_note_number: Annotated[str, Field(max_length=64)]
    lead_freed: Annotated[bool, Field(strict=True)]

    @model_validator(mode="after")
    def _fits_its_state(self) -> Self:
        if (self.state == "open") != (self.decided_at is None):
            raise ValueError("decidedAt is given with a decision, and only then")
        if self.state != "accepted" and (self.credit_note_number or self.lead_freed):
            raise ValueError("creditNoteNumber and leadFreed belong to an accepted dispute")
        return self

    def word(self) -> Word:
        decided_at = None if self.decided_at is None else read_instant(self.decided_at, "decidedAt")
        decision = clean_text(self.decision, LONGEST_WORDS)
        number = clean_text(self.credit_note_number, 64)
        return Word(self.version, self.state, decision, decided_at, number, self.lead_freed)


class WordOut(Answer):
    """`applied` is false when this version, or a newer one, was known already; `version` is the one that holds."""

    applied: bool
    id: str
    version: int
    state: str
