"""The v2 scheme for requests (contract, section 2.2): our profile of RFC 9421."""

from __future__ import annotations

import os
from binascii import b2a_base64
from functools import lru_cache

from provider_federation.protocol import fields
from provider_federation.protocol.claims import Claim
from provider_federation.protocol.grammar import VISIBLE
from provider_federation.protocol.profile import (
    LIFETIME,
    REQUEST,
    Given,
    Template,
    check_digest,
    check_digest_grammar,
    check_signature,
    created_at,
    find_key,
    read,
    template,
    time_fault,
)
from provider_federation.protocol.refusals import CannotSign, Refused
from provider_federation.protocol.shapes import UNSIGNED
from provider_federation.protocol.values import Key, Keyring, Policy, Request, normal_authority

_TEXTS = ("x-provider-instance", "x-provider-scope", "x-provider-org", "idempotency-key", "content-type")
_NONCES: list[str] = []
_NONCES_DRAWN = 64
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_NONCES.clear)


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
    scope = scope or key.scope
    added = [("X-Provider-Instance", instance), ("X-Provider-Scope", scope)]
    if org is not None:
        added.append(("X-Provider-Org", org))
    idempotency_key, digest, content_type = _sent(request)
    path, _, query = request.target.partition("?")
    values: tuple[str, ...] = (path, "?" + query)
    if idempotency_key is not None:
        values += (idempotency_key,)
    unknown = "".join(values) if digest is None else "".join((*values, digest))
    if not (unknown.isascii() and unknown.isprintable()):
        raise CannotSign("what is signed is printable ASCII")
    if not request.body:
        content_type = None
    else:
        if digest is None:
            digest = fields.content_digest(request.body)
            added.append(("Content-Digest", digest))
        if content_type is None:
            content_type = "application/octet-stream"
            added.append(("Content-Type", content_type))
    if digest is not None:
        values += (digest,)
    constant = _template(
        request.method, request.authority, instance, scope, org, content_type,
        idempotency_key is not None, digest is not None, key.id, key.algorithm,
    )  # fmt: skip
    window = f'{_lifetime(int(now))};nonce="{_nonce() if nonce is None else _checked(nonce)}"'
    added += constant.headers(values, window, key)
    return added


@lru_cache(maxsize=512)
def _template(
    method: str,
    authority: str,
    instance: str,
    scope: str,
    org: str | None,
    content_type: str | None,
    has_idempotency_key: bool,
    has_digest: bool,
    key_id: str,
    algorithm: str,
) -> Template:
    """For all requests like this one; path, query, idempotency key and digest are open. CannotSign."""
    fixed: dict[str, str | None] = {
        "@method": method, "@authority": _authority(authority), "@path": None, "@query": None,
        "x-provider-instance": instance, "x-provider-scope": scope,
    }  # fmt: skip
    if org is not None:
        fixed["x-provider-org"] = org
    if has_idempotency_key:
        fixed["idempotency-key"] = None
    if has_digest:
        fixed["content-digest"] = None
    if content_type is not None:
        fixed["content-type"] = content_type
    return template(REQUEST, tuple(fixed), tuple(fixed.values()), key_id, algorithm)


def _sent(request: Request) -> tuple[str | None, str | None, str | None]:
    """Idempotency-Key, Content-Digest and Content-Type of a request to sign."""
    headers = dict(request.headers)
    names = tuple(headers)
    if len(names) < len(request.headers):
        names = tuple(name for name, _ in request.headers)
    shape = UNSIGNED[names]
    if shape.twice and (request.body or shape.twice != {"content-type"}):
        raise CannotSign(f"the request carries {', '.join(sorted(shape.twice))} twice")
    key, digest, kind = shape.idempotency_key, shape.digest, shape.content_type
    return (
        None if key is None else headers[key],
        None if digest is None else headers[digest],
        None if kind is None else headers[kind],
    )


def _checked(nonce: str) -> str:
    if not fields.is_printable(nonce) or '"' in nonce or "\\" in nonce:
        raise CannotSign('a nonce has no " and no \\')
    return nonce


def _nonce() -> str:
    """144 random bits. Drawn for many at a time, as the system's call costs more than the rest of a nonce; `pop` is
    atomic, so no two threads get the same, and a forked child draws its own.
    """
    try:
        return _NONCES.pop()
    except IndexError:
        drawn = b2a_base64(os.urandom(_NONCES_DRAWN * 18), newline=False).decode("ascii")
        _NONCES.extend([drawn[start : start + 24] for start in range(24, len(drawn), 24)])
        return drawn[:24]


@lru_cache(maxsize=64)
def _lifetime(created: int) -> str:
    return f"created={created_at(created)};expires={created + LIFETIME}"


def check(
    request: Request,
    headers: dict[str, str],
    keyring: Keyring,
    policy: Policy,
    now: float,
    *,
    is_wrong: bool = False,
) -> Claim:
    """What these headers prove, or Refused. The body is not looked at, but for whether there is one.

    `is_wrong`: the signature is known to be none, and need not be computed.
    """
    given = read(headers, REQUEST)
    _check_grammar(headers)
    derived = _derived(request)
    _check_host(headers, derived["@authority"])
    key = find_key(given, keyring, policy.accept, now, is_wrong=is_wrong)
    late = time_fault(given, now, policy.skew)
    try:
        expires = _check_coverage(given, headers, key, has_body=len(request.body) > 0)
        check_signature(given, headers | derived, request.headers, key, is_wrong=is_wrong)
    except Refused as refused:
        if late:
            raise Refused(late, key_id=key.id) from None
        refused.key_id = key.id
        raise
    if late:
        raise Refused(late, key_id=key.id, signer=key)
    return Claim(
        key=key,
        scope=headers["x-provider-scope"],
        org=headers.get("x-provider-org"),
        instance=headers["x-provider-instance"],
        token=given.nonce,
        expires=expires + policy.skew,
        scheme="v2",
        authority=derived["@authority"],
        digest=headers.get("content-digest"),
        covers_body=given.coverage.covers_body,
    )


def check_body(claim: Claim, body: bytes) -> None:
    """The part of the coverage, and the digest, that only the received bytes can tell."""
    if body and not claim.covers_body:
        raise Refused("insufficient_coverage", key_id=claim.key.id)
    if claim.digest is not None:
        check_digest(claim.digest, body, claim.key)


def _derived(request: Request) -> dict[str, str]:
    """What a request is: the values of DERIVED (RFC 9421, section 2.2). Refused without an authority."""
    path, _, query = request.target.partition("?")
    authority = _authority(request.authority)
    return {"@method": request.method, "@authority": authority, "@path": path, "@query": "?" + query}


def _authority(authority: str) -> str:
    try:
        return normal_authority(authority)
    except ValueError:
        raise Refused("bad_framing") from None


def _check_host(headers: dict[str, str], authority: str) -> None:
    """Refused when the Host that was sent is another than the authority that the server tells."""
    host = headers.get("host")
    try:
        agree = host is None or normal_authority(host) == authority
    except ValueError:
        agree = False
    if not agree:
        raise Refused("bad_framing")


def _check_grammar(headers: dict[str, str]) -> None:
    for name in _TEXTS:
        if name in headers and not VISIBLE.fullmatch(headers[name]):
            raise Refused("malformed_header")
    if "content-digest" in headers:
        check_digest_grammar(headers["content-digest"])


def _check_coverage(given: Given, headers: dict[str, str], key: Key, *, has_body: bool) -> float:
    """When the signature expires: the last of what it has to say. Refused when it covers or says too little."""
    coverage = given.coverage
    is_enough = coverage.is_enough and not any(name in headers for name in coverage.open)
    is_body_open = has_body and not (coverage.covers_body and "content-digest" in headers)
    if not is_enough or is_body_open:
        raise Refused("insufficient_coverage", key_id=key.id)
    if given.expires is None:
        raise Refused("bad_expires", key_id=key.id)
    if given.nonce is None:
        raise Refused("bad_nonce", key_id=key.id)
    if not given.is_ours:
        raise Refused("malformed_signature_input", key_id=key.id)
    return given.expires
