"""Reading JSON from somebody we do not trust: one meaning, bounded, or a `NotJson` with a code."""

from __future__ import annotations

import json
import math
from typing import Any

_DEEPEST = 40
_MOST_VALUES = 200_000
_LONGEST_INTEGER = 20


class NotJson(Exception):
    """`code` is one of `not_json not_an_object too_deep`; the message says what was found, without quoting
    the data. `well_formed` tells JSON that holds what we do not take from what is no JSON at all.
    """

    def __init__(self, code: str, message: str, *, well_formed: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.well_formed = well_formed


def read_object(raw: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8. Refused: a byte order mark, NaN and infinities, repeated keys, integers past 20
    digits, lone surrogates, NUL, more than 40 levels or 200,000 values.
    """
    # Counted before parsing, at the price of counting commas in texts too: a few megabytes of "[],[],…" would
    # hold up the event loop, and with it every other instance, for seconds.
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise NotJson("not_json", "it holds too many values")
    try:
        value = json.loads(
            raw.decode("utf-8", "strict"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError:
        raise NotJson("not_json", "it is not UTF-8") from None
    except RecursionError:
        raise NotJson("too_deep", "it is nested too deeply") from None
    except ValueError:  # json's own error; a byte order mark is one of its cases
        raise NotJson("not_json", "it is not JSON") from None
    if not isinstance(value, dict):
        raise NotJson("not_an_object", "its outermost value is not an object", well_formed=True)
    _walk(value)
    return value


def _walk(value: dict[str, Any]) -> None:
    """Depth, and text that could not be written again. Nothing recurses."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item.keys())
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
            elif isinstance(item, str):
                _text(item)
        if not following:
            return
        level = following
    raise NotJson("too_deep", "it is nested too deeply")


def _text(text: str) -> None:
    if "\x00" in text:
        raise NotJson("not_json", "it holds a NUL character", well_formed=True)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotJson("not_json", "it holds half a surrogate pair", well_formed=True) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJson("not_json", "an object repeats a key")
    return value


def _constant(name: str) -> Any:
    raise NotJson("not_json", f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise NotJson("not_json", "an integer is too long", well_formed=True)
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotJson("not_json", "a number is out of range", well_formed=True)
    return value
