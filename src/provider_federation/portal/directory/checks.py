"""Is an instance there, is it the right one, does it take our signature, and what does its clock say?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from provider_federation.portal.database import lend_connection
from provider_federation.portal.shim import Answered, Call, Outcome, Shim, Target
from provider_federation.protocol.values import LEGACY_ALGORITHMS

STATUS_PATH = "/api/system/federation.status"
POLICY_PATH = "/api/federation/policy"
_POLICY = (
    "frozen", "actions", "dailyLimitCents", "currency", "draftedTodayCents", "sentTodayCents", "enrolmentOpen",
)  # fmt: skip
_SECONDS = 8.0
_WORRYING_OFFSET_MS = 60_000
_LONGEST = 64
_MOST_CAPABILITIES = 50


@dataclass(frozen=True)
class Check:
    """What a check found. `code` is `ok`, a shim outcome's code, `federation_off` or `signature_ignored`.

    `scheme` is what the signed call used (h31, sha256, v2); `policy` what the owner allows, as the route answers it.
    """

    ok: bool
    code: str
    message: str
    clock_offset_ms: int | None = None
    mode: str = ""
    version: str = ""
    capabilities: tuple[str, ...] = ()
    scheme: str = ""
    policy: dict[str, Any] = field(default_factory=dict)


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
    check = _read(
        await shim.call(target, Call("GET", STATUS_PATH, timeout=_SECONDS, attempts=2)), mode, _scheme(target)
    )
    if not check.ok:
        return check
    return replace(check, policy=await _policy(shim, target, check))


def probe_now(target: Target) -> Check:
    """`probe` from synchronous code."""

    async def run() -> Check:
        async with Shim(concurrency=2, per_host=2) as shim:
            return await probe(shim, target)

    lend_connection()
    return asyncio.run(run())


async def _policy(shim: Shim, target: Target, check: Check) -> dict[str, Any]:
    """What the owner allows; empty where the instance has no such route or did not answer it."""
    if "policy" not in check.capabilities:
        return {}
    answer = await shim.call(target, Call("GET", POLICY_PATH, timeout=_SECONDS, attempts=2))
    if not isinstance(answer, Answered):
        return {}
    return {name: answer.data[name] for name in _POLICY if _is_plain(answer.data.get(name))}


def _is_plain(value: Any) -> bool:
    """A flag, a number, a short word, or flags by name: what the page shows."""
    if isinstance(value, dict):
        return len(value) < 20 and all(isinstance(flag, bool) for flag in value.values())
    return isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= _LONGEST)


def _scheme(target: Target) -> str:
    algorithm = target.key.algorithm if target.key else ""
    return algorithm if algorithm in LEGACY_ALGORITHMS else "v2"


def _read(signed: Outcome, mode: str, scheme: str) -> Check:
    """A v2 answer is signed for this very request; a legacy one shows by its server time that it saw the signature."""
    if not isinstance(signed, Answered):
        return _failed(signed, mode)
    if scheme in LEGACY_ALGORITHMS and not isinstance(signed.data.get("serverTime"), str):
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
        scheme,
    )


def _failed(outcome: Outcome, mode: str = "") -> Check:
    return Check(False, outcome.code, outcome.sentence, outcome.clock_offset_ms, mode)


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
