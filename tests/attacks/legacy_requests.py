"""Legacy requests for the attacks on `verify` itself: good ones, and what it says to the others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from provider_federation.protocol import (
    Key,
    Keyring,
    Policy,
    Principal,
    Refused,
    Request,
    sign,
    verify,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC).timestamp()
KEY = Key("key-1", "sha256", b"a secret of thirty-two bytes ...")
POLICY = Policy(accept=("sha256", "hmac-sha256", "ed25519"))


def signed(
    method: str = "GET",
    target: str = "/api/billing/list?limit=5",
    *,
    key: Key = KEY,
    now: float = NOW,
    scope: str | None = None,
    org: str | None = None,
    body: bytes = b"",
    **replaced: str | None,
) -> Request:
    """A good request; `replaced` exchanges headers by name (`timestamp=…`), None leaves one out."""
    headers = dict(
        sign(Request(method, target, "acme.example", [], body), key, now=now, scope=scope, org=org)
    )
    for name, value in replaced.items():
        full = "X-Provider-" + {"keyid": "KeyId"}.get(name, name.title())
        headers.pop(full, None)
        if value is not None:
            headers[full] = value
    return Request(method, target, "acme.example", list(headers.items()), body)


def plus(request: Request, *headers: tuple[str, str]) -> Request:
    return Request(
        request.method, request.target, request.authority, [*request.headers, *headers], request.body
    )


def verified(
    request: Request, *keys: Key, policy: Policy = POLICY, now: float = NOW, replay=None
) -> Principal:
    return verify(request, Keyring(keys or (KEY,)), policy, now=now, replay=replay)


def refusal_of(
    request: Request, *keys: Key, policy: Policy = POLICY, now: float = NOW, replay=None
) -> Refused:
    with pytest.raises(Refused) as caught:
        verified(request, *keys, policy=policy, now=now, replay=replay)
    return caught.value


def code_of(request: Request, *keys: Key, **options) -> tuple[str, int]:
    refused = refusal_of(request, *keys, **options)
    return refused.code, refused.status
