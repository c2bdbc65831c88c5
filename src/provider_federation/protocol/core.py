"""`sign` and `verify`: which scheme, and the order of the checks (contract, section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping

from provider_federation.protocol import legacy, modern, quick
from provider_federation.protocol.claims import Claim, admit
from provider_federation.protocol.grammar import check_shape, read_headers
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.replay import Ratchet, ReplayStore
from provider_federation.protocol.shapes import SHAPES, read_fields
from provider_federation.protocol.values import (
    LEGACY_ALGORITHMS,
    Head,
    Key,
    Keyring,
    Policy,
    Principal,
    Request,
)


def sign(
    request: Request,
    key: Key,
    *,
    now: float,
    scope: str | None = "provider",
    instance: str | None = None,
    org: str | None = None,
    nonce: str | None = None,
) -> list[tuple[str, str]]:
    """The headers to add to `request`, by the scheme that `key.algorithm` belongs to.

    `now` is seconds since 1970 UTC. v2 has to know which `instance` is meant (or the key says), makes a `nonce`
    of its own, and adds Content-Digest (and Content-Type, if there is none) to a body; the legacy scheme has no
    place for these. Whether the request is one that a verifier takes is the verifier's to say. Raises
    CannotSign, a ValueError.
    """
    try:
        if key.algorithm in LEGACY_ALGORITHMS:
            return legacy.sign(request, key, now=now, scope=scope, org=org)
        return modern.sign(request, key, now=now, scope=scope, instance=instance, org=org, nonce=nonce)
    except Refused as refused:
        raise CannotSign(f"this request cannot be signed: {refused.code}") from None
    except CannotSign:
        raise
    except (ValueError, OverflowError):
        raise CannotSign("now is seconds since 1970 UTC, and what is signed is text") from None


def verify(
    request: Request,
    keyring: Keyring,
    policy: Policy,
    *,
    now: float,
    replay: ReplayStore | None = None,
    ratchet: Ratchet | None = None,
) -> Principal:
    """The principal that signed `request`; raises Refused and nothing else. `now` is seconds since 1970 UTC.

    `replay=None` means no memory, for tests and reads only; without a `ratchet` a pair can always go back to
    the legacy scheme.
    """
    try:
        headers = dict(request.headers)
        if (
            len(headers) == len(request.headers) <= policy.max_headers
            and len("".join(headers.values())) <= policy.max_header  # all together: so none is longer
        ):
            shape = SHAPES[tuple(headers)]
            return quick.verify(request, shape, shape.pick(headers), keyring, policy, now, replay, ratchet)
        is_wrong = False
    except quick.Wrong:
        is_wrong = True
    except quick.NOT_PLAIN:
        is_wrong = False
    claim = _check(request, _read(request, policy), keyring, policy, now, is_wrong=is_wrong)
    return finish(claim, request.body, policy, now=now, replay=replay, ratchet=ratchet)


def verify_fields(
    head: Head,
    fields: Mapping[bytes, bytes],
    count: int,
    keyring: Keyring,
    policy: Policy,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> Principal | None:
    """The short way for an adapter that has `count` headers as bytes, in `fields`.

    None says nothing: then `check_head` and `finish` do, with the whole request. Refused, and nothing else.
    """
    try:
        shape, values = read_fields(fields, count, policy)
        return quick.verify(head, shape, values, keyring, policy, now, replay, ratchet)
    except quick.NOT_PLAIN:
        return None
    except quick.Wrong:
        method, target, authority, body, peer = head
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields.items()]
        whole = Request(method, target, authority, headers, body, peer)
        _check(whole, _read(whole, policy), keyring, policy, now, is_wrong=True)
    raise Refused("internal_error")  # out of reach: what is wrong is refused


def check_head(request: Request, keyring: Keyring, policy: Policy, now: float) -> Claim:
    """Everything up to the signature, leaving no trace. An adapter may ask this, with body=b"", before it reads
    the body, and then `finish` with what it read: together they are `verify`.
    """
    return _check(request, _read(request, policy), keyring, policy, now, is_wrong=False)


def _read(request: Request, policy: Policy) -> dict[str, str]:
    try:
        headers = read_headers(request, policy)
        check_shape(request, headers, policy)
    except (TypeError, ValueError, AttributeError):  # headers that are no pairs, a target that is no text
        raise Refused("malformed_header") from None
    if _is_modern(headers) and legacy.is_signed(headers):
        raise Refused("ambiguous_auth")
    return headers


def _is_modern(headers: dict[str, str]) -> bool:
    return "signature-input" in headers or "signature" in headers


def _check(
    request: Request, headers: dict[str, str], keyring: Keyring, policy: Policy, now: float, *, is_wrong: bool
) -> Claim:
    check = modern.check if _is_modern(headers) else legacy.check
    try:
        return check(request, headers, keyring, policy, now, is_wrong=is_wrong)
    except (TypeError, ValueError, AttributeError):  # a value that is no text
        raise Refused("malformed_header") from None


def finish(
    claim: Claim,
    body: bytes,
    policy: Policy,
    *,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None = None,
) -> Principal:
    """What follows on `check_head`: the digest of the received body, audience, scope, org, replay, ratchet.

    `now` is when the body was there. It may not come later than what is used is remembered: else a signature that is
    over would be taken of whoever sent its head in time, and held back the rest.
    """
    if len(body) > policy.max_body:
        raise Refused("body_too_large", key_id=claim.key.id)
    try:
        _check_end(claim, now)
        if claim.scheme == "v2":
            modern.check_body(claim, body)
        return admit(claim, policy, now, replay, ratchet)
    except TypeError:  # an org that is no text
        raise Refused("malformed_header", key_id=claim.key.id) from None
    except Refused as refused:
        refused.signer = claim.key if claim.scheme == "v2" else None
        raise


def _check_end(claim: Claim, now: float) -> None:
    if not now <= claim.expires:
        code = "bad_expires" if claim.scheme == "v2" else "timestamp_out_of_window"
        raise Refused(code, key_id=claim.key.id)
