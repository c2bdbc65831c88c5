"""Calling client instances: signed, bounded, and with a typed outcome for whatever happens.

`async with Shim() as shim:` then `outcome = await shim.call(target, Call("GET", "/api/billing/list"))`, or
`async for target, outcome in shim.call_many((target, call) for target in targets)`; from synchronous code
`outcome = call_now(target, call)`.
"""

from provider_federation.portal.shim.calls import Call, Target
from provider_federation.portal.shim.client import Shim, call_now
from provider_federation.portal.shim.guard import BaseUrl, check_base_url, parse_base_url
from provider_federation.portal.shim.outcomes import (
    Answered,
    BadAnswer,
    Outcome,
    RefusedThere,
    TimedOut,
    Unreachable,
)

__all__ = [
    "Answered",
    "BadAnswer",
    "BaseUrl",
    "Call",
    "Outcome",
    "RefusedThere",
    "Shim",
    "Target",
    "TimedOut",
    "Unreachable",
    "call_now",
    "check_base_url",
    "parse_base_url",
]
