"""Opaque cursors: base64url of a short JSON list, newest first, stable while rows are added."""

from __future__ import annotations

import base64
import binascii
import json

from provider_federation.kit.problem import Problem

_LONGEST = 512
_BIGGEST = 2**63  # what no database column holds is no position of ours


def encode_cursor(*position: str | int) -> str:
    """A cursor that holds the sort key of the last row shown."""
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, shape: tuple[type, ...]) -> tuple[str | int, ...]:
    """The sort key inside; anything we did not make is a 400 `bad_cursor`."""
    problem = Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.")
    if len(cursor) > _LONGEST or not cursor.isascii():
        raise problem
    try:
        value = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise problem from None
    if not isinstance(value, list) or tuple(type(part) for part in value) != shape:
        raise problem
    if not all(_fits(part) for part in value):
        raise problem
    return tuple(value)


def _fits(part: str | int) -> bool:
    """Whether a database can be asked for it: JSON can spell a NUL and half a character, PostgreSQL takes neither."""
    if isinstance(part, int):
        return -_BIGGEST <= part < _BIGGEST
    return "\0" not in part and not any("\ud800" <= letter <= "\udfff" for letter in part)
