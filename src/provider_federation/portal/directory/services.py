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
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.checks import Check, probe, probe_now
from provider_federation.portal.directory.keys import NewKey, new_pair, seal_key
from provider_federation.portal.directory.models import Instance, InstanceKey, KeyStatus
from provider_federation.portal.directory.pairing import (
    confirm_key,
    enrol_instance,
    enrol_new,
    make_key,
    parse_code,
    reset_ratchet,
    revoke_key,
    rotate_key,
)
from provider_federation.portal.directory.queries import target_of
from provider_federation.portal.directory.rows import (
    locked,
    save,
    set_response_key,
    store_check,
    subject_of,
)
from provider_federation.portal.shim import check_base_url

__all__ = [
    "Check",
    "NewKey",
    "add_instance",
    "check_instance",
    "confirm_key",
    "disable_instance",
    "edit_instance",
    "enable_instance",
    "enrol_instance",
    "make_key",
    "probe",
    "replace_key",
    "reset_ratchet",
    "revoke_key",
    "rotate_key",
    "store_check",
]

EDITABLE = ("title", "base_url", "environment", "notes", "currency", "ai_cap_cents", "billing_email")


def add_instance(
    *,
    name: str,
    org_id: str,
    base_url: str,
    actor: str,
    key: NewKey | None = None,
    code: str = "",
    response_key: tuple[str, str] = ("", ""),
    title: str = "",
    environment: str = "production",
    notes: str = "",
    currency: str = "usd",
    ai_cap_cents: int = 5000,
    billing_email: str = "",
) -> Instance:
    """Add an instance and check it at once; the row stays whatever the check finds (see `check_code`).

    With `key` it signs with that; `response_key` is the id and public key of what an ed25519 instance answers with.
    With `code`, an enrolment code of the instance, both sides exchange keys now. With neither, a pair is made that
    waits for the instance's owner.

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
    set_response_key(instance, *response_key)
    if code:
        parse_code(code)  # a mistyped one leaves no row behind
    _insert(instance, seal_key(instance, key) if key else new_pair(instance), actor)
    if code:
        return enrol_new(instance, code, actor=actor)
    return check_instance(instance, actor=actor)


def _insert(instance: Instance, key: InstanceKey, actor: str) -> None:
    try:
        with transaction.atomic():
            instance.save(force_insert=True)
            key.save(force_insert=True)
            record(
                Kind.INSTANCE_ADDED,
                actor,
                subject_of(instance),
                org=instance.org_id,
                base_url=instance.base_url,
                key_id=key.key_id,
                algorithm=key.algorithm,
                scope=key.scope,
            )
    except IntegrityError:
        raise Problem(
            409, "instance_exists", "There is an instance with this name or org id already."
        ) from None


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
        instance = locked(instance_id, version)
        changed = sorted(field for field, value in changes.items() if getattr(instance, field) != value)
        if not changed:
            return instance
        before = {field: getattr(instance, field) for field in changed}
        for field in changed:
            setattr(instance, field, changes[field])
        _validate(instance)
        save(instance)
        record(
            Kind.INSTANCE_EDITED,
            actor,
            subject_of(instance),
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


def replace_key(
    instance_id: uuid.UUID,
    version: int,
    key: NewKey,
    *,
    actor: str,
    response_key: tuple[str, str] = ("", ""),
) -> Instance:
    """Retire the key in use and put `key` in its place; then check. 409 `conflict` stops a double submit, and
    `downgrade_refused` a legacy key where v2 is spoken.
    """
    with transaction.atomic():
        instance = locked(instance_id, version)
        set_response_key(instance, *response_key)
        row = seal_key(instance, key)
        instance.keys.filter(status=KeyStatus.IN_USE).update(status=KeyStatus.RETIRED, retired_at=clock.now())
        row.save(force_insert=True)
        save(instance)
        record(
            Kind.INSTANCE_KEY_REPLACED,
            actor,
            subject_of(instance),
            key_id=key.id,
            algorithm=key.algorithm,
            scope=key.scope,
        )
    return check_instance(instance, actor=actor)


def check_instance(instance: Instance, *, actor: str = "system") -> Instance:
    """Call the instance (up to 16 s), store what came of it, and return the row as it is then."""
    target = target_of(instance)
    return store_check(instance.pk, probe_now(target), actor=actor, target=target)


def _switch(instance_id: uuid.UUID, version: int, actor: str, *, enabled: bool) -> Instance:
    with transaction.atomic():
        instance = locked(instance_id, version)
        if instance.enabled != enabled:
            instance.enabled = enabled
            save(instance)
            record(Kind.INSTANCE_ENABLED if enabled else Kind.INSTANCE_DISABLED, actor, subject_of(instance))
    return instance


def _base_url(text: str) -> str:
    """In its one spelling, after the guard has let it through."""
    return str(check_base_url(text, tuple(settings.ALLOWED_PRIVATE_HOSTS)))


def _validate(instance: Instance) -> None:
    try:
        instance.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Problem(400, "invalid_field", f"{field}: {' '.join(messages)}", field=field) from None
