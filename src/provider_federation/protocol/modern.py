"""The v2 scheme for requests (contract, section 2.2): our profile of RFC 9421."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from os import urandom

from provider_federation.protocol import fields
from provider_federation.protocol.claims import Claim
from provider_federation.protocol.grammar import FEDERATION_HEADERS, VISIBLE, is_visible
from provider_federation.protocol.profile import (
    LIFETIME,
    CannotSign,
    Given,
    Profile,
    check_digest,
    check_digest_grammar,
    check_name,
    check_signature,
    find_key,
    read,
    signed,
    time_fault,
)
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.values import Key, Keyring, Policy, Request, normal_authority

_DERIVED = ("@method", "@authority", "@path", "@query")
_OF_THE_BODY = ("content-digest", "content-type")
_ORDER = (
    *_DERIVED,
    "x-provider-instance",
    "x-provider-scope",
    "x-provider-org",
    "idempotency-key",
    *_OF_THE_BODY,
)
PROFILE = Profile(
    label="pf",
    tag="provider-federation-v2",
    required=frozenset({*_DERIVED, "x-provider-instance", "x-provider-scope"}),
    derived=frozenset(_DERIVED),
    headers=frozenset({
        "x-provider-instance", "x-provider-scope", "x-provider-org", "idempotency-key", *_OF_THE_BODY,
    }),
)  # fmt: skip

# 128 random bits are 22 characters of base64 or base64url; hexadecimal has more.
_NONCE = re.compile(r"[A-Za-z0-9+/_-]{22,128}={0,2}", re.ASCII)
_DIGEST_AS_WE_WRITE = re.compile(r"sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:", re.ASCII)
_TEXTS = ("x-provider-instance", "x-provider-scope", "x-provider-org", "content-type")


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
    instance = instance or key.instance
    if not instance:
        raise CannotSign("say which instance is meant: v2 signs its name")
    values = _derived(request, {})
    values["x-provider-instance"] = instance
    values["x-provider-scope"] = scope or key.scope
    added = [("X-Provider-Instance", instance), ("X-Provider-Scope", values["x-provider-scope"])]
    if org is not None:
        values["x-provider-org"] = org
        added.append(("X-Provider-Org", org))
    values |= _sent(request)
    if request.body and "content-digest" not in values:
        values["content-digest"] = fields.content_digest(request.body)
        added.append(("Content-Digest", values["content-digest"]))
    if request.body and "content-type" not in values:
        values["content-type"] = "application/octet-stream"
        added.append(("Content-Type", values["content-type"]))
    names = tuple([name for name in _ORDER if name in values])
    created = int(now)
    nonce = urlsafe_b64encode(urandom(18)).decode("ascii") if nonce is None else nonce
    window = f'created={created};expires={created + LIFETIME};nonce="{nonce}"'
    return added + signed(PROFILE, names, values, window, key)


def _sent(request: Request) -> dict[str, str]:
    """Those headers of a request to sign that its signature has to cover."""
    found: dict[str, str] = {}
    for name, value in request.headers:
        lowered = name.lower()
        if lowered in FEDERATION_HEADERS:
            raise CannotSign(f"the request carries {name} already")
        if lowered in {"idempotency-key", "content-digest"} or (lowered == "content-type" and request.body):
            if lowered in found:
                raise CannotSign(f"the request carries {name} twice")
            found[lowered] = value
    return found


def check(request: Request, headers: dict[str, str], keyring: Keyring, policy: Policy, now: float) -> Claim:
    """What these headers prove, or Refused. The body is not looked at, but for whether there is one."""
    given = read(headers, PROFILE)
    _check_grammar(headers)
    values = _derived(request, headers)
    key = find_key(given, keyring, policy.accept, now)
    late = time_fault(given, now, policy.skew)
    try:
        expires = _check_coverage(given, headers, bool(request.body), key)
        check_signature(given, values, request.headers, key)
    except Refused as refused:
        raise Refused(late or refused.code, key_id=key.id) from None
    if late:
        raise Refused(late, key_id=key.id, signer=key)
    claim = (
        key, headers["x-provider-scope"], headers.get("x-provider-org"), headers["x-provider-instance"],
        given.nonce, expires + policy.skew, "v2", values["@authority"], headers.get("content-digest"),
        given.coverage.all.issuperset(_OF_THE_BODY),
    )  # fmt: skip
    return tuple.__new__(Claim, claim)


def check_body(claim: Claim, body: bytes) -> None:
    """The part of the coverage, and the digest, that only the received bytes can tell."""
    if body and not claim.covers_body:
        raise Refused("insufficient_coverage", key_id=claim.key.id)
    if claim.digest is not None:
        check_digest(claim.digest, body, claim.key)


def _derived(request: Request, headers: dict[str, str]) -> dict[str, str]:
    """What can be covered: the headers, and what a request is (RFC 9421, section 2.2). Refused without an
    authority, or with two that differ.
    """
    path, _, query = request.target.partition("?")
    try:
        authority = normal_authority(request.authority)
        agree = "host" not in headers or normal_authority(headers["host"]) == authority
    except ValueError:
        agree = False
    if not agree:
        raise Refused("bad_framing")
    return headers | {
        "@method": request.method, "@authority": authority, "@path": path, "@query": "?" + query
    }  # fmt: skip


def _check_grammar(headers: dict[str, str]) -> None:
    for name in _TEXTS:
        if name in headers and not is_visible(headers[name]):
            raise Refused("malformed_header")
    if "idempotency-key" in headers and not VISIBLE.fullmatch(headers["idempotency-key"]):
        raise Refused("malformed_header")
    if "content-digest" in headers and not _DIGEST_AS_WE_WRITE.fullmatch(headers["content-digest"]):
        check_digest_grammar(headers["content-digest"])


def _check_coverage(given: Given, headers: dict[str, str], has_body: bool, key: Key) -> float:
    """When the signature expires: the last of what it has to say. Refused when it covers or says too little."""
    covered = given.coverage.all
    if (
        not given.coverage.is_enough
        or ("x-provider-org" in headers and "x-provider-org" not in covered)
        or ("idempotency-key" in headers and "idempotency-key" not in covered)
        or ("content-digest" in headers and "content-digest" not in covered)
        or (has_body and not ("content-digest" in headers and covered.issuperset(_OF_THE_BODY)))
    ):
        raise Refused("insufficient_coverage", key_id=key.id)
    if given.expires is None:
        raise Refused("bad_expires", key_id=key.id)
    if given.nonce is None or not _NONCE.fullmatch(given.nonce):
        raise Refused("bad_nonce", key_id=key.id)
    check_name(given, PROFILE, key)
    return given.expires
