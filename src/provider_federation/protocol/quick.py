"""The short way for what is plainly good: it says yes or nothing, never why not.

`core.verify` asks here first, and goes the long way, which knows every refusal, whenever the answer is None. What is
accepted here is accepted there, with the same principal: a test of properties holds the two together, and what they
compute with (headers, target, coverage, tags, digests, memory) is the same code. h31 goes the long way. The price: a
bad signature by a known key is looked at twice, and so a key that is unknown or out of force pays twice as well.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hmac import compare_digest

from provider_federation.protocol import fields
from provider_federation.protocol.claims import key_fault, remember
from provider_federation.protocol.grammar import SAFE_METHODS, VISIBLE, is_visible
from provider_federation.protocol.legacy import read_plain_instant
from provider_federation.protocol.profile import LIFETIME, NONCE, REQUEST, Coverage, read_coverage
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.replay import Ratchet, ReplayStore
from provider_federation.protocol.signing import NOBODY, hmac_sha256, is_good, spend
from provider_federation.protocol.values import Key, Keyring, Policy, Principal, Request, normal_authority

# Signature-Input as `sign` writes it, in three parts: only the nonce between them is another each time; the first
# changes once a second, the last with the key.
_FIRST = re.compile(r"pf=(\([^()]*\));created=([1-9][0-9]{0,14});expires=([1-9][0-9]{0,14})", re.ASCII)
_LAST = re.compile(
    r';keyid="([!#-+\--\[\]-~]{1,128})";alg="(hmac-sha256|ed25519)";tag="provider-federation-v2"', re.ASCII
)


def verify_legacy(
    request: Request,
    headers: dict[str, str],
    keyring: Keyring,
    policy: Policy,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> Principal | None:
    """The principal of a sha256 request, or None. Refused by `remember` alone."""
    try:
        key = keyring.get(headers["x-provider-keyid"])
        timestamp, tag = headers["x-provider-timestamp"], headers["x-provider-signature"]
    except KeyError:
        return None
    payload = f"{request.method} {request.target} {timestamp}".encode()
    if key is None or key_fault(key, now):
        spend(None, payload, b"")
        return None
    signed_at = read_plain_instant(timestamp)
    if (
        signed_at is None
        or key.algorithm != "sha256"
        or "sha256" not in policy.accept
        or (policy.legacy_until is not None and not now < policy.legacy_until)
        or not abs(now - signed_at) <= policy.skew
        or not tag.isascii()
        or not compare_digest("sha256:" + hmac_sha256(key.secret, payload).hexdigest(), tag)
    ):
        return None
    principal = _principal(headers, key, policy, "legacy")
    if principal is not None and (replay is not None or ratchet is not None):
        token = None if request.method in SAFE_METHODS else tag
        remember(key, "legacy", token, signed_at + policy.skew, now, replay, ratchet)
    return principal


def verify_v2(
    request: Request,
    headers: dict[str, str],
    keyring: Keyring,
    policy: Policy,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> Principal | None:
    """The principal of a v2 request as `sign` makes them, or None. Refused by `remember` alone."""
    try:
        field, signature = headers["signature-input"], headers["signature"]
    except KeyError:
        return None
    first, _, rest = field.partition(';nonce="')
    nonce, _, last = rest.partition('"')
    coverage, created, expires = _first(first)
    key_id, algorithm = _last(last)
    key = keyring.get(key_id)
    if coverage is None:
        return None
    if key is None or key_fault(key, now):  # as much work as for one that is good
        _is_signed(
            request, headers, coverage, field[3:], signature, NOBODY.get(algorithm, NOBODY["hmac-sha256"])
        )
        return None
    if (
        key.algorithm != algorithm
        or algorithm not in policy.accept
        or not abs(now - created) <= policy.skew
        or not now <= expires
        or not NONCE(nonce)
        or not _is_signed(request, headers, coverage, field[3:], signature, key)
        or not _is_whole(headers, coverage, request.body)
        or (policy.authorities and headers["@authority"] not in policy.authorities)
    ):
        return None
    principal = _principal(headers, key, policy, "v2")
    if principal is not None and (replay is not None or ratchet is not None):
        remember(key, "v2", nonce, expires + policy.skew, now, replay, ratchet)
    return principal


@lru_cache(maxsize=1024)
def _first(text: str) -> tuple[Coverage | None, int, int]:
    match = _FIRST.fullmatch(text)
    try:
        coverage = read_coverage(match[1], REQUEST) if match else None
    except (fields.FieldError, Refused):
        coverage = None
    if match is None or coverage is None or coverage.more or not coverage.is_enough:
        return None, 0, 0
    created, expires = int(match[2]), int(match[3])
    return (coverage if created < expires <= created + LIFETIME else None), created, expires


@lru_cache(maxsize=1024)
def _last(text: str) -> tuple[str, str]:
    """The key's id and the algorithm; "" when there is none, and no key is called that."""
    match = _LAST.fullmatch(text)
    return (match[1], match[2]) if match else ("", "")


def _is_signed(
    request: Request, headers: dict[str, str], coverage: Coverage, text: str, signature: str, key: Key
) -> bool:
    authority, layout = request.authority, coverage.layout
    if headers.get("host", authority) != authority:
        return False
    path, _, query = request.target.partition("?")
    try:
        headers["@method"], headers["@authority"] = request.method, normal_authority(authority)
        headers["@path"], headers["@query"] = path, "?" + query
        base = layout.base(layout.pick(headers), text)
        if key.algorithm == "ed25519":
            is_framed = signature.startswith("pf=:") and signature.endswith(":")
            return is_framed and is_good(key, base, fields.read_base64(signature[4:-1]))
    except (KeyError, ValueError):
        return False
    mac = fields.write_base64(hmac_sha256(key.secret, base).digest())
    return signature.isascii() and compare_digest(f"pf=:{mac}:", signature)


def _is_whole(headers: dict[str, str], coverage: Coverage, body: bytes) -> bool:
    """Nothing that must be covered is open, the body is the one that was sent, and no text holds what none may."""
    for name in coverage.open:
        if name in headers:
            return False
    digest = headers.get("content-digest")
    if digest is None:
        return not body and _is_text(headers)
    return (
        (coverage.covers_body or not body)
        and digest.isascii()
        and compare_digest(digest, fields.content_digest(body))
        and _is_text(headers)
    )


def _is_text(headers: dict[str, str]) -> bool:
    content_type, idempotency_key = headers.get("content-type"), headers.get("idempotency-key")
    return (content_type is None or is_visible(content_type)) and (
        idempotency_key is None or VISIBLE.fullmatch(idempotency_key) is not None
    )


def _principal(headers: dict[str, str], key: Key, policy: Policy, scheme: str) -> Principal | None:
    """Audience, scope and org, where nothing about them is special."""
    bound, instance, ceiling = key.instance, policy.instance, key.scope
    if bound is not None and bound != instance:
        if instance:
            return None
        instance = bound
    if "x-provider-instance" in headers and headers["x-provider-instance"] != instance:
        return None
    scope = headers.get("x-provider-scope", ceiling)
    if scope not in (ceiling, "read"):
        return None
    org = headers.get("x-provider-org", key.org)
    if org is not None and (org != (key.org or policy.org) or org != (policy.org or org)):
        return None
    return tuple.__new__(Principal, (key.id, scope, org, key.algorithm, instance, scheme))
