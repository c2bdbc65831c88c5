"""Secrets and public keys as a configuration writes them, and which of them no deployment may use."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TypedDict

from provider_federation.protocol.values import ED25519_BYTES, Key

_FEWEST_BYTES = 16
_FEWEST_DIFFERENT = 6

_GUESSABLE = re.compile(
    rb"supersecret|change.?me|example|placeholder|your.?(?:own.?)?(?:secret|key)|my.?secret|password|passw0rd"
    rb"|test.?(?:secret|key)|secret.?key|0123456789|abcdefgh|qwertz|qwerty|correct.?horse",
    re.IGNORECASE,
)
_PUBLISHED = frozenset(
    base64.b64decode(material)
    for material in (
        # RFC 9421: test-shared-secret (B.1.5), test-key-ed25519 (B.1.4), public and seed.
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
        "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=",
        "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=",
        # RFC 8032, section 7.1: TEST 1 and TEST 2, public keys and seeds.
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
        "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
        "TM0Imyj/ltqdtsNG7BFOD1uKMZ81araksk7fRu+KzPs=",
    )
)


class Material(TypedDict):
    secret: bytes
    public_key: bytes


def key_material(algorithm: str, fields: Mapping[str, object]) -> Material:
    """The bytes of a key. A shared secret is its UTF-8 text; Ed25519 material 32 bytes in base64(url) or hex.

    Raises ValueError or TypeError.
    """
    secret, public_key = fields.get("secret"), fields.get("public_key")
    read = _ed25519 if algorithm == "ed25519" else _text
    return Material(
        secret=b"" if secret is None else read(secret),
        public_key=b"" if public_key is None else read(public_key),
    )


def is_weak(key: Key) -> bool:
    """Whether the material is short, repetitive, guessable or printed in a standard."""
    if _published(key.secret) or _published(key.public_key):
        return True
    material = key.secret or key.public_key
    if len(material) < _FEWEST_BYTES or len(set(material)) < _FEWEST_DIFFERENT:
        return True
    return key.algorithm != "ed25519" and _GUESSABLE.search(material) is not None


def _published(material: bytes) -> bool:
    """As bytes, or as the text in which the standard prints them."""
    return material in _PUBLISHED or any(base64.b64encode(known) == material for known in _PUBLISHED)


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return value.encode()


def _ed25519(value: object) -> bytes:
    text = _text(value).decode()
    if len(text) == 2 * ED25519_BYTES:
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "=", validate=True)
    except binascii.Error:
        raise ValueError from None
