"""The headers of one attempt: what every request carries, and a signature made now; and whose the answer is.

The clock is ours and no other. An instance whose clock is off says so in a signed refusal, and the outcome shows by
how much; we do not sign for its time instead. That would hide a fault that also breaks billing days and windows, and
an instance could collect signatures for times to come. Both sides follow a time server; 300 s are ample.
"""

from __future__ import annotations

import math
import re
import threading

from provider_federation import __version__
from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.kit import clock
from provider_federation.portal.shim.calls import Call, Target
from provider_federation.portal.shim.guard import BaseUrl
from provider_federation.portal.shim.transport import Failed, Reply
from provider_federation.protocol import Key, Request
from provider_federation.protocol.values import MODERN_ALGORITHMS

_MOST_AHEAD = 1000
_CREATED = re.compile(r";created=([0-9]{1,10})(?:;|$)")
_REASON = re.compile(rb'"reason": ?"([a-z][a-z0-9_]{0,63})"')
_last: dict[str, int] = {}
_lock = threading.Lock()


class CannotSign(Exception):
    """There is no key, or it is outside its window, or it cannot sign this; the message holds no secret."""


def signed_request(base: BaseUrl, target: Target, call: Call) -> Request:
    """The request of one attempt, its headers in the order they are sent. A signature is made with the key's own
    algorithm and no other, ever; for v2 with a nonce of this attempt's own. Raises CannotSign.
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
    request = Request(call.method, base.prefix + call.target, base.authority, headers, call.content)
    if not call.signed:
        return request
    now = _moment(target, call)
    try:
        return _signer(target, _key_in_force(target, now), now).sign(request)
    except ValueError as error:
        raise CannotSign(str(error)) from None


def check_answer(reply: Reply, request: Request, target: Target, call: Call) -> float | None:
    """Raises Failed unless the answer to a v2 call is signed, for this call, by a key of the target's.

    Returns the time it was signed at by the instance's own clock (seconds since 1970); None for other calls,
    whose answers nobody signs.
    """
    key = target.key
    if not call.signed or key is None or key.algorithm not in MODERN_ALGORITHMS:
        return None
    try:  # whether the key is still in force is no matter: the call was made with it
        _signer(target, key, clock.timestamp()).check(request, reply.status, reply.pairs, reply.body)
    except AnswerRefused as refused:
        raise Failed(refused.code, _claimed(reply), status=reply.status) from None
    created = _CREATED.search(reply.headers["signature-input"])
    return float(created[1]) if created else None


def _signer(target: Target, key: Key, now: float) -> Signer:
    return Signer(key, target.name, target.org_id or None, target.scope, target.answers, lambda: now)


def _claimed(reply: Reply) -> str:
    """What it says about itself, for people who look for the reason; nothing relies on it."""
    reason = _REASON.search(reply.body[:4096])
    return f"it says {reply.status}" + (f" {reason[1].decode()}" if reason else "")


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
