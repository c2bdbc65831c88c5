"""The directory on the wire. No schema has a place for a secret on the way out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.kit.web.fields import Moment
from provider_federation.portal.directory.keys import NewKey
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.directory.queries import InstancePage, current_key, pending_key


def _line(text: str) -> str:
    if any(not character.isprintable() for character in text):
        raise ValueError("one line without control characters")
    return text


def _lines(text: str) -> str:
    _line(text.replace("\n", "").replace("\r", "").replace("\t", ""))
    return text


Line = Annotated[str, AfterValidator(_line)]
Lines = Annotated[str, AfterValidator(_lines)]
Cents = Annotated[int, Field(strict=True, ge=0, le=100_000_000)]
Version = Annotated[int, Field(strict=True, ge=1, le=2_147_483_647)]


class _Camel(Strict):
    """Strict, camelCase on the wire and nothing else."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, alias_generator=to_camel)


class KeyIn(_Camel):
    """A signing key. `secret` is taken once and never given out again; for ed25519 it is the seed in base64, and
    left out a pair is made.
    """

    id: Annotated[Line, Field(min_length=1, max_length=128)]
    algorithm: Literal["h31", "sha256", "hmac-sha256", "ed25519"] = "sha256"
    secret: Annotated[str, Field(max_length=512)] = ""
    scope: Literal["read", "provider"] = "provider"
    not_before: Moment | None = None
    not_after: Moment | None = None

    @model_validator(mode="after")
    def _has_secret(self) -> Self:
        if not self.secret and self.algorithm != "ed25519":
            raise ValueError("a shared key has a secret")
        return self

    def value(self) -> NewKey:
        """As the services take it."""
        return NewKey(self.id, self.secret, self.algorithm, self.scope, self.not_before, self.not_after)


class ResponseKeyIn(_Camel):
    """What an instance signs its answers with: ed25519, 32 bytes in base64."""

    id: Annotated[Line, Field(min_length=1, max_length=128)]
    public_key: Annotated[Line, Field(min_length=44, max_length=44)]

    def value(self) -> tuple[str, str]:
        """As the services take it."""
        return self.id, self.public_key


def response_key_of(given: ResponseKeyIn | None) -> tuple[str, str]:
    """Nothing given changes nothing."""
    return given.value() if given else ("", "")


class _Fields(_Camel):
    title: Annotated[Line, Field(max_length=200)] = ""
    environment: Annotated[Line, Field(min_length=1, max_length=40)] = "production"
    notes: Annotated[Lines, Field(max_length=4000)] = ""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "usd"
    ai_cap_cents: Cents = 5000
    billing_email: Annotated[Line, Field(max_length=254)] = ""


Code = Annotated[Line, Field(min_length=1, max_length=80)]


class InstanceIn(_Fields):
    """A new instance: with its key, with an `enrolmentCode` of its owner, or with neither: then a pair is made whose
    public half the answer shows.
    """

    name: Annotated[Line, Field(min_length=1, max_length=63)]
    client_org_id: Annotated[Line, Field(min_length=1, max_length=128)]
    base_url: Annotated[str, Field(min_length=1, max_length=300)]
    key: KeyIn | None = None
    enrolment_code: Code | None = None
    response_key: ResponseKeyIn | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.key is not None and self.enrolment_code is not None:
            raise ValueError("give a key or an enrolmentCode, not both")
        return self


class InstanceEdit(_Fields):
    """What to change; what is left out stays. `version` is the one that was read."""

    version: Version
    base_url: Annotated[str, Field(max_length=300)] = ""

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, without the version."""
        return self.model_dump(exclude_unset=True, exclude={"version"})


class VersionIn(_Camel):
    """For an action on the row as it was read."""

    version: Version


class KeyReplacement(VersionIn):
    """The new key of an instance."""

    key: KeyIn
    response_key: ResponseKeyIn | None = None


class NewPairIn(VersionIn):
    """A pair to make here. `scope` is what it may at most."""

    scope: Literal["read", "provider"] = "provider"


class ConfirmIn(VersionIn):
    """The waiting key is at the instance; `responseKey` is what that answers with, if it is not known yet."""

    response_key: ResponseKeyIn | None = None


class EnrolIn(VersionIn):
    """The code that the instance's owner gave."""

    code: Code


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def key_out(row: InstanceKey | None) -> dict[str, Any] | None:
    """What may be shown of a key."""
    if row is None:
        return None
    return {
        "id": row.key_id,
        "algorithm": row.algorithm,
        "status": row.status,
        "publicKey": row.public_key or None,
        "scope": row.scope,
        "notBefore": _time(row.not_before),
        "notAfter": _time(row.not_after),
        "createdAt": _time(row.created_at),
        "retiredAt": _time(row.retired_at),
        "retiredThereAt": _time(row.retired_there_at),
        "answeredAt": _time(row.answered_at),
    }


def keys_out(row: Instance) -> dict[str, Any]:
    """Every key of an instance, newest first, with their handles (`key`), and what the instance answers with."""
    keys = [{"key": str(key.pk), **(key_out(key) or {})} for key in row.keys.all()]
    return {"ok": True, "keys": keys, "responseKey": _response_key(row), "v2Since": _time(row.v2_since)}


def _response_key(row: Instance) -> dict[str, str] | None:
    if not row.response_public_key:
        return None
    return {"id": row.response_key_id, "publicKey": row.response_public_key}


def instance_out(row: Instance) -> dict[str, Any]:
    """One instance; `check` is null until the first one."""
    check = {
        "at": _time(row.checked_at),
        "ok": row.check_ok,
        "code": row.check_code,
        "message": row.check_message,
        "clockOffsetMs": row.clock_offset_ms,
        "mode": row.remote_mode,
        "version": row.remote_version,
        "capabilities": row.remote_capabilities,
    }
    return {
        "id": str(row.pk),
        "name": row.name,
        "title": row.title,
        "baseUrl": row.base_url,
        "clientOrgId": row.org_id,
        "environment": row.environment,
        "notes": row.notes,
        "enabled": row.enabled,
        "currency": row.currency,
        "aiCapCents": row.ai_cap_cents,
        "billingEmail": row.billing_email,
        "version": row.version,
        "key": key_out(current_key(row)),
        "pendingKey": key_out(pending_key(row)),
        "responseKey": _response_key(row),
        "v2Since": _time(row.v2_since),
        "policy": row.remote_policy or None,
        "check": check if row.checked_at else None,
        "createdAt": _time(row.created_at),
        "updatedAt": _time(row.updated_at),
    }


def page_out(page: InstancePage) -> dict[str, Any]:
    """A page of instances; `total` counts all rows behind the filters."""
    items = [instance_out(row) for row in page.items]
    return {"ok": True, "items": items, "total": page.total, "nextCursor": page.next_cursor}
