"""From a reply to an outcome: is it an answer, from whom, and what does it say?"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from provider_federation.kit.logs import scrub
from provider_federation.portal.shim.calls import Target
from provider_federation.portal.shim.outcomes import Answered, BadAnswer, Outcome, RefusedThere
from provider_federation.portal.shim.strict_json import NotJson, read_object
from provider_federation.portal.shim.transport import Reply

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LONGEST_MESSAGE = 300
_LONGEST_WAIT = 3600.0


def judge(
    reply: Reply, target: Target, sent_at: float, received_at: float, signed_at: float | None = None
) -> Outcome:
    """`sent_at` and `received_at` in seconds since 1970, for the difference between the clocks; `signed_at` is
    the moment that a signed answer was made at by the instance's clock, in whole seconds.
    """
    try:
        data = read_object(reply.body)
    except NotJson as error:
        if 200 <= reply.status < 300:
            return BadAnswer(error.code, str(error), reply.status)
        data = {}
    offset = clock_offset_ms(reply, data, sent_at, received_at, signed_at)
    if not 200 <= reply.status < 300 or data.get("ok") is False:
        return _refusal(reply, data, offset, received_at)
    stranger = _identity_fault(data, target)
    if stranger:
        return BadAnswer("response_identity_mismatch", stranger, reply.status, clock_offset_ms=offset)
    replayed = reply.headers.get("idempotent-replayed", "").lower() == "true"
    return Answered(reply.status, data, clock_offset_ms=offset, replayed=replayed)


def clock_offset_ms(
    reply: Reply, data: dict[str, Any], sent_at: float, received_at: float, signed_at: float | None
) -> int | None:
    """The instance's clock minus ours in milliseconds: exact from `serverTime`, to half a second from the
    answer's signature or, where it has none, its Date header.
    """
    middle = (sent_at + received_at) / 2
    try:
        if isinstance(data.get("serverTime"), str):
            theirs = datetime.fromisoformat(data["serverTime"]).timestamp()
        elif signed_at is not None:
            theirs = signed_at + 0.5
        else:
            theirs = parsedate_to_datetime(reply.headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    offset = round((theirs - middle) * 1000)
    return max(-2_147_483_648, min(offset, 2_147_483_647))


def _refusal(reply: Reply, data: dict[str, Any], offset: int | None, now: float) -> RefusedThere:
    reason = data.get("reason")
    code = reason if isinstance(reason, str) and _CODE.fullmatch(reason) else f"http_{reply.status}"
    message = data.get("error")
    if not isinstance(message, str) or not message:
        message = "It gave no reason."
    plain = "".join(letter for letter in str(scrub(message)) if letter.isprintable())[:_LONGEST_MESSAGE]
    wait = _retry_after(reply.headers.get("retry-after", ""), now)
    if code == "timestamp_out_of_window" and offset is not None:
        direction = "ahead of" if offset > 0 else "behind"
        plain = f"{plain} Its clock is {abs(offset) // 1000} s {direction} ours."
    return RefusedThere(reply.status, code, plain, clock_offset_ms=offset, retry_after=wait)


def _retry_after(value: str, now: float) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, 10.2.3)."""
    if value.isascii() and value.isdigit() and len(value) < 8:
        return min(float(value), _LONGEST_WAIT)
    try:
        return max(0.0, min(parsedate_to_datetime(value).timestamp() - now, _LONGEST_WAIT))
    except (ValueError, TypeError, OverflowError):
        return None


def _identity_fault(data: dict[str, Any], target: Target) -> str:
    """An answer may leave out who it is from; what it says must be true."""
    for field, ours in (("instance", target.name), ("org", target.org_id), ("clientOrgId", target.org_id)):
        theirs = data.get(field)
        if isinstance(theirs, str) and ours and theirs != ours:
            return f"its {field} is another"
    return ""
