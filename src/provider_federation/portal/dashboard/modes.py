"""The federation banner: how each instance verifies signatures, and whether that fits this portal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import current_key

MODES: Final = ("off", "h31", "sha256", "v2")
"""From the weakest to the strongest, as the instance's status route names them."""

_NAMES: Final = {"off": "Off", "h31": "h31", "sha256": "SHA-256", "v2": "v2"}


@dataclass(frozen=True)
class ModeFit:
    """One instance's mode in words. `tone` is good, warn or bad; `todo` is empty when it fits."""

    instance: Instance
    mode: str
    name: str
    tone: str
    todo: str = ""

    @property
    def fits(self) -> bool:
        return not self.todo


def expected_mode() -> str:
    """What this portal's settings expect of its instances."""
    return str(settings.PROVIDER_SIGNATURE_MODE)


def mode_fit(instance: Instance) -> ModeFit:
    """Compare what the last check saw with what the portal expects, and say what to do."""
    mode = instance.remote_mode
    name = _NAMES.get(mode, mode or "Unknown")
    tone, todo = _verdict(instance, mode, expected_mode())
    return ModeFit(instance, mode, name, tone, todo)


def mode_fits(instances: Iterable[Instance]) -> list[ModeFit]:
    """For many, the enabled ones only: a disabled instance is not called."""
    return [mode_fit(instance) for instance in instances if instance.enabled]


def misfits(fits: Sequence[ModeFit]) -> list[ModeFit]:
    """Those that ask for something to be done."""
    return [fit for fit in fits if not fit.fits]


def _verdict(instance: Instance, mode: str, expected: str) -> tuple[str, str]:
    if mode not in MODES:
        return "warn", "Its mode is not known yet: check the instance."
    if mode == "off":
        return (
            "bad",
            "Federation is off there. Set PROVIDER_FEDERATION_ENABLED=1 on the instance and restart it.",
        )
    key = current_key(instance)
    if key is not None and key.scheme == "v2" and mode != "v2":
        return "warn", (
            f"We call it by v2, and it still accepts {mode}: its owner should take the older keys out of "
            "PROVIDER_KEYS_JSON."
        )
    if mode != expected:
        return _unlike(mode, expected)
    if key is not None and key.scheme != mode:
        return (
            "bad",
            f"It expects {mode}, its key here signs {key.algorithm}: give it another under Keys.",
        )
    return "good", ""


def _unlike(mode: str, expected: str) -> tuple[str, str]:
    if mode == "h31":
        return "bad", (
            "h31 protects nothing: whoever sees one call can forge any other. Ask its owner for an enrolment code "
            "(its Federation page) and pair it under Keys; that moves it to v2."
        )
    if expected in MODES and MODES.index(mode) > MODES.index(expected):
        return (
            "warn",
            f"It is ahead of this portal: set PROVIDER_SIGNATURE_MODE={mode} once the others are there too.",
        )
    return "warn", (
        f"{_NAMES[mode]} signs neither body nor host, and it is behind what this portal expects ({expected}). "
        "Upgrade the instance if need be, ask its owner for an enrolment code, and pair it under Keys."
    )
