"""Enrolment, rotation and the owner's policy on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from provider_federation.instance.wire import Answer, Wire
from provider_federation.kit.web.api import Strict

KeyId = Annotated[str, Field(pattern=r"^[!#-+\--\[\]-~]{1,128}$")]
Scope = Literal["read", "provider"]


class _Camel(Strict):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class KeyIn(_Camel):
    """The public half of a key pair that the portal made: 32 bytes in base64."""

    id: KeyId
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: Annotated[str, Field(min_length=44, max_length=44)]
    scope: Scope = "provider"


class EnrolIn(_Camel):
    key: KeyIn


class KeysIn(_Camel):
    """`introduce` takes `key`, `confirm` and `retire` take `keyId`, `retire` may take `overlapSeconds`."""

    action: Literal["introduce", "confirm", "retire"]
    key: KeyIn | None = None
    key_id: KeyId | None = None
    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=86_400)] | None = None


class ResponseKeyOut(Wire):
    id: str
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: str


class EnrolOut(Answer):
    """Who answered, what the key may do, and the key that signs this instance's answers from now on."""

    instance: str
    org: str
    title: str
    key_id: str
    scope: Scope
    response_key: ResponseKeyOut


class KeyOut(Wire):
    id: str
    scope: str
    state: Literal["introduced", "active", "retiring", "ended"]
    not_after: str | None


class KeysOut(Answer):
    key: KeyOut


class PolicyOut(Answer):
    """What the owner allows. Amounts are minor units of `currency`; a `dailyLimitCents` of null is no limit."""

    frozen: bool
    actions: dict[str, bool]
    daily_limit_cents: int | None
    currency: str
    drafted_today_cents: int
    sent_today_cents: int
    enrolment_open: bool
