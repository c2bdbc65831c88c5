"""Signed answers (contract, section 2.3): each is bound to the one request that it answers."""

from __future__ import annotations

from provider_federation.protocol import fields
from provider_federation.protocol.profile import (
    REQUEST,
    REQUESTS_SIGNATURE,
    RESPONSE,
    CannotSign,
    check_digest,
    check_digest_grammar,
    check_signature,
    created_at,
    find_key,
    once,
    read,
    signed,
    time_fault,
)
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.values import MODERN_ALGORITHMS, Key, Keyring, Request, Response

_COVERED = ("@status", "content-digest", "content-type", REQUESTS_SIGNATURE)
_READ = frozenset({"content-digest", "content-type", "signature", "signature-input"})


def sign_response(response: Response, request: Request, key: Key, *, now: float) -> list[tuple[str, str]]:
    """The headers to add to `response`: Content-Digest, unless it has one, Signature-Input and Signature.

    `request` is the one that is answered, as received, with its v2 signature; `now` is seconds since 1970 UTC.
    Raises CannotSign, a ValueError: without a Content-Type, or without a request's signature to bind to.
    """
    try:
        values = _values(response, request)
    except Refused as refused:
        raise CannotSign(f"this response cannot be signed: {refused.code}") from None
    if "signature" in values or "signature-input" in values:
        raise CannotSign("the response is signed already")
    if "content-type" not in values:
        raise CannotSign("a response needs a Content-Type to be signed")
    added = []
    if "content-digest" not in values:
        added = [("Content-Digest", fields.content_digest(response.body))]
        values["content-digest"] = added[0][1]
    window = f"created={created_at(now)}"
    return added + signed(RESPONSE, {name: values[name] for name in _COVERED}, window, key)


def verify_response(
    response: Response, request: Request, keyring: Keyring, *, now: float, skew: float = 300
) -> Key:
    """The key that signed `response` as the answer to `request`; raises Refused and nothing else.

    `request` is as it was sent, with the headers of `sign`; `keyring` holds the keys whose answers are taken;
    `now` is seconds since 1970 UTC.
    """
    try:
        return _verify(response, request, keyring, now, skew)
    except (TypeError, ValueError, AttributeError):  # headers that are no pairs, a status that is no number
        raise Refused("malformed_header") from None


def _verify(response: Response, request: Request, keyring: Keyring, now: float, skew: float) -> Key:
    values = _values(response, request)
    given = read(values, RESPONSE)
    if "content-digest" in values:
        check_digest_grammar(values["content-digest"])
    key = find_key(given, keyring, MODERN_ALGORITHMS, now)
    late = time_fault(given, now, skew)
    if late:
        raise Refused(late, key_id=key.id)
    if not given.coverage.is_enough:
        raise Refused("insufficient_coverage", key_id=key.id)
    if not given.is_ours:
        raise Refused("malformed_signature_input", key_id=key.id)
    check_signature(given, values, response.headers, key)
    check_digest(values["content-digest"], response.body, key)
    return key


def answer_key(key: Key, response_key: Key | None) -> Key | None:
    """What signs the answer to a request that `key` signed: the deployment's own key, else a shared secret."""
    if response_key is not None:
        return response_key
    return key if key.algorithm == "hmac-sha256" else None


def _values(response: Response, request: Request) -> dict[str, str]:
    """What can be covered. Refused when a header stands twice, or the request carries no signature of ours."""
    values = once(response.headers, _READ)
    label, _, signature = once(request.headers, frozenset({"signature"})).get("signature", "").partition("=")
    if label != REQUEST.label or not 100 <= response.status <= 599:
        raise Refused("missing_headers")
    fields.read_byte_sequences(f"{label}={signature}")
    return values | {"@status": str(response.status), REQUESTS_SIGNATURE: signature}
