"""The short way for what is plainly good: it says yes, or that the signature is wrong, or nothing.

`verify` asks here first. Whatever is not accepted goes the long way, which knows every refusal; what was found out
about the signature is taken along, so that nothing is computed twice and a key that is unknown or out of force costs
what a wrong signature does. What is accepted here is accepted there, with the same principal: tests of properties and
the fuzzer hold the two together.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hmac import compare_digest

from provider_federation.protocol import fields
from provider_federation.protocol.claims import key_fault, remember
from provider_federation.protocol.grammar import FAULTS, METHODS, SAFE_METHODS, VISIBLE, is_visible
from provider_federation.protocol.legacy import FRACTIONS, SECONDS, from_this_machine, tag_of
from provider_federation.protocol.profile import LIFETIME, NONCE, REQUEST, Coverage, read_coverage
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.replay import Ratchet, ReplayStore
from provider_federation.protocol.shapes import Shape
from provider_federation.protocol.signing import NOBODY, is_good, nobody
from provider_federation.protocol.values import (
    LEGACY_ALGORITHMS,
    Head,
    Key,
    Keyring,
    Policy,
    Principal,
    Request,
    normal_authority,
)

# Signature-Input as `sign` writes it, in three parts: only the nonce between them is another each time; the first
# changes once a second, the last with the key.
_FIRST = re.compile(r"pf=(\([^()]*\));created=([1-9][0-9]{0,14});expires=([1-9][0-9]{0,14})", re.ASCII)
_LAST = re.compile(
    r';keyid="([!#-+\--\[\]-~]{1,128})";alg="(hmac-sha256|ed25519)";tag="provider-federation-v2"', re.ASCII
)


class Unclear(Exception):
    """The long way has to look."""


class Wrong(Exception):
    """The signature was computed, by the key that is named or by nobody's, and is not good."""


NOT_PLAIN = (Unclear, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What `verify` raises besides Wrong and Refused: it is no text, no clock, or takes a closer look."""


def verify(
    request: Request | Head,
    shape: Shape,
    values: tuple[str, ...],
    keyring: Keyring,
    policy: Policy,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> Principal:
    """The principal. `values` are those of the headers in `shape.names`; `request.headers` is not looked at.

    Raises Wrong, one of NOT_PLAIN, and Refused by `remember` alone.
    """
    method, target = request.method, request.target
    if method not in METHODS or FAULTS[target] is not None or len(request.body) > policy.max_body:
        raise Unclear
    if shape.is_modern:
        return _verify_v2(request, shape, values, keyring, policy, now, replay, ratchet)
    key_id, timestamp, tag = values[:3]
    payload = f"{method} {target} {timestamp}".encode()
    signed_at = SECONDS[timestamp[:19]] + FRACTIONS[timestamp[19:]]
    key = keyring.get(key_id)
    if key is None or (key.is_limited and key_fault(key, now)):
        compare_digest("sha256:" + NOBODY["hmac-sha256"].mac(payload).hexdigest(), tag)
        raise Wrong
    algorithm = key.algorithm
    if (
        not abs(now - signed_at) <= policy.skew
        or algorithm not in policy.accept
        or (policy.legacy_until is not None and not now < policy.legacy_until)
        or (algorithm != "sha256" and not _may_use_h31(request, shape, key, policy))
    ):
        raise Unclear
    expected = "sha256:" + key.mac(payload).hexdigest() if algorithm == "sha256" else tag_of(key, payload)
    if not compare_digest(expected, tag):
        raise Wrong
    principal: Principal
    last_shape, last_policy, last_said, principal = key.last
    if last_shape is not shape or last_policy is not policy or last_said != values[shape.said]:
        principal = _principal(shape, values, key, policy)
    if replay is not None or ratchet is not None:
        token = None if method in SAFE_METHODS else tag
        remember(key, "legacy", token, signed_at + policy.skew, now, replay, ratchet)
    return principal


def _verify_v2(
    request: Request | Head,
    shape: Shape,
    values: tuple[str, ...],
    keyring: Keyring,
    policy: Policy,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> Principal:
    headers = dict(zip(shape.names, values))  # noqa: B905  `pick` and `at` give as many as there are names
    field, signature = values[:2]
    first, _, rest = field.partition(';nonce="')
    nonce, _, last = rest.partition('"')
    coverage, created, expires = _first(first)
    key_id, algorithm = _last(last)
    if coverage is None or not algorithm or not NONCE(nonce):
        raise Unclear
    base = _base(request, headers, coverage, field[3:])
    if base is None:
        raise Unclear
    key = keyring.get(key_id)
    if key is None or (key.is_limited and key_fault(key, now)):
        _is_signed(nobody(algorithm), base, signature)
        raise Wrong
    if (
        key.algorithm != algorithm
        or algorithm not in policy.accept
        or not abs(now - created) <= policy.skew
        or not now <= expires
    ):
        raise Unclear
    if not _is_signed(key, base, signature):
        raise Wrong
    if not _is_whole(headers, coverage, request.body) or (
        policy.authorities and headers["@authority"] not in policy.authorities
    ):
        raise Unclear
    principal: Principal
    last_shape, last_policy, last_said, principal = key.last
    if last_shape is not shape or last_policy is not policy or last_said != values[shape.said]:
        principal = _principal(shape, values, key, policy)
    if replay is not None or ratchet is not None:
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
    """The key's id and the algorithm; "" when there is none."""
    match = _LAST.fullmatch(text)
    return (match[1], match[2]) if match else ("", "")


def _base(request: Request | Head, headers: dict[str, str], coverage: Coverage, text: str) -> bytes | None:
    """What was signed; None where it takes a closer look. The request's own components are put among `headers`."""
    authority, layout = request.authority, coverage.layout
    if headers.get("host", authority) != authority:
        return None
    path, _, query = request.target.partition("?")
    headers["@method"], headers["@authority"] = request.method, normal_authority(authority)
    headers["@path"], headers["@query"] = path, "?" + query
    try:
        return layout.base(layout.pick(headers), text)
    except KeyError:
        return None


def _is_signed(key: Key, base: bytes, signature: str) -> bool:
    """ValueError when the signature cannot be read."""
    if key.algorithm == "ed25519":
        raw = fields.read_base64(signature[4:-1]) if _is_framed(signature) else b""
        return is_good(key, base, raw)
    return compare_digest(f"pf=:{fields.write_base64(key.mac(base).digest())}:", signature)


def _may_use_h31(request: Request | Head, shape: Shape, key: Key, policy: Policy) -> bool:
    is_local = policy.development and from_this_machine(request.peer, is_forwarded=shape.is_forwarded)
    return key.algorithm == "h31" and is_local


def _is_framed(signature: str) -> bool:
    return signature.startswith("pf=:") and signature.endswith(":")


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


def _principal(shape: Shape, values: tuple[str, ...], key: Key, policy: Policy) -> Principal:
    """Who a good signature of `key` speaks for. Most say what the one before said: that answer is kept with the key."""
    headers = dict(zip(shape.names, values, strict=True))
    principal = _make_principal(headers, key, policy)
    object.__setattr__(key, "last", (shape, policy, values[shape.said], principal))  # one step
    return principal


def _make_principal(headers: dict[str, str], key: Key, policy: Policy) -> Principal:
    """Audience, scope and org, where nothing about them is special."""
    instance = policy.instance or key.instance
    meant = headers.get("x-provider-instance", instance)
    scope, org = headers.get("x-provider-scope", key.scope), headers.get("x-provider-org", key.org)
    if meant != instance or key.instance not in {None, instance} or scope not in {key.scope, "read"}:
        raise Unclear
    if org is not None and (org != (key.org or policy.org) or org != (policy.org or org)):
        raise Unclear
    scheme = "legacy" if key.algorithm in LEGACY_ALGORITHMS else "v2"
    return Principal(key.id, scope, org, key.algorithm, instance, scheme)
