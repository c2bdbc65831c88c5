"""The federation banner: whether the provider can reach this instance, how safely, and how to do better."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from provider_federation.instance.federation.keyring import read_snapshot
from provider_federation.instance.federation.queries import mode as live_mode
from provider_federation.instance.invoicing.services import provider_policy


@dataclass(frozen=True)
class Step:
    """One thing to do; `code` is what goes into the environment, or empty."""

    text: str
    code: str = ""


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
    "h31": "To move to v2",
    "sha256": "To move to v2",
    "v2": "",
}
_RESTART = Step("Stop the instance, then start it again.", "provider-federation instance serve")
_INVITE = Step(
    "Open enrolment here (Let a portal enrol), and hand the code to the provider in confidence; or make it in a shell.",
    "provider-federation instance invite",
)
_TAKE_OUT = Step(
    "When the key list below shows the new key as used by v2, take the old one out of PROVIDER_KEYS_JSON and restart. "
    "It is refused from the provider's first v2 call on."
)
_STEPS = {
    "off": (Step("Turn federation on.", "PROVIDER_FEDERATION_ENABLED=1"), _RESTART, _INVITE),
    "h31": (_INVITE, Step("The provider types the code into its portal."), _TAKE_OUT),
    "sha256": (
        _INVITE,
        Step("The provider types the code into its portal."),
        _TAKE_OUT,
        Step(
            "If the provider's portal is too old for codes: set the last day on which the old signatures are accepted.",
            "PROVIDER_LEGACY_UNTIL=2027-01-31",
        ),
    ),
    "v2": (),
}


def federation_banner() -> Banner:
    """From the settings and the database."""
    federation = settings.FEDERATION
    mode = live_mode()
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


def _notes() -> list[str]:
    federation, notes = settings.FEDERATION, []
    if provider_policy().frozen:
        notes.append("You have frozen the provider: every call is refused.")
    if federation.enabled and not len(read_snapshot().keyring):
        notes.append("No key is set, so every signed request is refused. Let a portal enrol.")
    until = _at(federation.policy.legacy_until)
    if federation.enabled and until is not None and live_mode() != "v2":
        notes.append(
            f"The older signatures are refused from {until:%Y-%m-%d %H:%M} UTC on (PROVIDER_LEGACY_UNTIL)."
        )
    return notes


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
