"""Signed answers (contract, section 2.3): each is bound to the one request that it answers."""

from __future__ import annotations

from binascii import b2a_base64
from functools import lru_cache

from provider_federation.protocol import fields
from provider_federation.protocol.grammar import NAMES, VISIBLE
from provider_federation.protocol.profile import (
    REQUEST,
    REQUESTS_SIGNATURE,
    RESPONSE,
    check_digest,
    check_digest_grammar,
    check_signature,
    created_at,
    find_key,
    read,
    time_fault,
)
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.signing import make_signature
from provider_federation.protocol.values import MODERN_ALGORITHMS, Key, Keyring, Request, Response

_READ = frozenset({"content-digest", "content-type", "signature", "signature-input"})
_COVERED = fields.layout(("@status", "content-digest", "content-type", REQUESTS_SIGNATURE)).listed


def sign_response(response: Response, request: Request, key: Key, *, now: float) -> list[tuple[str, str]]:
    """The headers to add to `response`: Content-Digest, unless it has one, Signature-Input and Signature.

    `request` is the one that is answered, as received, with its v2 signature; `now` is seconds since 1970 UTC.
    Raises CannotSign, a ValueError: without a Content-Type, or without a request's signature to bind to.
    """
    try:
        sent, asked = _sent(response), asked_by(request)
    except Refused as refused:
        raise CannotSign(f"this response cannot be signed: {refused.code}") from None
    if "signature" in sent or "signature-input" in sent:
        raise CannotSign("the response is signed already")
    if "content-type" not in sent:
        raise CannotSign("a response needs a Content-Type to be signed")
    digest = sent.get("content-digest") or fields.content_digest(response.body)
    field, signature = sign_bytes(
        response.status, digest.encode(), sent["content-type"].encode(), asked.encode(), key, now=now
    )
    added = [("Signature-Input", field.decode()), ("Signature", signature.decode())]
    return added if "content-digest" in sent else [("Content-Digest", digest), *added]


def sign_bytes(
    status: int, digest: bytes, content_type: bytes, asked: bytes, key: Key, *, now: float
) -> tuple[bytes, bytes]:
    """Signature-Input and Signature of an answer, all as bytes of the wire. CannotSign.

    `digest` is its Content-Digest, `asked` what the request's Signature holds behind `pf=`: both are taken as they
    are, and may hold no line of their own, which no server lets in.
    """
    if not key.secret:
        raise CannotSign(f"the key {key.id} has no secret to sign with")
    field, first, second, last = _parts(created_at(now), key.id, key.algorithm, status, content_type)
    mac = make_signature(key, b"%b%b%b%b%b" % (first, digest, second, asked, last))
    return field, b"pf-res=:%b:" % b2a_base64(mac, newline=False)


@lru_cache(maxsize=256)
def _parts(
    created: int, key_id: str, algorithm: str, status: int, content_type: bytes
) -> tuple[bytes, bytes, bytes, bytes]:
    """Signature-Input, and what stands in the base before the digest, behind it, and behind the request's signature:
    the same for all answers of one kind in one second.
    """
    if not (100 <= status <= 599 and VISIBLE.fullmatch(content_type.decode("latin-1"))):
        raise CannotSign("what is signed is a status of HTTP, and printable ASCII")
    text = f'{_COVERED};created={created};keyid="{key_id}";alg="{algorithm}";tag="{RESPONSE.tag}"'.encode()
    return (
        b"pf-res=%b" % text,
        b'"@status": %d\n"content-digest": ' % status,
        b'\n"content-type": %b\n%b: ' % (content_type, REQUESTS_SIGNATURE.encode()),
        b'\n"@signature-params": %b' % text,
    )


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
    asked = asked_by(request)
    if not 100 <= response.status <= 599:
        raise Refused("missing_headers")
    values = _sent(response) | {"@status": str(response.status), REQUESTS_SIGNATURE: asked}
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


def _sent(response: Response) -> dict[str, str]:
    """What the response has of the headers that matter. Refused when one stands twice, or is no visible text."""
    found: dict[str, str] = {}
    for name, value in response.headers:
        kept = NAMES[name]
        if kept in _READ:
            if kept in found:
                raise Refused("duplicate_header")
            if not VISIBLE.fullmatch(value):
                raise Refused("malformed_header")
            found[kept] = value
    return found


def asked_by(request: Request) -> str:
    """The request's one signature, as the component has it. Refused where there is none to answer."""
    found = [value for name, value in request.headers if NAMES[name] == "signature"]
    if len(found) > 1:
        raise Refused("duplicate_header")
    label, _, signature = found[0].partition("=") if found else ("", "", "")
    if label != REQUEST.label:
        raise Refused("missing_headers")
    try:
        is_framed = signature.startswith(":") and signature.endswith(":")
        fields.read_base64(signature[1:-1])
    except fields.FieldError:
        is_framed = False
    if not is_framed:
        raise Refused("malformed_signature")
    return signature
