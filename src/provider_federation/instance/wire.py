"""What every answer of the instance has in common: camelCase, `ok`, times with milliseconds and Z, ids as
text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from ninja import Schema
from pydantic import ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from provider_federation.kit.problem import Problem, not_found

_BIGGEST_ID = 2**63 - 1


def iso(at: datetime) -> str:
    """`2026-02-03T04:05:06.789Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]


class Wire(Schema):
    """Base of every answer's schema: snake_case here, camelCase on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class Answer(Wire):
    ok: Literal[True] = True


def read_id(text: str, what: str) -> int:
    """An id from the wire; what cannot be one of ours is a 404 like any other unknown id."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _BIGGEST_ID):
        raise not_found(what)
    return int(text)


def read_instant(text: str, field: str) -> datetime:
    """An ISO 8601 instant with its offset (`Z` or `+02:00`); a 400 otherwise."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # told below, like an instant without an offset
    raise Problem(
        400, "invalid_field", f"{field}: give an instant such as 2026-02-03T04:05:06Z.", field=field
    )
