"""HMAC-SHA256 and Ed25519 with a key: making a signature, and telling a good one in constant time."""

from __future__ import annotations

import hmac

from provider_federation.protocol import primitives
from provider_federation.protocol.values import Key

# The public key of RFC 8032, section 7.1, TEST 3: a point on the curve, and nobody's here.
_NOBODY_PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
NOBODY = {
    "hmac-sha256": Key("nobody", "hmac-sha256", b"\0" * 32),
    "ed25519": Key("nobody", "ed25519", public_key=_NOBODY_PUBLIC),
}
"""Keys that belong to nobody, to compute with where there is none, so that it takes as long as where there is one."""


def make_signature(key: Key, message: bytes) -> bytes:
    """The raw signature of `message` by a modern key that has its secret."""
    if key.algorithm == "ed25519":
        return primitives.ed25519_sign(key.ed25519[1], message)
    return key.mac(message).digest()


def is_good(key: Key, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `message` by a modern key."""
    if key.algorithm == "ed25519":
        return primitives.is_good_ed25519(key.public_key or key.ed25519[0], message, signature)
    return hmac.compare_digest(key.mac(message).digest(), signature)


def nobody(algorithm: str | None) -> Key:
    """Who is computed with in place of a key that is not known, for the algorithm that was named."""
    return NOBODY["ed25519" if algorithm == "ed25519" else "hmac-sha256"]


def public_key(seed: bytes) -> bytes:
    """The ed25519 public key of a seed, 32 bytes each. Needs PyNaCl."""
    return primitives.ed25519_pair(seed)[0]
