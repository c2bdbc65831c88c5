"""The v2 scheme (contract, sections 2.2 and 2.3): our profile of RFC 9421, for requests and for their answers."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from binascii import b2a_base64
from os import urandom
from typing import NamedTuple

from provider_federation.protocol import fields
from provider_federation.protocol.claims import Claim, check_key_window
from provider_federation.protocol.fields import FieldError, SignatureInput
from provider_federation.protocol.grammar import FEDERATION_HEADERS, VISIBLE, normal_authority
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.signing import is_good, make_signature, spend
from provider_federation.protocol.values import (
    IDENTIFIER,
    MODERN_ALGORITHMS,
    Key,
    Keyring,
    Policy,
    Request,
    Response,
)

LIFETIME = 300
"""Seconds between `created` and `expires`, at most; what we sign lives that long."""

_NONCE = re.compile(r"[A-Za-z0-9+/_-]{22,128}={0,2}", re.ASCII)
_TEXTS = ("x-provider-instance", "x-provider-scope", "x-provider-org", "idempotency-key", "content-type")
_OF_THE_BODY = ("content-digest", "content-type")
_COVERED_WHEN_SENT = ("x-provider-org", "idempotency-key", "content-digest")


class Profile(NamedTuple):
    """What one direction signs under which name."""

    label: str
    tag: str
    required: frozenset[str]
    unlike_headers: frozenset[str]


REQUEST = Profile(
    "pf",
    "provider-federation-v2",
    frozenset({"@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope"}),
    frozenset({"@method", "@authority", "@path", "@query"}),
)
_REQUESTS_SIGNATURE = '"signature";req;key="pf"'
RESPONSE = Profile(
    "pf-res",
    "provider-federation-v2-response",
    frozenset({"@status", "content-digest", "content-type", _REQUESTS_SIGNATURE}),
    frozenset({"@status", _REQUESTS_SIGNATURE}),
)


class CannotSign(ValueError):
    """The key's algorithm cannot sign, or what should be signed cannot stand in a header."""


class Given(NamedTuple):
    """A signature and what it says it covers; all of it well-formed, none of it proven."""

    input: SignatureInput
    names: tuple[str, ...]
    signature: bytes


# Requests


def sign(
    request: Request,
    key: Key,
    *,
    now: float,
    scope: str | None,
    instance: str | None,
    org: str | None,
    nonce: str | None,
) -> list[tuple[str, str]]:
    """The headers to add; `content-digest` and `content-type` are among them where a body needs them."""
    values = _sendable(request)
    named = {
        "X-Provider-Instance": instance or key.instance,
        "X-Provider-Scope": scope or key.scope,
        "X-Provider-Org": org,
        "Content-Digest": fields.content_digest(request.body) if request.body else None,
        "Content-Type": "application/octet-stream" if request.body else None,
    }
    if not named["X-Provider-Instance"]:
        raise CannotSign("say which instance is meant: v2 signs its name")
    added = [
        (name, value) for name, value in named.items() if value is not None and name.lower() not in values
    ]
    values |= {name.lower(): value for name, value in added}
    names = ("@method", "@authority", "@path", "@query", *values)
    values |= _derived(request)
    created = int(now)
    nonce = urlsafe_b64encode(urandom(18)).decode() if nonce is None else nonce
    window = f'created={created};expires={created + LIFETIME};nonce="{nonce}"'
    return added + _signed(REQUEST, names, values, window, key)


def _sendable(request: Request) -> dict[str, str]:
    """Those headers of a request to sign that a signature has to cover."""
    found: dict[str, str] = {}
    for name, value in request.headers:
        lowered = name.lower()
        if lowered in FEDERATION_HEADERS:
            raise CannotSign(f"the request carries {name} already")
        if lowered == "idempotency-key" or (
            lowered in _OF_THE_BODY and (request.body or lowered != "content-type")
        ):
            if lowered in found:
                raise CannotSign(f"the request carries {name} twice")
            found[lowered] = value
    return found


def _signed(
    profile: Profile, names: tuple[str, ...], values: dict[str, str], window: str, key: Key
) -> list[tuple[str, str]]:
    identifiers = [name if name.startswith('"') else f'"{name}"' for name in names]
    text = f'({" ".join(identifiers)});{window};keyid="{key.id}";alg="{key.algorithm}";tag="{profile.tag}"'
    if not key.secret:
        raise CannotSign(f"the key {key.id} has no secret to sign with")
    try:
        base = fields.signature_base(names, values, text)
    except ValueError:
        raise CannotSign("what is signed is printable ASCII") from None
    signature = b2a_base64(make_signature(key, base), newline=False).decode()
    return [
        ("Signature-Input", f"{profile.label}={text}"),
        ("Signature", f"{profile.label}=:{signature}:"),
    ]


def check(request: Request, headers: dict[str, str], keyring: Keyring, policy: Policy, now: float) -> Claim:
    """What these headers prove, or Refused. The body is not looked at, but for whether there is one."""
    given = _read(headers, REQUEST)
    _check_grammar(headers)
    values = headers | _derived(request)
    if normal_authority(headers.get("host", request.authority)) != values["@authority"]:
        raise Refused("bad_framing")
    key = _find_key(given, keyring, policy.accept, now)
    late = _time_fault(given.input, now, policy.skew)
    try:
        _check_request_coverage(given, headers, bool(request.body), key)
        _check_signature(given, values, request.headers, key)
    except Refused as refused:
        raise Refused(late, key_id=key.id) if late else refused from None
    if late:
        raise Refused(late, key_id=key.id, signer=key)
    covered = set(given.names)
    assert given.input.nonce is not None
    assert given.input.expires is not None
    return Claim(
        key=key,
        scope=headers["x-provider-scope"],
        org=headers.get("x-provider-org"),
        instance=headers["x-provider-instance"],
        token=given.input.nonce,
        expires=given.input.expires + policy.skew,
        scheme="v2",
        authority=values["@authority"],
        digest=headers.get("content-digest"),
        covers_body=covered.issuperset(_OF_THE_BODY),
    )


def check_body(claim: Claim, body: bytes) -> None:
    """The part of the coverage, and the digest, that only the received bytes can tell."""
    if body and not claim.covers_body:
        raise Refused("insufficient_coverage", key_id=claim.key.id)
    if claim.digest is not None:
        _check_digest(claim.digest, body, claim.key)


def _derived(request: Request) -> dict[str, str]:
    path, _, query = request.target.partition("?")
    return {
        "@method": request.method,
        "@authority": normal_authority(request.authority),
        "@path": path,
        "@query": "?" + query,
    }


def _check_grammar(headers: dict[str, str]) -> None:
    for name in _TEXTS:
        if name in headers and not VISIBLE.fullmatch(headers[name]):
            raise Refused("malformed_header")
    if "content-digest" in headers:
        try:
            fields.read_byte_sequences(headers["content-digest"])
        except FieldError:
            raise Refused("malformed_digest") from None


def _check_request_coverage(given: Given, headers: dict[str, str], has_body: bool, key: Key) -> None:
    names = set(given.names)
    required = set(REQUEST.required)
    required.update(name for name in _COVERED_WHEN_SENT if name in headers)
    if has_body:
        required.update(_OF_THE_BODY)
    if not required <= names or (has_body and "content-digest" not in headers):
        raise Refused("insufficient_coverage", key_id=key.id)
    if given.input.expires is None:
        raise Refused("bad_expires", key_id=key.id)
    if given.input.nonce is None or not _NONCE.fullmatch(given.input.nonce):
        raise Refused("bad_nonce", key_id=key.id)
    _check_name(given, REQUEST, key)


# Responses


def sign_response(response: Response, request: Request, key: Key, *, now: float) -> list[tuple[str, str]]:
    """The headers to add to `response`: Content-Digest, Signature-Input, Signature.

    `request` is the one that is answered, as received, with its v2 signature; `now` is seconds since 1970 UTC.
    Raises CannotSign, a ValueError: without a Content-Type, or where there is no request's signature to bind to.
    """
    values = _response_values(response, request)
    if "signature" in values or "signature-input" in values:
        raise CannotSign("the response is signed already")
    added = []
    if "content-digest" not in values:
        added.append(("Content-Digest", fields.content_digest(response.body)))
        values["content-digest"] = added[0][1]
    if "content-type" not in values:
        raise CannotSign("a response needs a Content-Type to be signed")
    names = ("@status", "content-digest", "content-type", _REQUESTS_SIGNATURE)
    return added + _signed(RESPONSE, names, values, f"created={int(now)}", key)


def verify_response(
    response: Response, request: Request, keyring: Keyring, *, now: float, skew: float = 300
) -> Key:
    """The key that signed `response` as the answer to `request`; raises Refused and nothing else.

    `request` is as it was sent, with the headers of `sign`; `keyring` holds the keys whose answers are taken;
    `now` is seconds since 1970 UTC.
    """
    try:
        values = _response_values(response, request)
    except (TypeError, ValueError, AttributeError):
        raise Refused("malformed_header") from None
    given = _read(values, RESPONSE)
    _check_grammar(values)
    key = _find_key(given, keyring, MODERN_ALGORITHMS, now)
    late = _time_fault(given.input, now, skew)
    if late:
        raise Refused(late, key_id=key.id)
    if not RESPONSE.required <= set(given.names):
        raise Refused("insufficient_coverage", key_id=key.id)
    _check_name(given, RESPONSE, key)
    _check_signature(given, values, response.headers, key)
    _check_digest(values["content-digest"], response.body, key)
    return key


def answer_key(key: Key, response_key: Key | None) -> Key | None:
    """What signs the answer to a request that `key` signed: the deployment's own key, else a shared secret."""
    if response_key is not None:
        return response_key
    return key if key.algorithm == "hmac-sha256" else None


def _response_values(response: Response, request: Request) -> dict[str, str]:
    """ValueError (Refused) when the request has no signature of ours, or a response header stands twice."""
    values = _once(response.headers, ("content-digest", "content-type", "signature", "signature-input"))
    sent = _once(request.headers, ("signature",)).get("signature", "")
    if not sent.startswith(f"{REQUEST.label}=:"):
        raise CannotSign("the request carries no v2 signature")
    if not 100 <= response.status <= 599:
        raise CannotSign("a status is 100 to 599")
    return values | {
        "@status": str(response.status),
        _REQUESTS_SIGNATURE: sent.removeprefix(f"{REQUEST.label}="),
    }


def _once(headers: list[tuple[str, str]], names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in names:
            if lowered in found:
                raise CannotSign(f"{name} stands there twice")
            found[lowered] = value
    return found


# Both


def _read(headers: dict[str, str], profile: Profile) -> Given:
    """The one signature. Refused when there is none, more than one, or what cannot be read."""
    if "signature" not in headers or "signature-input" not in headers:
        raise Refused("missing_headers")
    for name in ("signature-input", "signature"):
        if not VISIBLE.fullmatch(headers[name]):
            raise Refused("malformed_header")
    try:
        members = fields.read_signature_input(headers["signature-input"])
        names = fields.components(members[0].covered)
    except FieldError:
        raise Refused("malformed_signature_input") from None
    try:
        signatures = fields.read_byte_sequences(headers["signature"])
    except FieldError:
        raise Refused("malformed_signature") from None
    if len(members) > 1 or len(signatures) > 1:
        raise Refused("ambiguous_auth")
    given = members[0]
    if given.label not in signatures:
        raise Refused("malformed_signature")
    if given.keyid is None or given.created is None or any(_is_foreign(name, profile) for name in names):
        raise Refused("malformed_signature_input")
    if not IDENTIFIER.fullmatch(given.keyid):
        raise Refused("malformed_header")
    return Given(given, names, signatures[given.label])


def _is_foreign(name: str, profile: Profile) -> bool:
    """A derived component that the profile does not list, or any parameter on a component."""
    return name[:1] in {"@", '"'} and name not in profile.unlike_headers


def _find_key(given: Given, keyring: Keyring, accept: tuple[str, ...], now: float) -> Key:
    keyid, alg = given.input.keyid, given.input.alg
    assert keyid is not None
    key = keyring.get(keyid)
    if key is None:
        spend(alg, given.input.text.encode(), given.signature)
        raise Refused("unknown_key", key_id=keyid)
    check_key_window(key, now)
    algorithm = key.algorithm
    if (
        algorithm not in MODERN_ALGORITHMS
        or algorithm not in accept
        or (alg is not None and alg != algorithm)
    ):
        raise Refused("algorithm_not_allowed", key_id=keyid)
    return key


def _time_fault(given: SignatureInput, now: float, skew: float) -> str | None:
    created, expires = given.created, given.expires
    assert created is not None
    if not abs(now - created) <= skew:
        return "timestamp_out_of_window"
    if expires is not None and not (created < expires <= created + LIFETIME and now <= expires):
        return "bad_expires"
    return None


def _check_name(given: Given, profile: Profile, key: Key) -> None:
    """`alg`, the label and the `tag`: which say that the signature means what we take it for."""
    meant = (given.input.label, given.input.tag)
    if given.input.alg is None or meant != profile[:2]:
        raise Refused("malformed_signature_input", key_id=key.id)


def _check_signature(given: Given, values: dict[str, str], headers: list[tuple[str, str]], key: Key) -> None:
    """Over whatever else is covered too: any header that was sent, once."""
    try:
        more = tuple(name for name in given.names if name not in values)
        base = fields.signature_base(given.names, values | _once(headers, more), given.input.text)
    except KeyError:
        raise Refused("missing_headers", key_id=key.id) from None
    except CannotSign:
        raise Refused("duplicate_header", key_id=key.id) from None
    except ValueError:
        raise Refused("malformed_header", key_id=key.id) from None
    if not is_good(key, base, given.signature):
        raise Refused("bad_signature", key_id=key.id)


def _check_digest(field: str, body: bytes, key: Key) -> None:
    fault = fields.digest_fault(field, body)
    if fault is not None:
        raise Refused(fault, key_id=key.id)
