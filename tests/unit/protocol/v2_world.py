"""Keys, a verifier and signed requests for the tests of v2."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from provider_federation.protocol import (
    Key,
    Keyring,
    Policy,
    Principal,
    Refused,
    Request,
    Response,
    core,
    sign,
    signing,
    verify,
)

NOW = 1_790_000_000.25
SEED = hashlib.sha256(b"a seed").digest()
MAC = Key("mac", "hmac-sha256", b"k" * 32, org="org-1")
PAIR = Key("pair", "ed25519", SEED, signing.public_key(SEED))
PUBLIC = Key("pair", "ed25519", public_key=PAIR.public_key)
OLD = Key("old", "sha256", b"o" * 32, pair="p")
NEW = Key("new", "hmac-sha256", b"n" * 32, pair="p")
RING = Keyring([MAC, PUBLIC, OLD, NEW])
HERE = Policy(instance="acme", authorities=("acme.example",), accept=("sha256", "hmac-sha256", "ed25519"))
ORDER = 2**252 + 27742317777372353535851937790883648493
JSON = [("Content-Type", "application/json")]


def signed(key: Key, body: bytes = b'{"a":1}', sent: list[tuple[str, str]] = JSON, **more: object) -> Request:
    request = Request("POST" if body else "GET", "/a/b?x=1", "acme.example", sent, body)
    options = {"now": NOW, "instance": "acme"} | more
    return replace(request, headers=[*sent, *sign(request, key, **options)])


def with_header(request: Request, name: str, value: str | None) -> Request:
    others = [pair for pair in request.headers if pair[0] != name]
    return replace(request, headers=others if value is None else [*others, (name, value)])


def value_of(request: Request | Response, name: str) -> str:
    return next(value for known, value in request.headers if known == name)


def refusal(request: Request, policy: Policy = HERE, now: float = NOW, **more: object) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(request, RING, policy, now=now, **more)
    return caught.value


def outcome(way, request: Request, policy: Policy, now: float) -> tuple[str, str | None] | Principal:
    try:
        return way(request, policy, now)
    except Refused as refused:
        return refused.code, refused.key_id


def long_way(request: Request, policy: Policy, now: float) -> Principal:
    claim = core.check_head(request, RING, policy, now)
    return core.finish(claim, request.body, policy, now=now, replay=None)


def verified(request: Request, policy: Policy, now: float) -> Principal:
    return verify(request, RING, policy, now=now)
