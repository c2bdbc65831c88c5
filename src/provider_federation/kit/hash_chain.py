"""Canonical JSON, its SHA-256, and a chain of them: rows that show when one was edited, removed or moved.

Canonical means: keys sorted, no blanks, UTF-8 unescaped, no float (two machines may print one differently)
and no value that JSON does not have. Decimals and times must be given as strings, so that nobody guesses
their form.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

GENESIS = "sha256:" + "0" * 64


def canonical_json(value: Any) -> bytes:
    """The one byte string for `value` (None, bool, int, str, list, tuple, dict with str keys); TypeError
    for anything else.
    """
    _check(value)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def digest(value: Any) -> str:
    """`sha256:<64 hex>` over the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def chain(previous: str, value: Any) -> str:
    """The link after `previous` (GENESIS for the first): a digest over the previous digest and `value`."""
    return digest([previous, value])


def _check(value: Any) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, list | tuple):
        for item in value:
            _check(item)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError("canonical JSON has string keys only")
            _check(item)
        return
    raise TypeError(f"canonical JSON has no {type(value).__name__}; give a string")
