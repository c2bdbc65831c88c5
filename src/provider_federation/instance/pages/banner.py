"""The federation banner: whether the provider can reach this instance, how safely, and how to do better."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings


@dataclass(frozen=True)
class Step:
    """One thing to do; `code` is what goes into the environment, or empty."""

    text: str
    code: str = ""


@dataclass(frozen=True)
class KeyFacts:
    """What may be shown of a key; never its material."""

    id: str
    algorithm: str
    scope: str
    not_before: datetime | None
    not_after: datetime | None
    revoked: bool


@dataclass(frozen=True)
class Banner:
    """`tone` is good, warn or bad. `steps` lead to the next better mode; none when there is no better one."""

    enabled: bool
    mode: str
    tone: str
    headline: str
    meaning: str
    goal: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


_TONES = {"off": "warn", "h31": "bad", "sha256": "warn", "v2": "good"}
_HEADLINES = {
    "off": "Federation is off",
    "h31": "Federation is on, without protection",
    "sha256": "Federation is on, with the older signatures",
    "v2": "Federation is on, with the best signatures",
}
_MEANINGS = {
    "off": "The provider's portal can neither read nor do anything here: a signed request counts as anonymous.",
    "h31": "h31 protects nothing: whoever sees one request can forge any other. It is accepted from this machine "
    "only, and only in development.",
    "sha256": "Every request of the provider is signed with a shared secret (HMAC-SHA256). The signature covers the "
    "method, the address and the time, but not the body.",
    "v2": "Every request is signed as a whole (RFC 9421): method, address, body, who it is for and what it may do. "
    "None can be used twice.",
}
_GOALS = {
    "off": "To let the provider in",
    "h31": "To move to sha256",
    "sha256": "To move to v2",
    "v2": "",
}
_RESTART = Step("Stop the instance, then start it again.", "provider-federation instance serve")
_NEW_SECRET = Step(
    "Make a secret of 32 random bytes and hand it to the provider in confidence.", "openssl rand -hex 32"
)
_SHA256_KEY = Step(
    "Put it into the environment of this instance.",
    'PROVIDER_KEYS_JSON=\'{"key-1": {"secret": "<the secret>", "algorithm": "sha256"}}\'',
)
_STEPS = {
    "off": (
        _NEW_SECRET,
        _SHA256_KEY,
        Step(
            "Turn federation on, with sha256 signatures.",
            "PROVIDER_FEDERATION_ENABLED=1\nPROVIDER_FEDERATION_SIG_SHA256=1",
        ),
        _RESTART,
    ),
    "h31": (
        _NEW_SECRET,
        _SHA256_KEY,
        Step(
            "Choose sha256 here; the portal has PROVIDER_SIGNATURE_MODE=sha256.",
            "PROVIDER_FEDERATION_SIG_SHA256=1",
        ),
        _RESTART,
        Step(
            "Ask the provider to replace this instance's key in the portal by the new one, and to check it."
        ),
    ),
    "sha256": (
        Step(
            "Ask the provider whether the portal signs v2 for you, and for the portal's public ed25519 key."
        ),
        Step(
            "Add that key beside the old one.",
            'PROVIDER_KEYS_JSON=\'{"key-1": {…as now…}, "key-2": {"public_key": "<the public key>", "algorithm": "ed25519"}}\'',
        ),
        _RESTART,
        Step("When the portal's check of this instance says v2, take the old key out and restart again."),
        Step(
            "Or set the last day on which the old signatures are accepted.",
            "PROVIDER_LEGACY_UNTIL=2027-01-31",
        ),
    ),
    "v2": (),
}


def federation_banner() -> Banner:
    """From this process's settings."""
    federation = settings.FEDERATION
    mode = federation.mode
    return Banner(
        enabled=federation.enabled,
        mode=mode,
        tone=_TONES[mode],
        headline=_HEADLINES[mode],
        meaning=_MEANINGS[mode],
        goal=_GOALS[mode],
        steps=_STEPS[mode],
        notes=tuple(_notes()),
    )


def key_facts() -> list[KeyFacts]:
    """The keys that this instance accepts, by id."""
    keys = sorted(settings.FEDERATION.keyring, key=lambda key: str(key.id))
    return [
        KeyFacts(key.id, key.algorithm, key.scope, _at(key.not_before), _at(key.not_after), key.revoked)
        for key in keys
    ]


def _notes() -> list[str]:
    federation, notes = settings.FEDERATION, []
    if federation.enabled and not list(federation.keyring):
        notes.append("No key is set, so every signed request is refused. Set PROVIDER_KEYS_JSON.")
    until = _at(federation.policy.legacy_until)
    if federation.enabled and until is not None and federation.mode != "v2":
        notes.append(
            f"The older signatures are refused from {until:%Y-%m-%d %H:%M} UTC on (PROVIDER_LEGACY_UNTIL)."
        )
    return notes


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
