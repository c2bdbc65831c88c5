"""Letting a portal in, changing its keys, and ending them. What is written here holds from the next request on."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from provider_federation.instance.federation.identity import ensure_response_key
from provider_federation.instance.federation.keyring import PAIR, read_snapshot
from provider_federation.instance.federation.models import FederationKey, Invitation, KeySource
from provider_federation.instance.federation.replay import replay_store
from provider_federation.instance.invoicing.services import lock_provider_policy, provider_policy
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem, not_found
from provider_federation.protocol import Key, Principal
from provider_federation.protocol.pairing import code_key, invitation_name, new_code, public_text, read_public

MOST_KEYS = 50
MOST_TRIES = 5
_TO_CONFIRM = timedelta(days=1)
_NOTED_EVERY = timedelta(minutes=1)
_log = get_logger("federation")


def open_enrolment(*, minutes: int = 60, scope: str = "provider") -> tuple[Invitation, str]:
    """A new code for one portal, shown once; an older one is closed. `scope` is its key's ceiling."""
    now = clock.now()
    code = new_code()
    key = code_key(code)
    with transaction.atomic():
        close_enrolment()
        invitation = Invitation.objects.create(
            name=invitation_name(key.id),
            digest=key.secret.hex(),
            scope=scope,
            created_at=now,
            expires_at=now + timedelta(minutes=minutes),
        )
    _log.info("enrolment opened", scope=scope, minutes=minutes)
    return invitation, code


def close_enrolment() -> None:
    """No code is good any more."""
    Invitation.objects.filter(closed_at=None).update(closed_at=clock.now())


def open_invitation() -> Invitation | None:
    """The one that a portal may use now."""
    return Invitation.objects.filter(closed_at=None, expires_at__gt=clock.now()).first()


def note_bad_try(key_id: str) -> None:
    """A request that named an open code and was refused. After MOST_TRIES of them the code is closed."""
    name = invitation_name(key_id)
    rows = Invitation.objects.filter(name=name, closed_at=None)
    if name and rows.update(tries=F("tries") + 1):
        rows.filter(tries__gte=MOST_TRIES).update(closed_at=clock.now())


def enrol(code_key_id: str, *, key_id: str, public_key: str, scope: str) -> Key:
    """Take the portal's key, close the code, and return the key that this instance answers with.

    Problem 403 `enrolment_closed` or `scope_not_allowed`, 400 `invalid_key`, 409 `key_exists`, `too_many_keys`.
    """
    with transaction.atomic():
        invitation = (
            Invitation.objects.select_for_update()
            .filter(name=invitation_name(code_key_id), closed_at=None, expires_at__gt=clock.now())
            .first()
        )
        if invitation is None or provider_policy().frozen:
            raise Problem(403, "enrolment_closed", "No portal is expected here; ask the owner for a code.")
        _check_scope(scope, invitation.scope)
        _add(key_id, public_key, scope, KeySource.ENROLLED, confirmed_at=clock.now())
        invitation.closed_at, invitation.used_by = clock.now(), key_id
        invitation.save(update_fields=["closed_at", "used_by"])
        answer = ensure_response_key()
    _log.info("a portal enrolled", key_id=key_id, scope=scope)
    return answer


def introduce_key(by: Principal, *, key_id: str, public_key: str, scope: str) -> FederationKey:
    """A new key, introduced by one that is in force and reaching no further; a day is left to confirm it.

    The same again changes nothing. 409 `key_retiring`, and Problems as in `enrol`.
    """
    current = read_snapshot().keyring.get(by.key_id)
    if current is None:
        raise not_found("key")
    _check_stays(by)
    _check_scope(scope, current.scope)
    with transaction.atomic():
        known = _locked(key_id)
        if known is None:
            row = _add(key_id, public_key, scope, KeySource.ROTATED, not_after=clock.now() + _TO_CONFIRM)
        elif (known.public_key, known.scope, known.revoked_at) == (public_key, scope, None):
            row = known
        else:
            raise _key_exists()
    _log.info("key introduced", key_id=key_id, by=by.key_id, scope=scope)
    return row


def confirm_key(by: Principal, key_id: str) -> FederationKey:
    """The new key's own signature says that the portal has it: it now lives until it is ended. 409
    `confirm_with_itself`.
    """
    if by.key_id != key_id:
        raise Problem(409, "confirm_with_itself", "A key is confirmed by a request that it signed itself.")
    with transaction.atomic():
        row = _locked(key_id)
        if row is None:
            raise not_found("key")
        if row.is_unconfirmed:
            row.confirmed_at, row.not_after = clock.now(), None
            row.save(update_fields=["confirmed_at", "not_after"])
    _log.info("key confirmed", key_id=key_id)
    return row


def retire_key(by: Principal, key_id: str, overlap_seconds: int = 0) -> FederationKey:
    """End another key, after an overlap in which both hold; at once when nobody has confirmed it. 409
    `retire_with_another`, `key_retiring`, 404.
    """
    if by.key_id == key_id:
        raise Problem(409, "retire_with_another", "A key is retired by a request that another key signed.")
    _check_stays(by)
    ends = clock.now() + timedelta(seconds=overlap_seconds)
    row = _end(key_id, not_after=ends, revoked_at=None if overlap_seconds else ends)
    _log.info("key retired", key_id=key_id, by=by.key_id, overlap_seconds=overlap_seconds)
    return row


def revoke_key(key_id: str) -> FederationKey:
    """The owner's word: this key ends now, in every process. 404."""
    row = _end(key_id, not_after=None, revoked_at=clock.now())
    _log.warning("key revoked", key_id=key_id)
    return row


def reset_ratchet() -> None:
    """Legacy signatures are accepted again, where a key and the settings allow them, until the next v2 request."""
    replay_store().reset(PAIR)
    _log.warning("ratchet reset")


def note_use(principal: Principal) -> None:
    """When a key was last used, and by which scheme; written once a minute at most. Problem 401 `unknown_key` when it
    has ended: the gate saw it before the body came, and whoever sends that may take his time.
    """
    now = clock.now()
    row = FederationKey.objects.filter(key_id=principal.key_id).first()
    if row is not None and row.has_ended:
        raise Problem(401, "unknown_key", "This key is not accepted here.")
    if row is None:
        FederationKey.objects.get_or_create(
            key_id=principal.key_id,
            defaults={
                "source": KeySource.ENVIRONMENT,
                "created_at": now,
                "last_used_at": now,
                "last_scheme": principal.scheme,
            },
        )
        return
    fresh = row.last_used_at is not None and abs(now - row.last_used_at) < _NOTED_EVERY
    if not fresh or row.last_scheme != principal.scheme:
        FederationKey.objects.filter(pk=row.pk).update(last_used_at=now, last_scheme=principal.scheme)


def _add(key_id: str, public_key: str, scope: str, source: KeySource, **more: datetime) -> FederationKey:
    lock_provider_policy()
    if invitation_name(key_id):
        raise Problem(400, "invalid_key", "This id is kept for the keys of codes; take another.", field="id")
    try:
        read_public(public_key)
    except ValueError as error:
        raise Problem(400, "invalid_key", f"This key cannot be used: {error}.", field="publicKey") from None
    rows = FederationKey.objects.exclude(source=KeySource.ENVIRONMENT)
    taken = settings.FEDERATION.keyring.get(key_id) or FederationKey.objects.filter(key_id=key_id).exists()
    if taken or rows.filter(public_key=public_key).exists() or _is_ours(public_key):
        raise _key_exists()
    living = rows.filter(Q(not_after=None) | Q(not_after__gt=clock.now()), revoked_at=None)
    if living.count() >= MOST_KEYS:
        raise Problem(409, "too_many_keys", "There are too many keys; retire or revoke some first.")
    return FederationKey.objects.create(
        key_id=key_id, source=source, public_key=public_key, scope=scope, created_at=clock.now(), **more
    )


def _is_ours(public_key: str) -> bool:
    """A key of the environment, or the one that we answer with, under another name."""
    snapshot = read_snapshot()
    known = [key for key in snapshot.keyring if key.algorithm == "ed25519"]
    if snapshot.response_key is not None:
        known.append(snapshot.response_key)
    return any(public_text(key) == public_key for key in known)


def _end(key_id: str, *, not_after: datetime | None, revoked_at: datetime | None) -> FederationKey:
    with transaction.atomic():
        row = _locked(key_id)
        if row is None:
            if settings.FEDERATION.keyring.get(key_id) is None:
                raise not_found("key")
            row = FederationKey(key_id=key_id, source=KeySource.ENVIRONMENT, created_at=clock.now())
        row.revoked_at = row.revoked_at or revoked_at
        if not_after is not None:
            if row.is_unconfirmed:  # no call by it is under way, and confirming it would bring it back
                row.revoked_at = row.revoked_at or clock.now()
            row.not_after = min(not_after, row.not_after or not_after)
        row.save()
    return row


def _check_stays(by: Principal) -> None:
    """A key that is on its way out lets no other in, and ends none: it could outlive its retirement by that."""
    row = FederationKey.objects.filter(key_id=by.key_id).first()
    if row is not None and row.is_retiring:
        raise Problem(
            409, "key_retiring", "A key that is being retired changes no keys; sign with its successor."
        )


def _locked(key_id: str) -> FederationKey | None:
    return FederationKey.objects.select_for_update().filter(key_id=key_id).first()


def _check_scope(asked: str, ceiling: str) -> None:
    if asked == "provider" and ceiling != "provider":
        raise Problem(403, "scope_not_allowed", "A new key reaches no further than what it came by.")


def _key_exists() -> Problem:
    return Problem(
        409, "key_exists", "This key id, or this public key, is known here already; make a new pair."
    )
