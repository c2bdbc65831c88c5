"""The headers of one attempt: what every request carries, and a signature made now."""

from __future__ import annotations

import math
import threading

from provider_federation import __version__
from provider_federation.kit import clock
from provider_federation.portal.shim.calls import Call, Target
from provider_federation.portal.shim.guard import BaseUrl
from provider_federation.protocol import Key, Request, sign

_MOST_AHEAD = 1000
_last: dict[str, int] = {}
_lock = threading.Lock()


class CannotSign(Exception):
    """There is no key, or it is outside its window, or it cannot sign this; the message holds no secret."""


def wire_headers(base: BaseUrl, target: Target, call: Call) -> list[tuple[str, str]]:
    """Headers in the order they are sent. A signature is made with the key's own algorithm and no other,
    ever.
    """
    headers = [
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", f"provider-federation/{__version__}"),
    ]
    if call.content:
        headers.append(("Content-Type", "application/json"))
    if call.write:
        headers.append(("Idempotency-Key", call.idempotency_key))
    if not call.signed:
        return headers
    request = Request(call.method, base.prefix + call.target, base.authority, headers, call.content)
    now = _moment(target, call)
    key = _key_in_force(target, now)
    try:
        signature = sign(
            request, key, now=now, scope=target.scope, instance=target.name, org=target.org_id or None
        )
    except ValueError as error:
        raise CannotSign(str(error)) from None
    return [*headers, *signature]


def _key_in_force(target: Target, now: float) -> Key:
    key = target.key
    if key is None:
        raise CannotSign(target.key_problem)
    if now < (key.not_before or -math.inf) or now >= (key.not_after or math.inf):
        raise CannotSign(f"key {key.id} is outside its window")
    return key


def _moment(target: Target, call: Call) -> float:
    """Now; for writes never the same millisecond twice: a legacy signature covers little more than the path
    and the millisecond, so two writes in one would carry the same signature, and the second be refused as a
    replay.
    """
    milliseconds = int(clock.timestamp() * 1000)
    if call.write:
        with _lock:
            last = _last.get(target.name, 0)
            # A clock that was set back (tests own theirs) is followed; a busy millisecond is stepped over.
            if last - milliseconds < _MOST_AHEAD:
                milliseconds = max(milliseconds, last + 1)
            _last[target.name] = milliseconds
    # The tenth keeps both rounding and cutting off from changing the millisecond.
    return (milliseconds + 0.1) / 1000
