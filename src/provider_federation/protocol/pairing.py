"""Pairing a portal and an instance: key pairs, and the one-time code that their public keys are exchanged under.

A code is `pf-<public half>-<secret half>`. The secret half never travels: both sides make an hmac-sha256 key of it,
and v2 signs the exchange with that, request and answer. So whoever stands between them can swap neither key, and an
instance that keeps only the digest has nothing that could be typed into a portal.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

from provider_federation.protocol.signing import public_key
from provider_federation.protocol.values import ED25519_BYTES, Key

_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # 31 of them: none that is taken for another
_NAME, _SECRET = 8, 32  # 4.95 bits a letter: the first finds the row, the second (158 bits) nobody guesses
_CODE = re.compile(rf"pf-([{_LETTERS}]{{{_NAME}}})-([{_LETTERS}]{{{_SECRET}}})")
_PREFIX = "enrol-"


def new_code() -> str:
    """A code for one pairing."""
    halves = ("".join(secrets.choice(_LETTERS) for _ in range(count)) for count in (_NAME, _SECRET))
    return "-".join(("pf", *halves))


def code_key(code: str) -> Key:
    """The key that both sides sign the exchange with. ValueError when this is no code."""
    match = _CODE.fullmatch(code.strip().lower())
    if match is None:
        raise ValueError("an enrolment code looks like pf-xxxxxxxx-xxxx…")
    name, secret = match.groups()
    digest = hashlib.sha256(f"provider-federation-v2-enrolment\n{name}\n{secret}".encode()).digest()
    return invitation_key(name, digest)


def invitation_key(name: str, digest: bytes, *, not_after: float | None = None) -> Key:
    """The same key from what an instance kept: the code's public half and the digest of the secret one."""
    return Key(_PREFIX + name, "hmac-sha256", secret=digest, not_after=not_after)


def invitation_name(key_id: str) -> str:
    """The public half of the code that a key of `code_key` belongs to; empty when it is another key's id."""
    return key_id.removeprefix(_PREFIX) if key_id.startswith(_PREFIX) else ""


def new_seed() -> bytes:
    """The secret of a new ed25519 pair."""
    return secrets.token_bytes(ED25519_BYTES)


def public_text(key: Key) -> str:
    """The public half of an ed25519 key in base64, as configurations and the wire write it."""
    return base64.b64encode(key.public_key or public_key(key.secret)).decode()


def read_public(text: str) -> bytes:
    """32 bytes from base64. ValueError for anything else, low-order points included: those sign everything."""
    raw = base64.b64decode(text, validate=True)
    return Key("-", "ed25519", public_key=raw).public_key
