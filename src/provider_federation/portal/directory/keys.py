"""Signing keys at rest: checked, sealed to their row, opened only to sign."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.kit.secrets import CannotOpen, SecretBox
from provider_federation.portal.directory.models import (
    Algorithm,
    Instance,
    InstanceKey,
    KeyStatus,
    Scope,
)
from provider_federation.protocol import Key
from provider_federation.protocol.material import is_weak, key_material
from provider_federation.protocol.pairing import new_seed, public_text, read_public
from provider_federation.protocol.values import LEGACY_ALGORITHMS

_SHORTEST_H31 = 8
_LONGEST = 512


@dataclass(frozen=True)
class NewKey:
    """A key as an operator types it in. `secret` is text, used as its UTF-8 bytes; for ed25519 the seed's 32 bytes
    in base64, or empty: then a pair is made. Times are aware.
    """

    id: str
    secret: str = field(default="", repr=False)
    algorithm: str = Algorithm.SHA256.value
    scope: str = Scope.PROVIDER.value
    not_before: datetime | None = None
    not_after: datetime | None = None


def seal_key(instance: Instance, new: NewKey) -> InstanceKey:
    """An unsaved row for `new`. Problem 400 `invalid_key` or `weak_secret`; 422 `algorithm_not_allowed`; 409
    `downgrade_refused`.
    """
    _check(new, instance)
    row = InstanceKey(
        instance=instance,
        key_id=new.id,
        algorithm=new.algorithm,
        scope=new.scope,
        not_before=new.not_before,
        not_after=new.not_after,
        created_at=clock.now(),
    )
    key = _protocol_key(row, instance, _material(new))
    # The instance holds its side to the same rule: a pair is good on both sides or on neither.
    if len(key.secret) < _SHORTEST_H31 if key.algorithm == Algorithm.H31 else is_weak(key):
        raise Problem(400, "weak_secret", "This secret is weak; take 32 random bytes.")
    row.sealed = _box().seal(key.secret, row.row)
    row.public_key = public_text(key) if key.algorithm == Algorithm.ED25519 else ""
    return row


def new_pair(instance: Instance, scope: str = Scope.PROVIDER.value) -> InstanceKey:
    """An unsaved row with a fresh ed25519 pair, which waits for the instance."""
    new = NewKey(
        id=f"portal-{instance.name}-{secrets.token_hex(4)}", algorithm=Algorithm.ED25519.value, scope=scope
    )
    row = seal_key(instance, new)
    row.status = KeyStatus.PENDING
    return row


def response_keys(instance: Instance) -> tuple[Key, ...]:
    """The keys that its answers may be signed with."""
    if not instance.response_public_key:
        return ()
    public_key = read_public(instance.response_public_key)
    return (Key(instance.response_key_id, "ed25519", public_key=public_key),)


def check_response_key(key_id: str, public_key: str) -> None:
    """Problem 400 `invalid_key` when this cannot be what an instance answers with."""
    try:
        Key(key_id, "ed25519", public_key=read_public(public_key))
    except ValueError as error:
        raise Problem(400, "invalid_key", f"The instance's response key cannot be used: {error}.") from None


def open_key(row: InstanceKey, instance: Instance) -> Key:
    """The key to sign with. Raises CannotOpen when the master key is gone or the row was tampered with."""
    return _protocol_key(row, instance, _box().open(row.sealed, row.row))


def reseal_keys() -> tuple[int, int, int]:
    """Seal every secret with the first master key, so that an older one can be taken away: how many were changed,
    cannot be opened, and are there.
    """
    changed = unreadable = seen = 0
    for pk in InstanceKey.objects.order_by("pk").values_list("pk", flat=True):
        # A sealed value never changes but here, so that no lock is needed.
        row = InstanceKey.objects.get(pk=pk)
        try:
            anew = _box().reseal(row.sealed, row.row)
        except CannotOpen:
            unreadable += 1
        else:
            changed += anew != row.sealed and InstanceKey.objects.filter(pk=pk, sealed=row.sealed).update(
                sealed=anew
            )
        seen += 1
    return changed, unreadable, seen


def usable_key(row: InstanceKey | None, instance: Instance) -> tuple[Key | None, str]:
    """The key, or None and the reason for people."""
    if row is None:
        return None, "this instance has no key"
    if row.algorithm == Algorithm.H31 and not settings.DEVELOPMENT:
        return None, "an h31 key signs in development only"
    if row.scheme != "v2" and instance.v2_since is not None:
        return None, "the instance speaks v2, so no legacy key signs for it until an admin resets the ratchet"
    if row.algorithm == Algorithm.ED25519 and not instance.response_public_key:
        return None, "the instance's response key is not known yet, so no answer of it could be believed"
    try:
        return open_key(row, instance), ""
    except (CannotOpen, Problem):
        return None, f"key {row.key_id} cannot be opened with the master keys at hand"


def _box() -> SecretBox:
    return SecretBox(settings.MASTER_KEYS)


def _material(new: NewKey) -> bytes:
    if new.algorithm != Algorithm.ED25519:
        return new.secret.encode()
    if not new.secret:
        return new_seed()
    try:
        return key_material(new.algorithm, {"secret": new.secret})["secret"]
    except ValueError:
        raise Problem(400, "invalid_key", "An ed25519 secret is a seed of 32 bytes, in base64.") from None


def _check(new: NewKey, instance: Instance) -> None:
    if new.algorithm not in Algorithm.values or new.scope not in Scope.values:
        raise Problem(
            400,
            "invalid_key",
            f"A key's algorithm is one of {', '.join(Algorithm.values)}, its scope read or provider.",
        )
    if new.algorithm in LEGACY_ALGORITHMS and instance.v2_since is not None:
        raise Problem(
            409,
            "downgrade_refused",
            "This instance speaks v2; an admin resets the ratchet before legacy comes back.",
        )
    if new.algorithm == Algorithm.H31 and not settings.DEVELOPMENT:
        raise Problem(422, "algorithm_not_allowed", "h31 protects nothing; it exists for development only.")
    if not new.secret.isprintable() or len(new.secret) > _LONGEST:
        raise Problem(400, "invalid_key", f"A secret is at most {_LONGEST} printable characters.")
    if new.not_before and new.not_after and new.not_before >= new.not_after:
        raise Problem(400, "invalid_key", "The key's window ends before it begins.")


def _protocol_key(row: InstanceKey, instance: Instance, secret: bytes) -> Key:
    try:
        return Key(
            row.key_id,
            row.algorithm,
            secret=secret,
            scope=row.scope,
            not_before=row.not_before.timestamp() if row.not_before else None,
            not_after=row.not_after.timestamp() if row.not_after else None,
            instance=instance.name,
            org=instance.org_id,
        )
    except ValueError as error:
        raise Problem(400, "invalid_key", f"This key cannot be used: {error}.") from None
