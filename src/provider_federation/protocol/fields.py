"""A strict reader of the structured fields that signatures are made of (RFC 9651), and Content-Digest (RFC 9530).

Only the one canonical spelling of a value is read: what it would be written as again is what was sent, so that no
two readers can see different things in one field. What is not read is a `FieldError`.
"""

from __future__ import annotations

import hmac
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256, sha512
from operator import itemgetter
from typing import Any, NamedTuple

_LABEL = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"[ !#-\[\]-~]*"'
_COMPONENT = rf"\"@?[a-z0-9!#$%&'*+.^_`|~-]+\"(?:;[a-z]+(?:={_STRING})?)*"
_LIST_TEXT = rf"\((?:{_COMPONENT}(?: {_COMPONENT})*)?\)"
_MEMBER = re.compile(rf"({_LABEL})=(({_LIST_TEXT})((?:;[a-z]+=(?:{_STRING}|[0-9]+))*))", re.ASCII)
_PARAMETER = re.compile(
    rf";(?:(created|expires)=(0|[1-9][0-9]{{0,14}})(?![0-9])|(nonce|keyid|alg|tag)=({_STRING}))", re.ASCII
)
_COMPONENTS = re.compile(_COMPONENT, re.ASCII)
_LIST = re.compile(_LIST_TEXT, re.ASCII)
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*", re.ASCII)
_BYTES = re.compile(rf"[ \t]*({_LABEL})=:([A-Za-z0-9+/]*={{0,2}}):[ \t]*", re.ASCII)
_MOST_MEMBERS = 8
_MOST_COMPONENTS = 32
_DIGESTS = {"sha-256": sha256, "sha-512": sha512}


class FieldError(ValueError):
    """A field that cannot be read."""


class SignatureInput(NamedTuple):
    """One member of Signature-Input: `text` and `covered`, as sent, are the list with and without parameters."""

    label: str
    text: str
    covered: str
    created: int | None = None
    expires: int | None = None
    nonce: str | None = None
    keyid: str | None = None
    alg: str | None = None
    tag: str | None = None


def read_signature_input(value: str) -> list[SignatureInput]:
    """The members of a Signature-Input field, at least one, in order. FieldError."""
    members: list[SignatureInput] = []
    position = 0
    while match := _MEMBER.match(value, position):
        if len(members) == _MOST_MEMBERS or any(match[1] == member.label for member in members):
            raise FieldError
        components(match[3])
        members.append(SignatureInput(match[1], match[2], match[3], **_parameters(match[4])))
        if match.end() == len(value):
            return members
        separator = _SEPARATOR.match(value, match.end())
        if separator is None:
            break
        position = separator.end()
    raise FieldError


def _parameters(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or (name := match[1] or match[3]) in found:
            raise FieldError
        found[name] = int(match[2]) if match[1] else match[4][1:-1]
        position = match.end()
    return found


@lru_cache(maxsize=256)
def components(covered: str) -> tuple[str, ...]:
    """The names in a list of components; one with parameters as written. FieldError."""
    found = _COMPONENTS.findall(covered)
    if not _LIST.fullmatch(covered) or len(found) > _MOST_COMPONENTS or len(set(found)) != len(found):
        raise FieldError
    return tuple(name if ";" in name else name[1:-1] for name in found)


def read_byte_sequences(value: str) -> dict[str, bytes]:
    """A dictionary of byte sequences (Signature, Content-Digest), at least one member. FieldError."""
    found: dict[str, bytes] = {}
    for part in value.split(",", _MOST_MEMBERS):
        match = _BYTES.fullmatch(part)
        if match is None or match[1] in found:
            raise FieldError
        found[match[1]] = read_base64(match[2])
    return found


def read_base64(text: str) -> bytes:
    """The bytes that are written as `text` and in no other way. FieldError."""
    try:
        data = a2b_base64(text, strict_mode=True)
    except ValueError:
        raise FieldError from None
    if write_base64(data) != text:  # bits behind the last byte, which no writer sets
        raise FieldError
    return data


def write_base64(data: bytes) -> str:
    """Base64 with padding (RFC 4648, section 4)."""
    return b2a_base64(data, newline=False).decode("ascii")


def content_digest(body: bytes) -> str:
    """The Content-Digest that we send."""
    return f"sha-256=:{b2a_base64(sha256(body).digest(), newline=False).decode('ascii')}:"


def digest_fault(field: str, body: bytes) -> str | None:
    """The code to refuse `body` with, or None: all digests that we know must fit, and one must be known.

    FieldError when the field cannot be read.
    """
    known = {name: value for name, value in read_byte_sequences(field).items() if name in _DIGESTS}
    if not known:
        return "digest_algorithm_not_allowed"
    fits = [hmac.compare_digest(_DIGESTS[name](body).digest(), value) for name, value in known.items()]
    return None if all(fits) else "digest_mismatch"


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What of a signature base depends on the covered components alone.

    `names` as `components` gives them, `listed` as Signature-Input lists them, `pieces` as in `fill`, with a place for
    each value and one for the text, and what picks the values from a mapping.
    """

    names: tuple[str, ...]
    listed: str
    pieces: list[str]
    pick: Callable[[Mapping[str, str]], tuple[str, ...]]

    def base(self, values: tuple[str, ...], text: str) -> bytes:
        """What is signed (RFC 9421, section 2.5): the values in order, and the list with its parameters as sent.

        ValueError when they are not ASCII. It is for the signer to see that no value has a line of its own: `text`
        is one line and names the others, so that with any newline more a base cannot be the one that was signed.
        """
        return fill(self.pieces, (*values, text))


def fill(pieces: list[str], values: tuple[str, ...]) -> bytes:
    """The pieces with the values in their places, which are every second one. ValueError when there are more or fewer
    values than places, or they are not ASCII.
    """
    filled = pieces.copy()
    filled[1::2] = values
    return "".join(filled).encode("ascii")


@lru_cache(maxsize=256)
def layout(names: tuple[str, ...]) -> Layout:
    """The layout of these components."""
    written = [name if name.startswith('"') else f'"{name}"' for name in names]
    pieces: list[str] = []
    for identifier in [*written, '"@signature-params"']:
        pieces += ["\n" * bool(pieces) + f"{identifier}: ", ""]
    pick = itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[name] for name in names)
    return Layout(names, f"({' '.join(written)})", pieces, pick)


def signature_base(names: tuple[str, ...], values: Mapping[str, str], text: str) -> bytes:
    """The signature base of any components, whatever a profile thinks of them.

    KeyError when a value is missing; FieldError when one holds what no header may hold.
    """
    of_these = layout(names)
    lines = of_these.pick(values)
    if not is_printable("".join(lines) + text):
        raise FieldError
    return of_these.base(lines, text)


def is_printable(text: str) -> bool:
    """Whether this is printable ASCII: no value that is has a line of its own."""
    return text.isascii() and text.isprintable()
