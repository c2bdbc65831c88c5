"""Secrets at rest: AES-256-GCM, bound to the row they belong to.

The master keys come from the environment as `id:base64` pairs; the first seals, all of them open, so that
a new one can
be put in front and the old one removed after a re-seal. The associated data names the row: a sealed value
copied into
another row does not open. Format: `v1.<key id>.<base64url nonce+ciphertext>`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provider_federation.kit.env import ConfigInvalid

_KEY_BYTES = 32
_NONCE_BYTES = 12


class CannotOpen(Exception):
    """The sealed value is damaged, belongs to another row, or its master key is gone."""


class SecretBox:
    """Seals and opens small secrets. `keys` maps key id to 32 bytes; the first is used for sealing."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("a secret box needs at least one master key")
        self._ciphers = {key_id: AESGCM(material) for key_id, material in keys.items()}
        self._current = next(iter(keys))

    def seal(self, plaintext: bytes, row: str) -> str:
        """`row` is the associated data, for instance `directory.InstanceKey:<uuid>`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, plaintext, row.encode())
        return f"v1.{self._current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def reseal(self, sealed: str, row: str) -> str:
        """The same secret under the current master key: `sealed` itself when it is already. CannotOpen as below."""
        plaintext = self.open(sealed, row)
        return sealed if sealed.split(".")[1] == self._current else self.seal(plaintext, row)

    def open(self, sealed: str, row: str) -> bytes:
        try:
            version, key_id, payload = sealed.split(".")
            raw = base64.urlsafe_b64decode(payload)
            if version != "v1":
                raise CannotOpen("unknown format")
            return self._ciphers[key_id].decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], row.encode())
        except (ValueError, KeyError, binascii.Error, InvalidTag):
            raise CannotOpen("this secret cannot be opened with the master keys at hand") from None


def parse_master_keys(variable: str, value: str) -> dict[str, bytes]:
    """`id:base64[,id:base64…]` to key id and 32 bytes each; ConfigInvalid otherwise."""
    keys: dict[str, bytes] = {}
    for part in filter(None, (item.strip() for item in value.split(","))):
        key_id, _, encoded = part.partition(":")
        try:
            material = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            material = b""
        if not key_id.isalnum() or len(material) != _KEY_BYTES or key_id in keys:
            raise ConfigInvalid(variable, "must be id:base64 pairs of 32 bytes each, separated by commas")
        if len(set(material)) < 8:
            raise ConfigInvalid(variable, "holds a placeholder, not a random key", "config_weak_secret")
        keys[key_id] = material
    if not keys:
        raise ConfigInvalid(variable, "is empty; make one with `provider-federation portal new-master-key`")
    return keys
