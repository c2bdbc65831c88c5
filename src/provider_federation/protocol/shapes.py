"""What the names of a request's headers tell, whatever the values: worked out once for all requests of one caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, NoReturn, TypeVar

from provider_federation.protocol.grammar import FEDERATION_HEADERS, FORWARDED, NAMES
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.values import Policy

LEGACY = ("x-provider-keyid", "x-provider-timestamp", "x-provider-signature")
SAID = ("x-provider-scope", "x-provider-org", "x-provider-instance")
MODERN = ("signature-input", "signature")
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
    """Of a request signed by one scheme: which headers matter, and where they are.

    `names` (lower case) are those of the signature, then of what is said (scope, org, instance), then the others that
    v2 may cover. `pick` gives their values from headers by name as spelt, `at` from a list of all values in order;
    `said` is the part of these values. Where a request is not plainly one of a scheme, `pick` and `at` raise ValueError.
    """

    is_modern: bool
    is_forwarded: bool
    names: tuple[str, ...]
    pick: Callable[[Mapping[str, str]], tuple[str, ...]]
    at: Callable[[Sequence[str]], tuple[str, ...]]
    said: slice


def _unclear(_headers: object) -> NoReturn:
    raise ValueError("not plainly the headers of one signature")


_UNCLEAR = Shape(is_modern=False, is_forwarded=False, names=(), pick=_unclear, at=_unclear, said=slice(0))


def _spelt(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(kept, name) for name in names if (kept := NAMES[name]) is not None]


def _shape(names: tuple[str, ...]) -> Shape:
    """Unclear where the headers are not those of one signature, where one stands twice, or asks for a closer look."""
    try:
        found = _spelt(names)
    except Refused:
        return _UNCLEAR
    spelt = dict(found)
    begun = [scheme for scheme in (LEGACY, MODERN) if any(name in spelt for name in scheme)]
    if len(spelt) < len(found) or not _CLOSER_LOOK.isdisjoint(spelt) or len(begun) != 1:
        return _UNCLEAR
    (signature,) = begun
    if not all(name in spelt for name in signature):
        return _UNCLEAR
    said = [name for name in SAID if name in spelt]
    others = [name for name in spelt if name not in (*signature, *said)] if signature is MODERN else []
    wanted = (*signature, *said, *others)
    return Shape(
        is_modern=signature is MODERN,
        is_forwarded=FORWARDED in spelt,
        names=wanted,
        pick=itemgetter(*(spelt[name] for name in wanted)),
        at=itemgetter(*(names.index(spelt[name]) for name in wanted)),
        said=slice(len(signature), len(signature) + len(said)),
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


def _of_fields(names: tuple[bytes, ...]) -> Shape:
    return SHAPES[tuple(name.decode("latin-1") for name in names)]


def read_fields(fields: Mapping[bytes, bytes], count: int, policy: Policy) -> tuple[Shape, tuple[str, ...]]:
    """The shape of headers that come as bytes, and the values that matter. ValueError where that takes a closer look.

    `count` is how many there were: more than `fields` when a name stood twice.
    """
    text = b"\n".join(fields.values()).decode("latin-1")
    values = text.split("\n")
    if not len(values) == len(fields) == count <= policy.max_headers or len(text) > policy.max_header:
        raise ValueError("a name twice, a value of two lines, or too much")
    shape = FIELD_SHAPES[tuple(fields)]
    return shape, shape.at(values)


SHAPES = _Remembered(_shape)
FIELD_SHAPES = _Remembered(_of_fields)
UNSIGNED = _Remembered(_unsigned)
