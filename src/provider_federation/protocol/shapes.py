"""What the names of a request's headers tell, whatever the values: worked out once for all requests of one caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar

from provider_federation.protocol.grammar import FEDERATION_HEADERS, FORWARDED, NAMES
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.values import Policy

LEGACY = ("x-provider-keyid", "x-provider-timestamp", "x-provider-signature")
SAID = ("x-provider-scope", "x-provider-org", "x-provider-instance")
_MODERN = ("signature-input", "signature")
_COVERED = ("idempotency-key", "content-digest", "content-type")
_CLOSER_LOOK = frozenset({"content-encoding", "transfer-encoding"})
_MOST_SHAPES, _MOST_NAMES, _LONGEST_NAMES = 256, 40, 2048

N = TypeVar("N", bound=Sized)
T = TypeVar("T")


class _Remembered(dict[tuple[N, ...], T], Generic[N, T]):
    """What `make` makes of the names, as they were spelt; bounded, and starting again costs each caller one look."""

    def __init__(self, make: Callable[[tuple[N, ...]], T]) -> None:
        self._make = make

    def __missing__(self, names: tuple[N, ...]) -> T:
        made = self._make(names)
        if len(names) <= _MOST_NAMES and sum(map(len, names)) <= _LONGEST_NAMES:
            if len(self) >= _MOST_SHAPES:
                self.clear()
            self[names] = made
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Of a request signed by one scheme: how the headers are spelt that matter, None for what is not there.

    `kept` are the names (lower case) of all of these, and `pick` gives their values from the headers as spelt; `legacy`
    those of LEGACY, for a legacy request; `said` those of scope, org and instance that are there.
    """

    is_modern: bool
    kept: tuple[str, ...]
    pick: Callable[[Mapping[str, str]], tuple[Any, ...]]
    legacy: Callable[[Mapping[str, str]], tuple[Any, ...]]
    said: Callable[[Mapping[str, str]], object]
    is_forwarded: bool


def _getter(names: list[str]) -> Callable[[Mapping[str, str]], object]:
    return itemgetter(*names) if names else lambda _: None


def _spelt(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(kept, name) for name in names if (kept := NAMES[name]) is not None]


def _shape(names: tuple[str, ...]) -> Shape | None:
    """None where the headers are not those of one signature, where one stands twice, or asks for a closer look."""
    try:
        found = _spelt(names)
    except Refused:
        return None
    spelt = dict(found)
    begun = [scheme for scheme in (LEGACY, _MODERN) if any(name in spelt for name in scheme)]
    if len(spelt) < len(found) or not _CLOSER_LOOK.isdisjoint(spelt) or len(begun) != 1:
        return None
    if not all(name in spelt for name in begun[0]):
        return None
    return Shape(
        is_modern=begun[0] is _MODERN,
        kept=tuple(spelt),
        pick=itemgetter(*spelt.values()),
        legacy=itemgetter(*(spelt.get(name, "") for name in LEGACY)),
        said=_getter([spelt[name] for name in SAID if name in spelt]),
        is_forwarded=FORWARDED in spelt,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Unsigned:
    """Of a request to sign: how the headers are spelt that its signature covers, None for what is not there.

    `twice` are the names (lower case) of those that stand twice.
    """

    idempotency_key: str | None
    digest: str | None
    content_type: str | None
    twice: frozenset[str]


def _unsigned(names: tuple[str, ...]) -> Unsigned:
    """CannotSign where there is a federation header."""
    found = _spelt(names)
    spelt = dict(found)
    if not FEDERATION_HEADERS.isdisjoint(spelt):
        raise CannotSign("the request carries federation headers already")
    met = [kept for kept, _ in found]
    return Unsigned(
        idempotency_key=spelt.get("idempotency-key"),
        digest=spelt.get("content-digest"),
        content_type=spelt.get("content-type"),
        twice=frozenset(name for name in _COVERED if met.count(name) > 1),
    )


def _texts(names: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(name.decode("latin-1") for name in names)


def read_fields(fields: Mapping[bytes, bytes], count: int, policy: Policy) -> dict[str, str]:
    """Headers as text, all of them, by name as spelt. ValueError where that takes a closer look.

    `count` is how many there were: more than `fields` when a name stood twice.
    """
    text = b"\n".join(fields.values()).decode("latin-1")
    if not len(fields) == count <= policy.max_headers or len(text) > policy.max_header:
        raise ValueError("a name twice, or too much")
    return dict(zip(_TEXTS[tuple(fields)], text.split("\n"), strict=True))


_TEXTS = _Remembered(_texts)
SHAPES = _Remembered(_shape)
UNSIGNED = _Remembered(_unsigned)
