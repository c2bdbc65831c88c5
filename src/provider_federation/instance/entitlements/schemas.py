"""Entitlements on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from provider_federation.instance.entitlements.queries import Allowed
from provider_federation.instance.entitlements.services import Told
from provider_federation.instance.wire import Answer, Instant, Wire, read_instant
from provider_federation.kit.web.api import Strict
from provider_federation.money import Limits

_CAMEL = ConfigDict(extra="forbid", str_strip_whitespace=True, alias_generator=to_camel)
Limit = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Version = Annotated[int, Field(strict=True, ge=1, le=9_007_199_254_740_991)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


class LimitsIn(Strict):
    """A limit of null is unlimited; each has to be there, so that none is unlimited by omission."""

    model_config = _CAMEL

    leads: Limit | None
    users: Limit | None
    ai_credits: Limit | None


class EntitlementIn(Strict):
    """What the client may use from now on. `version` goes up with every change of it."""

    model_config = _CAMEL

    version: Version
    plan: Annotated[str, Field(pattern=r"^[A-Z0-9_-]{1,16}$")]
    state: Literal["full", "restricted", "base"]
    limits: LimitsIn
    support: Word
    valid_from: Annotated[str, Field(min_length=1, max_length=40)]

    def told(self) -> Told:
        limits = Limits(self.limits.leads, self.limits.users, self.limits.ai_credits)
        at = read_instant(self.valid_from, "validFrom")
        return Told(self.version, self.plan, self.state, limits, self.support, at)


class LimitsOut(Wire):
    leads: int | None
    users: int | None
    ai_credits: int | None


class EntitlementOut(Answer):
    """What holds here now. `version` 0: the portal never told anything."""

    version: int
    plan: str
    state: str
    limits: LimitsOut
    support: str
    valid_from: Instant | None
    received_at: Instant | None

    @classmethod
    def of(cls, allowed: Allowed) -> EntitlementOut:
        return cls(**_fields(allowed))


class StoredOut(EntitlementOut):
    """`applied` is false when this version, or a newer one, was known already."""

    applied: bool

    @classmethod
    def after(cls, allowed: Allowed, *, applied: bool) -> StoredOut:
        return cls(**_fields(allowed), applied=applied)


def _fields(allowed: Allowed) -> dict[str, Any]:
    limits = allowed.limits
    return {
        "version": allowed.version,
        "plan": allowed.plan,
        "state": allowed.state,
        "limits": LimitsOut(leads=limits.leads, users=limits.users, ai_credits=limits.ai_credits),
        "support": allowed.support,
        "valid_from": allowed.valid_from,
        "received_at": allowed.received_at,
    }
