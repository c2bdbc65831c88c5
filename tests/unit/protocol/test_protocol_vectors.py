"""Every vector of vectors/legacy.json, signed and verified; and what the hash means, written down a second time."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Refused,
    Request,
    sign,
    verify,
)

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "legacy.json").read_text())["cases"]
POLICY = Policy(accept=("h31", "sha256"), development=True)


def _bare(case: dict[str, str]) -> Request:
    return Request(case["method"], case["target"], "acme.example", [], b"", peer="127.0.0.1")


def _signed(case: dict[str, str], algorithm: str) -> Request:
    headers = [
        ("x-provider-keyid", "key-1"),
        ("x-provider-timestamp", case["timestamp"]),
        ("x-provider-signature", case[algorithm]),
    ]
    return Request(case["method"], case["target"], "acme.example", headers, b"", peer="127.0.0.1")


def _instant(case: dict[str, str]) -> float:
    return datetime.fromisoformat(case["timestamp"]).timestamp()


def test_there_are_vectors():
    assert len(VECTORS) >= 9


@pytest.mark.parametrize("algorithm", ["h31", "sha256"])
@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector_is_signed_and_verified(case, algorithm):
    key = Key("key-1", algorithm, case["secret"].encode())
    headers = dict(sign(_bare(case), key, now=_instant(case)))
    assert headers["X-Provider-Timestamp"] == case["timestamp"]
    assert headers["X-Provider-Signature"] == case[algorithm]
    principal = verify(
        _signed(case, algorithm), Keyring([key]), POLICY, now=_instant(case), replay=MemoryReplayStore()
    )
    assert (principal.key_id, principal.scope, principal.algorithm) == ("key-1", "provider", algorithm)


@pytest.mark.parametrize("algorithm", ["h31", "sha256"])
@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector_with_another_secret_is_refused(case, algorithm):
    key = Key("key-1", algorithm, case["secret"].encode() + b"!")
    with pytest.raises(Refused, match="bad_signature"):
        verify(_signed(case, algorithm), Keyring([key]), POLICY, now=_instant(case))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_h31_is_what_the_vectors_say_it_is(case):
    value = 0
    for byte in (case["payload"] + case["secret"]).encode():
        value = (value * 31 + byte) % 2**32
    assert case["h31"] == f"h31:{value:x}"
