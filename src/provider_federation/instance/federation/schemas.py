"""Status and changes on the wire (docs/architecture.md)."""

from __future__ import annotations

from typing import Annotated

from ninja import Schema
from pydantic import Field

from provider_federation.instance.federation.queries import Scheme
from provider_federation.instance.invoicing.models import Change
from provider_federation.instance.invoicing.schemas import Cursor, InvoiceOut
from provider_federation.instance.wire import Answer, Instant, Wire


class StatusOut(Answer):
    """What anybody may know."""

    enabled: bool
    mode: str = Field(description="off, h31, sha256 or v2")


class SchemeOut(Wire):
    name: str
    accepted: bool
    until: Instant | None

    @classmethod
    def of(cls, scheme: Scheme) -> SchemeOut:
        return cls(name=scheme.name, accepted=scheme.accepted, until=scheme.until)


class SignedStatusOut(StatusOut):
    """What a signed caller learns besides."""

    instance: str
    org: str
    title: str
    version: str
    capabilities: list[str]
    server_time: Instant
    schemes: list[SchemeOut]


class ChangesQuery(Schema):
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class ChangeOut(Wire):
    seq: int
    type: str
    at: Instant
    invoice: InvoiceOut

    @classmethod
    def of(cls, change: Change) -> ChangeOut:
        return cls(seq=change.seq, type=change.kind, at=change.at, invoice=InvoiceOut.of(change.invoice))


class ChangesOut(Answer):
    epoch: str
    items: list[ChangeOut]
    next_cursor: str
    has_more: bool
