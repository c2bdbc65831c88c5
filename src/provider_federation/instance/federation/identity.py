"""What this instance signs its answers with: the environment's response key, or one that it made itself."""

from __future__ import annotations

import base64
import hashlib

from django.conf import settings
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from provider_federation.instance.federation.models import ResponseKey
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import new_seed

_log = get_logger("federation")


def response_key() -> Key | None:
    """The key in force; None while the environment gives none and nobody has enrolled yet."""
    told: Key | None = settings.FEDERATION.response_key
    if told is not None:
        return told
    row = ResponseKey.objects.filter(pk=1).first()
    return None if row is None else _open(row)


def ensure_response_key() -> Key:
    """The same, made now when there is none: an enrolment has to hand out an identity.

    Call it in a transaction that holds a lock, so that two do not make one each.
    """
    key = response_key()
    if key is None:
        key = Key(f"{settings.INSTANCE_NAME}-answers", "ed25519", secret=new_seed())
        made = {"key_id": key.id, "sealed": _seal(key.secret), "created_at": clock.now()}
        ResponseKey.objects.update_or_create(pk=1, defaults=made)
    return key


def _open(row: ResponseKey) -> Key | None:
    """None when INSTANCE_SECRET_KEY is another than the one it was sealed with: then no answer is signed, and the
    portal believes none, until the next enrolment makes and hands over a new one.
    """
    try:
        seed = _box().decrypt(base64.b64decode(row.sealed))
    except CryptoError:
        _log.error("the response key was sealed with another INSTANCE_SECRET_KEY; pair with the portal anew")
        return None
    return Key(row.key_id, "ed25519", secret=seed)


def _seal(seed: bytes) -> str:
    return base64.b64encode(_box().encrypt(seed)).decode()


def _box() -> SecretBox:
    """A key of its own from the instance's secret, so that a copy of the database alone signs nothing."""
    material = f"provider-federation response key\n{settings.SECRET_KEY}".encode()
    return SecretBox(hashlib.sha256(material).digest())
