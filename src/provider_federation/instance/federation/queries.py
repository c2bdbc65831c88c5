"""What the instance says about itself to a portal and to its owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from django.conf import settings

from provider_federation.instance.federation.keyring import PAIR, Snapshot, read_snapshot
from provider_federation.instance.federation.models import FederationKey
from provider_federation.instance.federation.replay import replay_store
from provider_federation.kit import clock
from provider_federation.protocol import Key
from provider_federation.protocol.values import LEGACY_ALGORITHMS

CAPABILITIES = (
    "preview", "draft", "list", "send", "usage", "changes", "idempotency", "enrolment", "rotation", "policy",
    "entitlements", "disputes",
)  # fmt: skip
_SCHEMES = {"h31": ("h31",), "sha256": ("sha256",), "v2": ("hmac-sha256", "ed25519")}


@dataclass(frozen=True)
class Scheme:
    """`accepted` now; `until` is when a legacy scheme ends, None when no end is set."""

    name: str
    accepted: bool
    until: datetime | None


@dataclass(frozen=True)
class KeyFacts:
    """What may be shown of a key, never its material. `row` is None for one of the environment never used."""

    key: Key
    state: str
    row: FederationKey | None

    @property
    def last_used_at(self) -> datetime | None:
        return self.row.last_used_at if self.row else None

    @property
    def last_scheme(self) -> str:
        return self.row.last_scheme if self.row else ""

    @property
    def until(self) -> datetime | None:
        return None if self.key.not_after is None else datetime.fromtimestamp(self.key.not_after, UTC)

    @property
    def source(self) -> str:
        return self.row.get_source_display() if self.row else "environment"


def ratcheted_since() -> datetime | None:
    """When the portal first spoke v2; from then on legacy is refused. None: it may still be spoken."""
    since = replay_store().ratchets(PAIR).get(PAIR)
    return None if since is None else datetime.fromtimestamp(since, UTC)


def schemes() -> list[Scheme]:
    """Every scheme of the contract, weakest first. One is accepted when the policy takes it and a living key
    uses it, a legacy one also until the ratchet is set.
    """
    snapshot = read_snapshot()
    ratcheted = ratcheted_since() is not None
    return [Scheme(name, _accepted(name, snapshot, ratcheted=ratcheted), _until(name)) for name in _SCHEMES]


def mode() -> str:
    """What the anonymous status shows: off, or the weakest scheme that is accepted (without keys: what a plain
    key would mean).
    """
    if not settings.FEDERATION.enabled:
        return "off"
    return next((scheme.name for scheme in schemes() if scheme.accepted), settings.FEDERATION.mode)


def key_facts() -> list[KeyFacts]:
    """Every key that this instance knows, living ones first, then by id."""
    rows = {row.key_id: row for row in FederationKey.objects.all()}
    facts = [
        KeyFacts(key, _state(key, rows.get(key.id)), rows.get(key.id)) for key in read_snapshot().keyring
    ]
    return sorted(facts, key=lambda fact: (fact.state == "ended", fact.key.id))


def state_of(row: FederationKey) -> Literal["introduced", "active", "retiring", "ended"]:
    """How a key of the database stands."""
    if row.has_ended:
        return "ended"
    if row.not_after is not None:
        return "introduced" if row.is_unconfirmed else "retiring"
    return "active"


def _state(key: Key, row: FederationKey | None) -> str:
    if row is not None:
        state: str = state_of(row)
        if state != "active":
            return state
    return "active" if _lives(key) else "ended"


def _lives(key: Key) -> bool:
    return not key.revoked and (key.not_after is None or clock.timestamp() <= key.not_after)


def _until(name: str) -> datetime | None:
    until = settings.FEDERATION.policy.legacy_until
    return None if name == "v2" or until is None else datetime.fromtimestamp(until, UTC)


def _accepted(name: str, snapshot: Snapshot, *, ratcheted: bool) -> bool:
    federation = settings.FEDERATION
    used = {key.algorithm for key in snapshot.keyring if _lives(key)} & set(federation.policy.accept)
    if not (federation.enabled and used & set(_SCHEMES[name])):
        return False
    until = _until(name)
    legacy = name in LEGACY_ALGORITHMS
    return not (legacy and ratcheted) and (until is None or clock.now() < until)
