"""Who signs, when and for whom in the tests of servers and adapters."""

from __future__ import annotations

import json
from pathlib import Path

from nacl.signing import SigningKey

from provider_federation.protocol import Key, Keyring, Policy

NOW = 1_790_000_000.0
HOST = "acme.example"
MAX_BODY = 100_000
MAX_ANSWER = 200_000

_VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "legacy.json").read_text())["cases"]


def ed25519(name: str, seed: bytes, **more: str) -> Key:
    return Key(name, "ed25519", seed, bytes(SigningKey(seed).verify_key), **more)


LEGACY = Key("legacy", "sha256", b"a secret of thirty-two bytes ...", pair="old")
LEGACY_READER = Key("legacy-reader", "sha256", b"the secret of one who only reads", scope="read", pair="old")
HMAC = Key("hmac", "hmac-sha256", b"another secret of 32 bytes, v2 .")
ED25519 = ed25519("ed", b"the seed of the portal, 32 bytes")
READER = ed25519("reader", b"the seed of a portal that reads.", scope="read")
RESPONSE = ed25519("acme-answers", b"the seed of what answers, 32 by.")
MOVED = Key("moved-legacy", "sha256", b"the secret of a pair that moves.", pair="moving")
MOVES = Key("moved", "hmac-sha256", b"and its secret for v2, 32 bytes.", pair="moving")
VECTORS = {
    name: Key(f"vector-{number}", "sha256", name.encode(), pair="old")
    for number, name in enumerate(sorted({case["secret"] for case in _VECTORS}))
}
CASES = _VECTORS

KEYRING = Keyring([LEGACY, LEGACY_READER, HMAC, ED25519, READER, MOVED, MOVES, *VECTORS.values()])
ANSWERS = Keyring([RESPONSE])
POLICY = Policy(instance="acme", accept=("sha256", "hmac-sha256", "ed25519"), max_body=MAX_BODY)
