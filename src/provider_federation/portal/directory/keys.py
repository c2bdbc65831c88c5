"""Signing keys at rest: checked, sealed to their row, opened only to sign."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.kit.secrets import CannotOpen, SecretBox
from provider_federation.portal.directory.models import Algorithm, Instance, InstanceKey, Scope
from provider_federation.protocol import Key
from provider_federation.protocol.material import is_weak

_SHORTEST_H31 = 8
_LONGEST = 512


@dataclass(frozen=True)
class NewKey:
    """A key as an operator types it in. `secret` is text, used as its UTF-8 bytes; times are aware."""

    id: str
    secret: str = field(repr=False)
    algorithm: str = Algorithm.SHA256.value
    scope: str = Scope.PROVIDER.value
    not_before: datetime | None = None
    not_after: datetime | None = None


def seal_key(instance: Instance, new: NewKey) -> InstanceKey:
    """An unsaved row for `new`. Problem 400 `invalid_key` or `weak_secret`; 422 `algorithm_not_allowed`."""
    _check(new)
    row = InstanceKey(
        instance=instance,
        key_id=new.id,
        algorithm=new.algorithm,
        scope=new.scope,
        not_before=new.not_before,
        not_after=new.not_after,
        created_at=clock.now(),
    )
    key = _protocol_key(row, instance, new.secret.encode())
    # The instance holds its side to the same rule: a pair is good on both sides or on neither.
    if len(key.secret) < _SHORTEST_H31 if key.algorithm == Algorithm.H31 else is_weak(key):
        raise Problem(400, "weak_secret", "This secret is weak; take 32 random bytes.")
    row.sealed = _box().seal(key.secret, row.row)
    return row


def open_key(row: InstanceKey, instance: Instance) -> Key:
    """The key to sign with. Raises CannotOpen when the master key is gone or the row was tampered with."""
    return _protocol_key(row, instance, _box().open(row.sealed, row.row))


def usable_key(row: InstanceKey | None, instance: Instance) -> tuple[Key | None, str]:
    """The key, or None and the reason for people."""
    if row is None:
        return None, "this instance has no key"
    if row.algorithm == Algorithm.H31 and not settings.DEVELOPMENT:
        return None, "an h31 key signs in development only"
    try:
        return open_key(row, instance), ""
    except (CannotOpen, Problem):
        return None, f"key {row.key_id} cannot be opened with the master keys at hand"


def _box() -> SecretBox:
    return SecretBox(settings.MASTER_KEYS)


def _check(new: NewKey) -> None:
    if new.algorithm not in Algorithm.values or new.scope not in Scope.values:
        raise Problem(400, "invalid_key", "A key's algorithm is h31 or sha256, its scope read or provider.")
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
