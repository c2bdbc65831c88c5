"""Keys as a portal makes and offers them."""

from __future__ import annotations

from provider_federation.protocol import Key
from provider_federation.protocol.pairing import new_seed, public_text


def pair(key_id: str = "portal-1", **more) -> Key:
    return Key(key_id, "ed25519", secret=new_seed(), **more)


def offer(key: Key, scope: str = "provider") -> dict:
    return {"key": {"id": key.id, "algorithm": "ed25519", "publicKey": public_text(key), "scope": scope}}
