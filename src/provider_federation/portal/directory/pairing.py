"""Keys that both sides agree on: enrolment by code, rotation over the wire, revocation, and the ratchet's reset.

What this portal knows is written before a call and after it, never during one: a call that is lost leaves a pending
key, and the next try goes on with it.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.database import lend_connection
from provider_federation.portal.directory.checks import Check, probe_now
from provider_federation.portal.directory.keys import new_pair
from provider_federation.portal.directory.models import Instance, InstanceKey, KeyStatus
from provider_federation.portal.directory.queries import current_key, pending_key, target_of, target_under
from provider_federation.portal.directory.rows import (
    locked,
    save,
    set_response_key,
    store_check,
    subject_of,
)
from provider_federation.portal.shim import Answered, Call, Outcome, RefusedThere, Target, call_now
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import code_key

ENROL_PATH = "/api/federation/enrol"
KEYS_PATH = "/api/federation/keys"
OVERLAP_SECONDS = 300  # calls under way, signed by the old key, still arrive
_SECONDS = 15.0


def make_key(instance_id: uuid.UUID, version: int, *, actor: str, scope: str = "provider") -> InstanceKey:
    """A new ed25519 pair that waits until the instance's owner has put its public half into the environment; an
    older one that waited is revoked. 409 `conflict`.
    """
    with transaction.atomic():
        instance = locked(instance_id, version)
        _end(instance.keys.filter(status=KeyStatus.PENDING), KeyStatus.REVOKED)
        row = _insert_pair(instance, actor, scope)
        save(instance)
    return row


def confirm_key(
    instance_id: uuid.UUID, version: int, *, actor: str, response_key: tuple[str, str] = ("", "")
) -> Instance:
    """Call the instance with the pending key; when it answers, that is the key in use and the old one retired.

    `response_key` is the id and public key of what the instance answers with. 409 `no_pending_key`, `conflict`; 502
    `instance_not_ready` with what the instance said.
    """
    with transaction.atomic():
        instance = locked(instance_id, version)
        set_response_key(instance, *response_key)
        save(instance)
    pending = _pending(instance)
    check = probe_now(target_under(instance, pending))
    if not check.ok:
        raise Problem(
            502, "instance_not_ready", f"The instance does not take the new key yet: {check.message}"
        )
    old = _put_in_use(instance, pending, actor, Kind.INSTANCE_KEY_REPLACED)
    _retire_there(instance, old)
    return store_check(instance.pk, check, actor=actor)


def rotate_key(instance_id: uuid.UUID, version: int, *, actor: str) -> Instance:
    """Introduce a new pair to the instance by the key in use, confirm it by itself, and retire the old one there
    after an overlap. After a lost answer call it again: it goes on with the same pair.

    409 `rotation_needs_v2`, `conflict`; 502 `rotation_failed` with what the instance said.
    """
    with transaction.atomic():
        instance = locked(instance_id, version)
        current = current_key(instance)
        if current is None or current.scheme != "v2":
            raise Problem(
                409,
                "rotation_needs_v2",
                "Only a v2 key can introduce another; pair with an enrolment code instead.",
            )
        pending = pending_key(instance) or _insert_pair(instance, actor, current.scope)
        save(instance)
    _ask(target_of(instance), {"action": "introduce", "key": _offer(pending)})
    _ask(target_under(instance, pending), {"action": "confirm", "keyId": pending.key_id})
    old = _put_in_use(instance, pending, actor, Kind.INSTANCE_KEY_ROTATED)
    _retire_there(instance, old)
    return _check(instance, actor)


def revoke_key(instance_id: uuid.UUID, version: int, key_pk: uuid.UUID, *, actor: str) -> Instance:
    """End a key at once: nothing is signed with it again, and the instance is told where another key can tell it.

    404, 409 `conflict`.
    """
    with transaction.atomic():
        instance = locked(instance_id, version)
        rows = instance.keys.filter(pk=key_pk).exclude(status=KeyStatus.REVOKED)
        row = rows.first()
        if row is None:
            raise Problem(404, "not_found", "There is no such key that could be revoked.")
        _end(rows, KeyStatus.REVOKED)
        save(instance)
        record(Kind.INSTANCE_KEY_REVOKED, actor, subject_of(instance), key_id=row.key_id)
    _retire_there(instance, row, overlap_seconds=0)
    return instance


def reset_ratchet(instance_id: uuid.UUID, version: int, *, actor: str) -> Instance:
    """Legacy keys may be used for this instance again, until its next good check by v2. 409 `conflict`."""
    with transaction.atomic():
        instance = locked(instance_id, version)
        if instance.v2_since is not None:
            since = instance.v2_since.isoformat()
            instance.v2_since = None
            save(instance)
            record(Kind.INSTANCE_RATCHET_RESET, actor, subject_of(instance), since=since)
    return instance


def enrol_instance(instance_id: uuid.UUID, version: int, code: str, *, actor: str) -> Instance:
    """Exchange keys with an instance by the code that its owner gave us.

    400 `invalid_code`, 409 `conflict`, 502 `enrolment_failed` with what the instance said.
    """
    parse_code(code)
    with transaction.atomic():
        instance = locked(instance_id, version)
        _end(instance.keys.filter(status=KeyStatus.PENDING), KeyStatus.REVOKED)
        _insert_pair(instance, actor, "provider")
        save(instance)
    return _enrol(instance, code, actor)


def enrol_new(instance: Instance, code: str, *, actor: str) -> Instance:
    """The same for an instance that was added a moment ago; what goes wrong shows as its check."""
    try:
        return _enrol(instance, code, actor)
    except Problem as problem:
        return store_check(instance.pk, Check(False, problem.code, problem.message), actor=actor)


def parse_code(code: str) -> Key:
    """The key that signs the exchange. 400 `invalid_code`."""
    try:
        return code_key(code)
    except ValueError as error:
        raise Problem(400, "invalid_code", f"This is no enrolment code: {error}.", field="code") from None


def _enrol(instance: Instance, code: str, actor: str) -> Instance:
    pending = _pending(instance)
    # Only who knows the code can have signed the answer, so the key in it is the instance's.
    target = replace(target_of(instance), key=parse_code(code), scope="provider", answers=())
    call = Call("POST", ENROL_PATH, body={"key": _offer(pending)}, timeout=_SECONDS, attempts=1)
    outcome = _call(target, call)
    told = outcome.data.get("responseKey") if isinstance(outcome, Answered) else None
    if not isinstance(told, dict):
        raise Problem(502, "enrolment_failed", f"The instance did not enrol this portal. {outcome.sentence}")
    with transaction.atomic():
        fresh = locked(instance.pk, None)
        set_response_key(fresh, str(told.get("id", "")), str(told.get("publicKey", "")))
        save(fresh)
        record(Kind.INSTANCE_ENROLLED, actor, subject_of(fresh), response_key=fresh.response_public_key)
    old = _put_in_use(fresh, pending, actor, Kind.INSTANCE_KEY_REPLACED)
    _retire_there(fresh, old)
    return _check(fresh, actor)


def _insert_pair(instance: Instance, actor: str, scope: str) -> InstanceKey:
    row = new_pair(instance, scope)
    row.save(force_insert=True)
    record(Kind.INSTANCE_KEY_MADE, actor, subject_of(instance), key_id=row.key_id, scope=scope)
    return row


def _pending(instance: Instance) -> InstanceKey:
    row = pending_key(instance)
    if row is None:
        raise Problem(409, "no_pending_key", "No key waits for this instance; make one first.")
    return row


def _put_in_use(instance: Instance, pending: InstanceKey, actor: str, kind: Kind) -> InstanceKey | None:
    """The pending key signs from now on; the old one, now retired, or None. 409 `conflict` when the key was ended
    while the instance was asked: the one in use stays.
    """
    with transaction.atomic():
        locked(instance.pk, None)
        status = instance.keys.get(pk=pending.pk).status
        # Somebody who asked at the same time was here first, with the same key.
        if status == KeyStatus.IN_USE:
            return None
        if status != KeyStatus.PENDING:
            raise Problem(
                409, "conflict", "Somebody else ended this key in the meantime; load the page again."
            )
        old = instance.keys.filter(status=KeyStatus.IN_USE).first()
        _end(instance.keys.filter(status=KeyStatus.IN_USE), KeyStatus.RETIRED)
        instance.keys.filter(pk=pending.pk).update(status=KeyStatus.IN_USE)
        record(kind, actor, subject_of(instance), key_id=pending.key_id, algorithm=pending.algorithm)
    return old


def _end(rows: Any, status: KeyStatus) -> None:
    rows.update(status=status, retired_at=clock.now())


def _retire_there(
    instance: Instance, old: InstanceKey | None, overlap_seconds: int = OVERLAP_SECONDS
) -> None:
    """Ask the instance to end a key of ours too. Where it cannot be asked, its page goes on saying so."""
    current = instance.keys.filter(status=KeyStatus.IN_USE).first()
    if old is None or current is None or current.scheme != "v2":
        return
    body = {"action": "retire", "keyId": old.key_id, "overlapSeconds": overlap_seconds}
    outcome = _call(target_under(instance, current), Call("POST", KEYS_PATH, body=body, timeout=_SECONDS))
    gone = isinstance(outcome, RefusedThere) and outcome.code == "not_found"
    if outcome.ok or gone:
        InstanceKey.objects.filter(pk=old.pk).update(retired_there_at=clock.now())


def _ask(target: Target, body: dict[str, Any]) -> None:
    outcome = _call(target, Call("POST", KEYS_PATH, body=body, timeout=_SECONDS))
    if not isinstance(outcome, Answered):
        raise Problem(502, "rotation_failed", f"The instance did not take the new key. {outcome.sentence}")


def _call(target: Target, call: Call) -> Outcome:
    lend_connection()
    return call_now(target, call)


def _offer(row: InstanceKey) -> dict[str, str]:
    return {"id": row.key_id, "algorithm": row.algorithm, "publicKey": row.public_key, "scope": row.scope}


def _check(instance: Instance, actor: str) -> Instance:
    fresh = Instance.objects.get(pk=instance.pk)
    target = target_of(fresh)
    return store_check(fresh.pk, probe_now(target), actor=actor, target=target)
