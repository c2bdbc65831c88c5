"""What requests and answers have in common in v2: one signature, its key, its time, what it is over."""

from __future__ import annotations

import re
from binascii import b2a_base64
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from provider_federation.protocol import fields
from provider_federation.protocol.claims import key_fault
from provider_federation.protocol.fields import FieldError, SignatureInput
from provider_federation.protocol.grammar import VISIBLE
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.signing import is_good, make_signature, nobody
from provider_federation.protocol.values import IDENTIFIER, MODERN_ALGORITHMS, Key, Keyring

LIFETIME = 300
"""Seconds from `created` to `expires`, at most; what we sign lives that long."""

# 128 random bits are 22 characters of base64 or base64url; hexadecimal has more.
NONCE = re.compile(r"[A-Za-z0-9+/_-]{22,128}={0,2}", re.ASCII).fullmatch


@dataclass(frozen=True, eq=False)
class Profile:
    """What is signed in one direction, under which label and tag.

    `derived` are the components with @ or parameters that may be covered, `headers` those that a caller of
    `check_signature` gives a value for; `when_sent` of these need not be there, but are covered where they are.
    Any other header may be covered too.
    """

    label: str
    tag: str
    required: frozenset[str]
    derived: frozenset[str]
    headers: frozenset[str]
    when_sent: tuple[str, ...] = ()


DERIVED = ("@method", "@authority", "@path", "@query")
REQUEST = Profile(
    label="pf",
    tag="provider-federation-v2",
    required=frozenset({*DERIVED, "x-provider-instance", "x-provider-scope"}),
    derived=frozenset(DERIVED),
    headers=frozenset({
        "x-provider-instance", "x-provider-scope", "x-provider-org", "idempotency-key", "content-digest",
        "content-type",
    }),
    when_sent=("x-provider-org", "idempotency-key", "content-digest"),
)  # fmt: skip
REQUESTS_SIGNATURE = '"signature";req;key="pf"'
RESPONSE = Profile(
    label="pf-res",
    tag="provider-federation-v2-response",
    required=frozenset({"@status", "content-digest", "content-type", REQUESTS_SIGNATURE}),
    derived=frozenset({"@status", REQUESTS_SIGNATURE}),
    headers=frozenset({"content-digest", "content-type"}),
)


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What a list covers, in the light of a profile: whether that is all that must be there; which of `when_sent`
    are not; whether a body is covered; headers that the profile does not know.
    """

    layout: fields.Layout
    is_enough: bool
    open: tuple[str, ...]
    covers_body: bool
    more: frozenset[str]


class Given(NamedTuple):
    """A signature and what it says it covers: well-formed, and none of it proven.

    `nonce` is None when there is none that we take; `is_ours` when label, tag and alg are there, and say so.
    """

    text: str
    coverage: Coverage
    created: int
    expires: int | None
    nonce: str | None
    keyid: str
    alg: str | None
    is_ours: bool
    signature: bytes


def created_at(now: float) -> int:
    """`created` of what is signed at `now`. CannotSign when that is no time."""
    if not 0 < now < 10**15:
        raise CannotSign("now is seconds since 1970 UTC")
    return int(now)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Signature and base of one key's messages, where what differs between them is still open.

    `pieces` are those of `fields.fill`, with a place for each such value, and a last one for the text of Signature-Input.
    """

    label: str
    pieces: list[str]
    listed: str
    ending: str

    def headers(self, values: tuple[str, ...], window: str, key: Key) -> list[tuple[str, str]]:
        """The two headers of the signature. The values are printable: whoever gives them has looked. CannotSign."""
        if not key.secret:
            raise CannotSign(f"the key {key.id} has no secret to sign with")
        text = f"{self.listed};{window}{self.ending}"
        try:
            base = fields.fill(self.pieces, (*values, text))
        except UnicodeEncodeError:
            raise CannotSign("what is signed is printable ASCII") from None
        signature = b2a_base64(make_signature(key, base), newline=False).decode("ascii")
        return [("Signature-Input", f"{self.label}={text}"), ("Signature", f"{self.label}=:{signature}:")]


@lru_cache(maxsize=512)
def template(
    profile: Profile, names: tuple[str, ...], fixed: tuple[str | None, ...], key_id: str, algorithm: str
) -> Template:
    """For components of these names, in this order; None among `fixed` is a value that differs. CannotSign."""
    if not fields.is_printable("".join(value for value in fixed if value is not None)):
        raise CannotSign("what is signed is printable ASCII")
    layout = fields.layout(names)
    pieces = [""]
    for before, value in zip(layout.pieces[::2], (*fixed, None), strict=True):
        pieces[-1] += before + (value or "")
        if value is None:
            pieces += ["", ""]
    ending = f';keyid="{key_id}";alg="{algorithm}";tag="{profile.tag}"'
    return Template(profile.label, pieces[:-1], layout.listed, ending)


def read(headers: dict[str, str], profile: Profile) -> Given:
    """The one signature. Refused when there is none, more than one, or what cannot be read."""
    try:
        field, signature = headers["signature-input"], headers["signature"]
    except KeyError:
        raise Refused("missing_headers") from None
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
    coverage = read_coverage(member.covered, profile)
    if member.created is None or member.keyid is None:
        raise Refused("malformed_signature_input")
    if not IDENTIFIER.fullmatch(member.keyid):
        raise Refused("malformed_header")
    nonce = member.nonce if member.nonce is not None and NONCE(member.nonce) else None
    is_named = member.label == profile.label and member.tag == profile.tag
    is_ours = is_named and member.alg is not None
    return Given(
        member.text, coverage, member.created, member.expires, nonce,
        member.keyid, member.alg, is_ours, signatures[member.label],
    )  # fmt: skip


@lru_cache(maxsize=256)
def read_coverage(covered: str, profile: Profile) -> Coverage:
    """FieldError, or Refused for what the profile knows no value of: other derived components, parameters."""
    names = fields.components(covered)
    known = profile.derived | profile.headers
    if any(name[:1] in {"@", '"'} and name not in known for name in names):
        raise Refused("malformed_signature_input")
    return Coverage(
        fields.layout(names),
        is_enough=profile.required.issubset(names),
        open=tuple(name for name in profile.when_sent if name not in names),
        covers_body={"content-digest", "content-type"}.issubset(names),
        more=frozenset(names) - known,
    )


def find_key(
    given: Given, keyring: Keyring, accept: tuple[str, ...], now: float, *, is_wrong: bool = False
) -> Key:
    """The key in force that the signature names, accepted here for the algorithm that it names.

    One that is unknown or not in force costs what another does, unless that was spent already (`is_wrong`): the
    caller may not tell the two apart.
    """
    key = keyring.get(given.keyid)
    fault = "unknown_key" if key is None else key_fault(key, now)
    if key is None or fault is not None:
        if not is_wrong:
            is_good(nobody(given.alg), given.text.encode(), given.signature)
        raise Refused(fault or "unknown_key", key_id=given.keyid)
    algorithm = key.algorithm
    named = algorithm if given.alg is None else given.alg
    if algorithm not in MODERN_ALGORITHMS or algorithm not in accept or named != algorithm:
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


def check_signature(
    given: Given, values: dict[str, str], headers: list[tuple[str, str]], key: Key, *, is_wrong: bool = False
) -> None:
    """Over what we know the values of, and over any other header that was sent once. The values are visible text:
    whoever put them there has looked. `is_wrong`: the signature is known to be none.
    """
    if is_wrong:
        raise Refused("bad_signature", key_id=key.id)
    coverage = given.coverage
    try:
        if coverage.more:
            values |= once(headers, coverage.more)
        base = coverage.layout.base(coverage.layout.pick(values), given.text)
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
    """Refused when this Content-Digest, which can be read, is not that of `body`."""
    fault = fields.digest_fault(field, body)
    if fault is not None:
        raise Refused(fault, key_id=key.id)
