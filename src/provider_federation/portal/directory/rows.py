"""One instance's row: locked, saved, and with what a check found. Every change of the directory goes through it."""

from __future__ import annotations

import uuid

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.checks import Check
from provider_federation.portal.directory.keys import check_response_key
from provider_federation.portal.directory.models import Instance, KeyStatus
from provider_federation.portal.shim import Target

_LONGEST_MESSAGE = 500


def locked(instance_id: uuid.UUID, version: int | None) -> Instance:
    """The row, held until the transaction ends. 404; 409 `conflict` unless `version` (if given) is what it has."""
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


def save(instance: Instance) -> None:
    """With its next version."""
    instance.version += 1
    instance.updated_at = clock.now()
    instance.save()


def subject_of(instance: Instance) -> str:
    """As the audit trail names it."""
    return f"instance:{instance.name}"


def set_response_key(instance: Instance, key_id: str, public_key: str) -> None:
    """What the instance signs its answers with, unsaved; nothing given changes nothing. 400 `invalid_key`."""
    if key_id or public_key:
        check_response_key(key_id, public_key)
        instance.response_key_id, instance.response_public_key = key_id, public_key


def store_check(
    instance_id: uuid.UUID, check: Check, *, actor: str = "system", target: Target | None = None
) -> Instance:
    """Keep a check's result. Leaves `version` alone; the system's own checks are audited only when the code
    changes. What was found at `target` is dropped when the instance has moved, or signs with another key, since.
    """
    with transaction.atomic():
        instance = locked(instance_id, None)
        if target is not None and not is_still_meant(instance, target):
            return instance
        news = instance.check_code != check.code
        instance.checked_at, instance.check_ok = clock.now(), check.ok
        instance.check_code, instance.check_message = check.code[:64], check.message[:_LONGEST_MESSAGE]
        instance.clock_offset_ms = check.clock_offset_ms
        if check.ok:
            _keep_facts(instance, check)
        instance.remote_mode = (check.mode or instance.remote_mode)[:16]
        instance.save()
        if news or actor != "system":
            record(
                Kind.INSTANCE_CHECKED,
                actor,
                subject_of(instance),
                code=check.code,
                clock_offset_ms=check.clock_offset_ms,
                mode=check.mode,
            )
    return instance


def is_still_meant(instance: Instance, target: Target) -> bool:
    """Is `target` where the instance lives, and its key the one in use?"""
    key = instance.keys.filter(status=KeyStatus.IN_USE).first()
    return instance.base_url == target.base_url and (
        target.key is None or (key and key.key_id) == target.key.id
    )


def _keep_facts(instance: Instance, check: Check) -> None:
    """What a good check says about the instance; the first one by v2 sets the ratchet."""
    now = clock.now()
    instance.remote_version, instance.remote_capabilities = check.version, list(check.capabilities)
    instance.remote_policy = check.policy
    instance.keys.filter(status=KeyStatus.IN_USE).update(answered_at=now)
    if check.scheme == "v2" and instance.v2_since is None:
        instance.v2_since = now
        record(Kind.INSTANCE_RATCHET_SET, "system", subject_of(instance))
