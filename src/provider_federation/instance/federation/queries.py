"""What the instance says about itself to a portal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from provider_federation.kit import clock

CAPABILITIES = ("preview", "draft", "list", "send", "usage", "changes", "idempotency")
_SCHEMES = {"h31": ("h31",), "sha256": ("sha256",), "v2": ("hmac-sha256", "ed25519")}


@dataclass(frozen=True)
class Scheme:
    """`accepted` now; `until` is when a legacy scheme ends, None when no end is set."""

    name: str
    accepted: bool
    until: datetime | None


def schemes() -> list[Scheme]:
    """Every scheme of the contract, weakest first. One is accepted when the policy takes it and a key uses
    it.
    """
    federation = settings.FEDERATION
    used = {key.algorithm for key in federation.keyring} & set(federation.policy.accept)
    return [
        Scheme(name, _accepted(name, used & set(algorithms)), _until(name))
        for name, algorithms in _SCHEMES.items()
    ]


def _until(name: str) -> datetime | None:
    until = settings.FEDERATION.policy.legacy_until
    return None if name == "v2" or until is None else datetime.fromtimestamp(until, UTC)


def _accepted(name: str, used: set[str]) -> bool:
    until = _until(name)
    return settings.FEDERATION.enabled and bool(used) and (until is None or clock.now() < until)
