"""Who may sign, as the database and the environment say now: read anew for each federated request.

One small query per request buys that a revocation in any process holds in all of them with the next request. The
gate itself then works on values in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.conf import settings

from provider_federation.instance.federation.identity import response_key
from provider_federation.instance.federation.models import FederationKey, Invitation, KeySource
from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, Refused
from provider_federation.protocol.pairing import invitation_key, read_public
from provider_federation.protocol.values import IDENTIFIER

PAIR = ""  # an instance has one portal
_INVITATIONS_KNOWN = timedelta(days=1)


@dataclass(frozen=True)
class Snapshot:
    """What was true when it was read. `codes` are the keys of the day's invitations, by id."""

    keyring: Keyring = field(default_factory=Keyring)
    codes: dict[str, Key] = field(default_factory=dict)
    response_key: Key | None = None


def read_snapshot() -> Snapshot:
    """From the settings and the database."""
    rows = {row.key_id: row for row in FederationKey.objects.all()}
    keys = [_with_row(key, rows.get(key.id)) for key in settings.FEDERATION.keyring]
    known = {key.id for key in keys}
    added = (row for row in rows.values() if row.source != KeySource.ENVIRONMENT and row.key_id not in known)
    # Those that are closed by now too: who holds one's code may learn, signed, that it is.
    invitations = Invitation.objects.filter(created_at__gt=clock.now() - _INVITATIONS_KNOWN)
    codes = (invitation_key(row.name, bytes.fromhex(row.digest)) for row in invitations)
    return Snapshot(
        Keyring([*keys, *map(key_of, added)]),
        {key.id: key for key in codes},
        response_key(),
    )


def key_of(row: FederationKey) -> Key:
    """The key of a row that has its material in the database."""
    return Key(
        row.key_id,
        "ed25519",
        public_key=read_public(row.public_key),
        scope=row.scope,
        not_after=_seconds(row.not_after),
        instance=settings.INSTANCE_NAME,
        revoked=row.revoked_at is not None,
        pair=PAIR,
    )


class LiveKeyring(Keyring):
    """A Keyring that shows the last snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot()

    def get(self, key_id: str) -> Key | None:
        return self.snapshot.keyring.get(key_id)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.snapshot.keyring)

    def __len__(self) -> int:
        return len(self.snapshot.keyring)


class InvitationKeyring(Keyring):
    """The keys of invitations, for the enrolment route alone; whoever names another finds it closed."""

    def __init__(self, live: LiveKeyring) -> None:
        super().__init__()
        self._live = live

    def get(self, key_id: str) -> Key | None:
        key = self._live.snapshot.codes.get(key_id)
        if key is None and IDENTIFIER.fullmatch(key_id):
            raise Refused("enrolment_closed", key_id=key_id)
        return key


def _with_row(key: Key, row: FederationKey | None) -> Key:
    """A key of the environment, as far as the owner or a rotation has ended it since."""
    if row is None:
        return key
    ends = [moment for moment in (key.not_after, _seconds(row.not_after)) if moment is not None]
    return replace(
        key, revoked=key.revoked or row.revoked_at is not None, not_after=min(ends, default=None), pair=PAIR
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
