"""What every scheme has in common: keys in their window, time, audience, scope, org, replay."""

from __future__ import annotations

from typing import NamedTuple

from provider_federation.protocol.refusals import Refused
from provider_federation.protocol.replay import Ratchet, ReplayStore
from provider_federation.protocol.values import IDENTIFIER, SCOPES, Key, Policy, Principal


class Claim(NamedTuple):
    """What a good signature says, before audience, scope, org and replay were looked at.

    `scope`, `org` and `instance` are as sent, None when absent. `token` is what must not be used twice, None
    when the request may be repeated; it is kept until `expires`, seconds since 1970 UTC. `authority` (normal),
    `digest` (Content-Digest) and `covers_body` are what v2 covers and legacy does not.
    """

    key: Key
    scope: str | None
    org: str | None
    instance: str | None
    token: str | None
    expires: float
    scheme: str = "legacy"
    authority: str | None = None
    digest: str | None = None
    covers_body: bool = False


def key_fault(key: Key, now: float) -> str | None:
    """The code to refuse with when the key is revoked or `now` is outside its days, both ends included."""
    if key.revoked:
        return "revoked_key"
    if key.not_before is not None and not now >= key.not_before:
        return "key_not_yet_valid"
    if key.not_after is not None and not now <= key.not_after:
        return "expired_key"
    return None


def check_time(signed_at: float, now: float, skew: float, key_id: str) -> None:
    """Refused when more than `skew` seconds lie between. Both edges are inside, not-a-number is not."""
    try:
        inside = abs(now - signed_at) <= skew
    except OverflowError:
        inside = False
    if not inside:
        raise Refused("timestamp_out_of_window", key_id=key_id)


def admit(
    claim: Claim, policy: Policy, now: float, replay: ReplayStore | None, ratchet: Ratchet | None
) -> Principal:
    """Audience, scope and org, then replay and ratchet: the checks of section 2.4 after the signature."""
    key = claim.key
    instance = _audience(claim, policy)
    scope = key.scope if claim.scope is None else claim.scope
    if scope not in SCOPES:
        raise Refused("bad_scope", key_id=key.id)
    if scope == "provider" and key.scope != "provider":
        raise Refused("scope_not_allowed", key_id=key.id)
    org = _org(claim, policy)
    remember(key, claim.scheme, claim.token, claim.expires, now, replay, ratchet)
    return Principal(key.id, scope, org, key.algorithm, instance, claim.scheme)


def _audience(claim: Claim, policy: Policy) -> str | None:
    """The instance that is meant: whoever names one, this deployment, the key or the request, names the same."""
    here, bound, meant = policy.instance, claim.key.instance, claim.instance
    instance = here or bound or meant
    if (bound or instance) != instance or (meant or instance) != instance:
        raise Refused("audience_mismatch", key_id=claim.key.id)
    if policy.authorities and claim.authority is not None and claim.authority not in policy.authorities:
        raise Refused("audience_mismatch", key_id=claim.key.id)
    return instance


def _org(claim: Claim, policy: Policy) -> str | None:
    org = claim.key.org if claim.org is None else claim.org
    if org is None:
        return None
    if not IDENTIFIER.fullmatch(org):
        raise Refused("malformed_header", key_id=claim.key.id)
    if any(bound is not None and bound != org for bound in (claim.key.org, policy.org)):
        raise Refused("org_mismatch", key_id=claim.key.id)
    return org


def remember(
    key: Key,
    scheme: str,
    token: str | None,
    expires: float,
    now: float,
    replay: ReplayStore | None,
    ratchet: Ratchet | None,
) -> None:
    """Refused when the key's pair has left this scheme behind, or `token` was used before (None may be used again).
    Asked last: what has no good signature leaves no trace.
    """
    try:
        is_over = ratchet is not None and scheme == "legacy" and ratchet.is_set(key.pair)
        is_new = is_over or replay is None or token is None or replay.remember(key.id, token, expires, now)
        if is_new and ratchet is not None and scheme == "v2" and not ratchet.is_set(key.pair):
            ratchet.set(key.pair, now)
    except Exception as error:  # whatever keeps a store from answering, the answer is no
        raise _refused("replay_store_unavailable", key, scheme) from error
    if is_over or not is_new:
        raise _refused("downgrade_refused" if is_over else "replayed", key, scheme)


def _refused(code: str, key: Key, scheme: str) -> Refused:
    return Refused(code, key_id=key.id, signer=key if scheme == "v2" else None)
