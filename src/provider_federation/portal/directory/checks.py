"""Is an instance there, is it the right one, does it take our signature, and what does its clock say?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from provider_federation.portal.database import lend_connection
from provider_federation.portal.shim import Answered, Call, Outcome, Shim, Target

STATUS_PATH = "/api/system/federation.status"
_SECONDS = 8.0
_WORRYING_OFFSET_MS = 60_000
_LONGEST = 64
_MOST_CAPABILITIES = 50


@dataclass(frozen=True)
class Check:
    """What a check found. `code` is `ok`, a shim outcome's code, `federation_off` or `signature_ignored`."""

    ok: bool
    code: str
    message: str
    clock_offset_ms: int | None = None
    mode: str = ""
    version: str = ""
    capabilities: tuple[str, ...] = ()


async def probe(shim: Shim, target: Target) -> Check:
    """Two calls of the status route, anonymous and signed. Never raises for what the instance does."""
    anonymous = await shim.call(target, Call("GET", STATUS_PATH, timeout=_SECONDS, signed=False, attempts=2))
    if not isinstance(anonymous, Answered):
        return _failed(anonymous)
    mode = _short(anonymous.data.get("mode"))
    if anonymous.data.get("enabled") is not True:
        return Check(
            False,
            "federation_off",
            "The instance answers, but federation is switched off there.",
            anonymous.clock_offset_ms,
            mode,
        )
    return _read(await shim.call(target, Call("GET", STATUS_PATH, timeout=_SECONDS, attempts=2)), mode)


def probe_now(target: Target) -> Check:
    """`probe` from synchronous code."""

    async def run() -> Check:
        async with Shim(concurrency=2, per_host=2) as shim:
            return await probe(shim, target)

    lend_connection()
    return asyncio.run(run())


def _read(signed: Outcome, mode: str) -> Check:
    if not isinstance(signed, Answered):
        return _failed(signed, mode)
    if not isinstance(signed.data.get("serverTime"), str):
        return Check(
            False,
            "signature_ignored",
            "The instance answered the signed call as if nobody had signed it.",
            signed.clock_offset_ms,
            mode,
        )
    return Check(
        True,
        "ok",
        _clock_sentence(signed.clock_offset_ms),
        signed.clock_offset_ms,
        _short(signed.data.get("mode")) or mode,
        _short(signed.data.get("version")),
        _names(signed.data.get("capabilities")),
    )


def _failed(outcome: Outcome, mode: str = "") -> Check:
    sentence = outcome.sentence
    if outcome.code == "timestamp_out_of_window" and outcome.clock_offset_ms is not None:
        sentence = f"{sentence} {_clock_sentence(outcome.clock_offset_ms)}"
    return Check(False, outcome.code, sentence, outcome.clock_offset_ms, mode)


def _clock_sentence(offset: int | None) -> str:
    if offset is None or abs(offset) < _WORRYING_OFFSET_MS:
        return "Answers signed calls."
    direction = "ahead of" if offset > 0 else "behind"
    return f"Its clock is {abs(offset) / 1000:.0f} s {direction} ours; set both by a time server."


def _short(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(name for name in map(_short, value[:_MOST_CAPABILITIES]) if name)
