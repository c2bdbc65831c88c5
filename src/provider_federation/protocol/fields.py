"""A strict reader of the structured fields that a signature is made of (RFC 9651), and Content-Digest (RFC 9530).

Only the one canonical spelling of a value is read: what it would be written as again is what was sent, so that no
two readers can see different things in one field. What is not read is a `FieldError`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_LABEL = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"[ !#-\[\]-~]*"'
_NAME = r"@?[a-z0-9!#$%&'*+.^_`|~-]+"
_COMPONENT = rf'"{_NAME}"(?:;[a-z]+(?:={_STRING})?)*'
_MEMBER = re.compile(
    rf"({_LABEL})=((\((?:{_COMPONENT}(?: {_COMPONENT})*)?\))((?:;[a-z]+=(?:{_STRING}|[0-9]+))*))", re.ASCII
)
_PARAMETER = re.compile(rf";([a-z]+)=(?:({_STRING})|(0|[1-9][0-9]{{0,14}})(?![0-9]))", re.ASCII)
_COMPONENTS = re.compile(_COMPONENT, re.ASCII)
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*", re.ASCII)
_BYTES = re.compile(rf"[ \t]*({_LABEL})=:([A-Za-z0-9+/]*={{0,2}}):[ \t]*", re.ASCII)
_PARAMETERS = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_MOST_MEMBERS = 8
_MOST_COMPONENTS = 32


class FieldError(ValueError):
    """A field that cannot be read."""


class SignatureInput(NamedTuple):
    """One member of Signature-Input. `covered` and `text` are as sent: the list alone, and with its parameters."""

    label: str
    text: str
    covered: str
    created: int | None
    expires: int | None
    nonce: str | None
    keyid: str | None
    alg: str | None
    tag: str | None


def read_signature_input(value: str) -> list[SignatureInput]:
    """The members of a Signature-Input field, at least one, in order. FieldError."""
    members: list[SignatureInput] = []
    position = 0
    while match := _MEMBER.match(value, position):
        if len(members) == _MOST_MEMBERS or any(match[1] == member.label for member in members):
            raise FieldError
        components(match[3])
        members.append(SignatureInput(match[1], match[2], match[3], **_parameters(match[4])))  # type: ignore[arg-type]
        if match.end() == len(value):
            return members
        separator = _SEPARATOR.match(value, match.end())
        if separator is None:
            break
        position = separator.end()
    raise FieldError


def _parameters(text: str) -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = dict.fromkeys(_PARAMETERS)
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or found.get(match[1], "") is not None:
            raise FieldError
        is_number = match[3] is not None
        if is_number is not (match[1] in {"created", "expires"}):
            raise FieldError
        found[match[1]] = int(match[3]) if is_number else match[2][1:-1]
        position = match.end()
    return found


@lru_cache(maxsize=256)
def components(covered: str) -> tuple[str, ...]:
    """The names in a list as `read_signature_input` gives it; one with parameters as written. FieldError."""
    found = _COMPONENTS.findall(covered)
    if len(found) > _MOST_COMPONENTS or len(set(found)) != len(found):
        raise FieldError
    return tuple(name if ";" in name else name[1:-1] for name in found)


def read_byte_sequences(value: str) -> dict[str, bytes]:
    """A dictionary of byte sequences (Signature, Content-Digest), at least one member. FieldError."""
    found: dict[str, bytes] = {}
    for part in value.split(",", _MOST_MEMBERS):
        match = _BYTES.fullmatch(part)
        if match is None or match[1] in found:
            raise FieldError
        found[match[1]] = _base64(match[2])
    return found


def _base64(text: str) -> bytes:
    try:
        raw = a2b_base64(text, strict_mode=True)
    except Error:
        raise FieldError from None
    if b2a_base64(raw, newline=False).decode() != text:  # bits behind the last byte, which no writer sets
        raise FieldError
    return raw


def content_digest(body: bytes) -> str:
    """The Content-Digest that we send."""
    return f"sha-256=:{b2a_base64(hashlib.sha256(body).digest(), newline=False).decode()}:"


def digest_fault(field: str, body: bytes) -> str | None:
    """The code to refuse `body` with, or None: all digests that we know must fit, and one must be known."""
    if hmac.compare_digest(content_digest(body), field):
        return None
    known = {name: value for name, value in read_byte_sequences(field).items() if name in _DIGESTS}
    if not known:
        return "digest_algorithm_not_allowed"
    fits = [hmac.compare_digest(_DIGESTS[name](body).digest(), value) for name, value in known.items()]
    return None if all(fits) else "digest_mismatch"


_DIGESTS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def signature_base(names: tuple[str, ...], values: Mapping[str, str], text: str) -> bytes:
    """What is signed (RFC 9421, section 2.5): `names` as `components` gives them, the value of each, and the list
    with its parameters as sent.

    KeyError when a value is missing; ValueError when one holds what would not stand on a line of its own.
    """
    base = (_template(names) % (*map(values.__getitem__, names), text)).encode("ascii")
    if base.translate(None, _VISIBLE) != b"\n" * len(names):
        raise FieldError
    return base


_VISIBLE = bytes(range(0x20, 0x7F))


@lru_cache(maxsize=256)
def _template(names: tuple[str, ...]) -> str:
    identifiers = [name if name.startswith('"') else f'"{name}"' for name in names]
    lines = [identifier.replace("%", "%%") + ": %s\n" for identifier in identifiers]
    return "".join(lines) + '"@signature-params": %s'
