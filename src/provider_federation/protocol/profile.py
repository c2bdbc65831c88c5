"""What requests and answers have in common in v2: one signature, its key, its time, what it is over."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from provider_federation.protocol import fields
from provider_federation.protocol.claims import check_key_window
from provider_federation.protocol.fields import FieldError, SignatureInput
from provider_federation.protocol.grammar import VISIBLE
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.signing import is_good, make_signature, spend
from provider_federation.protocol.values import IDENTIFIER, MODERN_ALGORITHMS, Key, Keyring

LIFETIME = 300
"""Seconds from `created` to `expires`, at most; what we sign lives that long."""

# Signature-Input as `signed` writes it for a request. Other spellings are read by `fields`, with the same result.
_AS_WE_WRITE = re.compile(
    r"pf=((\([^()]*\));created=([1-9][0-9]{0,14});expires=([1-9][0-9]{0,14});"
    r'nonce="([A-Za-z0-9+/=_-]+)";keyid="([!#-+\--\[\]-~]{1,128})";alg="([a-z0-9-]+)";'
    r'tag="(provider-federation-v2)")',
    re.ASCII,
)


class CannotSign(ValueError):
    """The key's algorithm cannot sign, or what should be signed cannot stand in a header."""


class Profile(NamedTuple):
    """What is signed in one direction, under which label and tag.

    `derived` are the components with @ or parameters that may be covered; `headers` those that
    the caller of `check_signature` gives a value for. Any other header may be covered too.
    """

    label: str
    tag: str
    required: frozenset[str]
    derived: frozenset[str]
    headers: frozenset[str]


class Coverage(NamedTuple):
    """The names in a list, in order and as a set; whether that is what must be covered; which headers are extra."""

    names: tuple[str, ...]
    all: frozenset[str]
    is_enough: bool
    more: tuple[str, ...]


class Given(NamedTuple):
    """A signature and what it says it covers: well-formed, and none of it proven."""

    label: str
    text: str
    coverage: Coverage
    created: int
    keyid: str
    expires: int | None
    nonce: str | None
    alg: str | None
    tag: str | None
    signature: bytes


def signed(
    profile: Profile, names: tuple[str, ...], values: dict[str, str], window: str, key: Key
) -> list[tuple[str, str]]:
    """The two headers of a signature of `values`. CannotSign."""
    text = f'({_identifiers(names)});{window};keyid="{key.id}";alg="{key.algorithm}";tag="{profile.tag}"'
    if not key.secret:
        raise CannotSign(f"the key {key.id} has no secret to sign with")
    try:
        base = fields.signature_base(names, values, text)
    except ValueError:
        raise CannotSign("what is signed is printable ASCII") from None
    signature = fields.write_base64(make_signature(key, base))
    label = profile.label
    return [("Signature-Input", f"{label}={text}"), ("Signature", f"{label}=:{signature}:")]


@lru_cache(maxsize=64)
def _identifiers(names: tuple[str, ...]) -> str:
    return " ".join(map(fields.identifier, names))


def read(headers: dict[str, str], profile: Profile) -> Given:
    """The one signature. Refused when there is none, more than one, or what cannot be read."""
    try:
        field, signature = headers["signature-input"], headers["signature"]
    except KeyError:
        raise Refused("missing_headers") from None
    return _read_as_we_write(field, signature, profile) or _read_any(field, signature, profile)


def _read_as_we_write(field: str, signature: str, profile: Profile) -> Given | None:
    match = _AS_WE_WRITE.fullmatch(field)
    if match is None or not signature.startswith("pf=:") or not signature.endswith(":"):
        return None
    text, covered, created, expires, nonce, keyid, alg, tag = match.groups()
    try:
        coverage, raw = _coverage(covered, profile), fields.read_base64(signature[4:-1])
    except (FieldError, Refused):
        return None
    return tuple.__new__(
        Given, ("pf", text, coverage, int(created), keyid, int(expires), nonce, alg, tag, raw)
    )


def _read_any(field: str, signature: str, profile: Profile) -> Given:
    if not (VISIBLE.fullmatch(field) and VISIBLE.fullmatch(signature)):
        raise Refused("malformed_header")
    try:
        members = fields.read_signature_input(field)
    except FieldError:
        raise Refused("malformed_signature_input") from None
    try:
        signatures = fields.read_byte_sequences(signature)
    except FieldError:
        raise Refused("malformed_signature") from None
    if len(members) > 1 or len(signatures) > 1:
        raise Refused("ambiguous_auth")
    return _given(members[0], signatures, profile)


def _given(member: SignatureInput, signatures: dict[str, bytes], profile: Profile) -> Given:
    if member.label not in signatures:
        raise Refused("malformed_signature")
    coverage = _coverage(member.covered, profile)
    if member.created is None or member.keyid is None:
        raise Refused("malformed_signature_input")
    if not IDENTIFIER.fullmatch(member.keyid):
        raise Refused("malformed_header")
    return Given(
        member.label, member.text, coverage, member.created, member.keyid,
        member.expires, member.nonce, member.alg, member.tag, signatures[member.label],
    )  # fmt: skip


@lru_cache(maxsize=256)
def _coverage(covered: str, profile: Profile) -> Coverage:
    """FieldError, or Refused for what the profile knows no value of: other derived components, parameters."""
    names = fields.components(covered)
    known = profile.derived | profile.headers
    if any(name[:1] in {"@", '"'} and name not in known for name in names):
        raise Refused("malformed_signature_input")
    more = tuple(name for name in names if name not in known)
    return Coverage(names, frozenset(names), profile.required <= set(names), more)


def find_key(given: Given, keyring: Keyring, accept: tuple[str, ...], now: float) -> Key:
    """The key in force that the signature names, accepted here for the algorithm that it names."""
    key = keyring.get(given.keyid)
    if key is None:
        spend(given.alg, given.text.encode(), given.signature)
        raise Refused("unknown_key", key_id=given.keyid)
    check_key_window(key, now)
    algorithm = key.algorithm
    if algorithm not in MODERN_ALGORITHMS or algorithm not in accept or given.alg not in {None, algorithm}:
        raise Refused("algorithm_not_allowed", key_id=key.id)
    return key


def time_fault(given: Given, now: float, skew: float) -> str | None:
    """The code to refuse with, or None. `expires` is a hard end: skew is for `created` alone."""
    created, expires = given.created, given.expires
    if not abs(now - created) <= skew:
        return "timestamp_out_of_window"
    if expires is not None and not (created < expires <= created + LIFETIME and now <= expires):
        return "bad_expires"
    return None


def check_name(given: Given, profile: Profile, key: Key) -> None:
    """`alg`, the label and the `tag`: which say that the signature means what we take it for."""
    meant = (given.label, given.tag)
    if given.alg is None or meant != profile[:2]:
        raise Refused("malformed_signature_input", key_id=key.id)


def check_signature(given: Given, values: dict[str, str], headers: list[tuple[str, str]], key: Key) -> None:
    """Over what we know the values of, and over any other header that was sent once."""
    more = given.coverage.more
    try:
        if more:
            values |= once(headers, frozenset(more))
        base = fields.signature_base(given.coverage.names, values, given.text)
    except KeyError:
        raise Refused("missing_headers", key_id=key.id) from None
    except ValueError:
        raise Refused("malformed_header", key_id=key.id) from None
    if not is_good(key, base, given.signature):
        raise Refused("bad_signature", key_id=key.id)


def once(headers: list[tuple[str, str]], names: frozenset[str]) -> dict[str, str]:
    """Those of these headers that were sent. Refused when one was twice, or holds what no line may hold."""
    found: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in names:
            if lowered in found:
                raise Refused("duplicate_header")
            if not VISIBLE.fullmatch(value):
                raise Refused("malformed_header")
            found[lowered] = value
    return found


def check_digest_grammar(field: str) -> None:
    """Refused when this Content-Digest cannot be read."""
    try:
        fields.read_byte_sequences(field)
    except FieldError:
        raise Refused("malformed_digest") from None


def check_digest(field: str, body: bytes, key: Key) -> None:
    """Refused when this Content-Digest is not that of `body`."""
    fault = fields.digest_fault(field, body)
    if fault is not None:
        raise Refused(fault, key_id=key.id)
