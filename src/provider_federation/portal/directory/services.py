"""Changing the directory. Every function writes its audit event in the same transaction; `actor` is as audit
names it.

Calls to an instance happen outside transactions: a slow instance holds no lock.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.checks import Check, probe, probe_now
from provider_federation.portal.directory.keys import NewKey, seal_key
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.shim import check_base_url

__all__ = [
    "Check",
    "NewKey",
    "add_instance",
    "check_instance",
    "disable_instance",
    "edit_instance",
    "enable_instance",
    "probe",
    "replace_key",
    "store_check",
]

EDITABLE = ("title", "base_url", "environment", "notes", "currency", "ai_cap_cents", "billing_email")
_LONGEST_MESSAGE = 500


def add_instance(
    *,
    name: str,
    org_id: str,
    base_url: str,
    key: NewKey,
    actor: str,
    title: str = "",
    environment: str = "production",
    notes: str = "",
    currency: str = "usd",
    ai_cap_cents: int = 5000,
    billing_email: str = "",
) -> Instance:
    """Add an instance with its key and check it at once; the row stays whatever the check finds (see
    `check_code`).

    Problem 400 `invalid_field` / `invalid_key` / `weak_secret`, 409 `instance_exists`, 422
    `base_url_not_allowed` / `ssrf_blocked` / `algorithm_not_allowed`.
    """
    now = clock.now()
    instance = Instance(
        name=name,
        org_id=org_id,
        base_url=_base_url(base_url),
        title=title or name,
        environment=environment,
        notes=notes,
        currency=currency,
        ai_cap_cents=ai_cap_cents,
        billing_email=billing_email,
        created_at=now,
        updated_at=now,
    )
    _validate(instance)
    key_row = seal_key(instance, key)
    try:
        with transaction.atomic():
            instance.save(force_insert=True)
            key_row.save(force_insert=True)
            record(
                Kind.INSTANCE_ADDED,
                actor,
                _subject(instance),
                org=org_id,
                base_url=instance.base_url,
                key_id=key.id,
                algorithm=key.algorithm,
                scope=key.scope,
            )
    except IntegrityError:
        raise Problem(
            409, "instance_exists", "There is an instance with this name or org id already."
        ) from None
    return check_instance(instance, actor=actor)


def edit_instance(instance_id: uuid.UUID, version: int, *, actor: str, **changes: Any) -> Instance:
    """Change fields of EDITABLE; a new base URL is checked at once.

    `version` is the one the caller has seen: Problem 409 `conflict` when somebody else was faster. 400, 422
    as above.
    """
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise Problem(400, "unknown_field", f"{', '.join(sorted(unknown))} cannot be edited.")
    if "base_url" in changes:
        changes["base_url"] = _base_url(changes["base_url"])
    with transaction.atomic():
        instance = _locked(instance_id, version)
        changed = sorted(field for field, value in changes.items() if getattr(instance, field) != value)
        if not changed:
            return instance
        before = {field: getattr(instance, field) for field in changed}
        for field in changed:
            setattr(instance, field, changes[field])
        _validate(instance)
        _save(instance)
        record(
            Kind.INSTANCE_EDITED,
            actor,
            _subject(instance),
            before=before,
            after={field: getattr(instance, field) for field in changed},
        )
    return check_instance(instance, actor=actor) if "base_url" in changed else instance


def disable_instance(instance_id: uuid.UUID, version: int, *, actor: str) -> Instance:
    """The portal stops calling and billing it; its rows stay. 409 `conflict`. Twice changes nothing."""
    return _switch(instance_id, version, actor, enabled=False)


def enable_instance(instance_id: uuid.UUID, version: int, *, actor: str) -> Instance:
    """The opposite; checks it at once."""
    return check_instance(_switch(instance_id, version, actor, enabled=True), actor=actor)


def replace_key(instance_id: uuid.UUID, version: int, key: NewKey, *, actor: str) -> Instance:
    """Retire the key in use and put `key` in its place; then check. 409 `conflict` stops a double submit."""
    with transaction.atomic():
        instance = _locked(instance_id, version)
        row = seal_key(instance, key)
        instance.keys.filter(retired_at__isnull=True).update(retired_at=clock.now())
        row.save(force_insert=True)
        _save(instance)
        record(
            Kind.INSTANCE_KEY_REPLACED,
            actor,
            _subject(instance),
            key_id=key.id,
            algorithm=key.algorithm,
            scope=key.scope,
        )
    return check_instance(instance, actor=actor)


def check_instance(instance: Instance, *, actor: str = "system") -> Instance:
    """Call the instance (up to 16 s), store what came of it, and return the row as it is then."""
    return store_check(instance.pk, probe_now(target_of(instance)), actor=actor)


def store_check(instance_id: uuid.UUID, check: Check, *, actor: str = "system") -> Instance:
    """Keep a check's result. Leaves `version` alone; the system's own checks are audited only when the code
    changes.
    """
    with transaction.atomic():
        instance = _locked(instance_id, None)
        news = instance.check_code != check.code
        instance.checked_at, instance.check_ok = clock.now(), check.ok
        instance.check_code, instance.check_message = check.code[:64], check.message[:_LONGEST_MESSAGE]
        instance.clock_offset_ms = check.clock_offset_ms
        if check.ok:
            instance.remote_version, instance.remote_capabilities = check.version, list(check.capabilities)
        instance.remote_mode = (check.mode or instance.remote_mode)[:16]
        instance.save()
        if news or actor != "system":
            record(
                Kind.INSTANCE_CHECKED,
                actor,
                _subject(instance),
                code=check.code,
                clock_offset_ms=check.clock_offset_ms,
                mode=check.mode,
            )
    return instance


def _switch(instance_id: uuid.UUID, version: int, actor: str, *, enabled: bool) -> Instance:
    with transaction.atomic():
        instance = _locked(instance_id, version)
        if instance.enabled != enabled:
            instance.enabled = enabled
            _save(instance)
            record(Kind.INSTANCE_ENABLED if enabled else Kind.INSTANCE_DISABLED, actor, _subject(instance))
    return instance


def _locked(instance_id: uuid.UUID, version: int | None) -> Instance:
    instance = Instance.objects.select_for_update().filter(pk=instance_id).first()
    if instance is None:
        raise not_found("instance")
    if version is not None and instance.version != version:
        raise Problem(
            409,
            "conflict",
            "Somebody else changed this instance in the meantime; load it again.",
            version=instance.version,
        )
    return instance


def _save(instance: Instance) -> None:
    instance.version += 1
    instance.updated_at = clock.now()
    instance.save()


def _subject(instance: Instance) -> str:
    return f"instance:{instance.name}"


def _base_url(text: str) -> str:
    """In its one spelling, after the guard has let it through."""
    return str(check_base_url(text, tuple(settings.ALLOWED_PRIVATE_HOSTS)))


def _validate(instance: Instance) -> None:
    try:
        instance.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Problem(400, "invalid_field", f"{field}: {' '.join(messages)}", field=field) from None
