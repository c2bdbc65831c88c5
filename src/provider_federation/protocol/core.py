"""`sign` and `verify`: which scheme, and the order of the checks (contract, section 2.4)."""

from __future__ import annotations

from provider_federation.protocol import legacy
from provider_federation.protocol.claims import Claim, admit
from provider_federation.protocol.grammar import check_shape, read_headers
from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.replay import ReplayStore
from provider_federation.protocol.values import LEGACY_ALGORITHMS, Key, Keyring, Policy, Principal, Request


class CannotSign(ValueError):
    """The key's algorithm cannot sign, or what should be signed cannot stand in a header."""


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

    `now` is seconds since 1970 UTC. `instance` and `nonce` belong to the modern scheme; the legacy one has
    no place for them. Whether the request is one that a verifier takes is the verifier's to say. Raises
    CannotSign, a ValueError.
    """
    for value in (scope, instance, org, nonce):
        if value is not None and not (value.isascii() and value.isprintable()):
            raise CannotSign("scope, instance, org and nonce are printable ASCII")
    if key.algorithm in LEGACY_ALGORITHMS:
        return legacy.sign(request, key, now=now, scope=scope, org=org)
    raise CannotSign(f"this version does not sign with {key.algorithm} yet; use a sha256 key")


def verify(
    request: Request, keyring: Keyring, policy: Policy, *, now: float, replay: ReplayStore | None = None
) -> Principal:
    """The principal that signed `request`; raises Refused and nothing else. `now` is seconds since 1970 UTC.

    `replay=None` means no memory, for tests and reads only.
    """
    return admit(check_head(request, keyring, policy, now), policy, now, replay)


def check_head(request: Request, keyring: Keyring, policy: Policy, now: float) -> Claim:
    """Everything up to the signature, leaving no trace. Adapters ask this, with body=b"", before reading."""
    try:
        headers = read_headers(request, policy)
        check_shape(request, headers, policy)
    except (TypeError, ValueError, AttributeError):  # headers that are no pairs, a target that is no text
        raise Refused("malformed_header") from None
    is_modern = "signature-input" in headers or "signature" in headers
    is_legacy = not legacy.REQUIRED.isdisjoint(headers)
    if is_modern and is_legacy:
        raise Refused("ambiguous_auth")
    if is_modern:
        raise Refused("algorithm_not_allowed")
    return legacy.check(request, headers, keyring, policy, now)
