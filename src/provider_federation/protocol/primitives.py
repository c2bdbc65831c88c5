"""The computations that keys stand for, over bytes alone: HMAC-SHA256, Ed25519 (by PyNaCl), and h31."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NoReturn

from provider_federation.protocol.refusals import Refused

_BLOCK = 64
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))
_SIGNATURE_BYTES = 64
_32_BITS = 0xFFFFFFFF


def hmac_sha256(secret: bytes) -> Callable[[bytes], hashlib._Hash]:
    """HMAC-SHA256 (RFC 2104) by this secret, from states made once: twice as fast as from the start each time."""
    block = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    copy_inner = hashlib.sha256(block.translate(_INNER)).copy
    copy_outer = hashlib.sha256(block.translate(_OUTER)).copy

    def mac(message: bytes) -> hashlib._Hash:
        inner, outer = copy_inner(), copy_outer()
        inner.update(message)
        outer.update(inner.digest())
        return outer

    return mac


def no_mac(_message: bytes) -> NoReturn:
    """Of a key for another algorithm: nobody asks for it."""
    raise Refused("internal_error")


def h31(secret: bytes) -> Callable[[bytes], int]:
    """h31 by this secret. Per byte of message then secret: h = h * 31 + byte, 32 bits.

    So h(message + secret) = h(message) * 31^len(secret) + h(secret), and the secret need not be rolled again.
    """
    factor, rest = pow(31, len(secret), _32_BITS + 1), _roll(secret)
    return lambda message: (_roll(message) * factor + rest) & _32_BITS


def _roll(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value * 31 + byte) & _32_BITS
    return value


def ed25519_pair(seed: bytes) -> tuple[bytes, bytes]:
    """Public key (32 bytes) and what signs (64 bytes) of a seed."""
    public, secret = _sodium().crypto_sign_seed_keypair(seed)
    return public, secret


def ed25519_sign(secret: bytes, message: bytes) -> bytes:
    """The signature, 64 bytes, by the second half of `ed25519_pair`."""
    signed: bytes = _sodium().crypto_sign(message, secret)
    return signed[:_SIGNATURE_BYTES]


def is_good_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium takes it: S below the order, R not of low order (RFC 8032, section 5.1.7)."""
    if len(signature) != _SIGNATURE_BYTES:
        return False
    sodium = _sodium()
    try:
        sodium.crypto_sign_open(signature + message, public)
    except Exception:  # noqa: BLE001  whatever libsodium has against it, it is not good
        return False
    return True


@cache
def _sodium() -> ModuleType:
    try:
        from nacl import bindings
    except ImportError as error:  # the extra `ed25519`; a configuration with such a key does not start
        raise Refused("internal_error") from error
    return bindings
