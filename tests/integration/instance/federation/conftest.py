"""A portal as the instance meets it: key pairs, and clients that sign with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.integration.instance.federation.portal_rig import offer, pair

from provider_federation.adapters.httpx import FederationTransport
from provider_federation.adapters.signing import Signer
from provider_federation.kit import clock
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import code_key, read_public

Dial = Callable[..., httpx.Client]


@pytest.fixture
def dial(server) -> Iterator[Dial]:
    """A client that signs with a key and takes answers by these keys only."""
    clients: list[httpx.Client] = []

    def make(key: Key, *answers: Key, instance: str = "acme", scope: str | None = "provider") -> httpx.Client:
        signer = Signer(key, instance=instance, scope=scope, answers=answers, now=clock.timestamp)
        client = httpx.Client(base_url=server.url, transport=FederationTransport(signer), timeout=30)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def enrolled(dial):
    """`(key, answers)`: a portal that came by a code just now."""
    from provider_federation.instance.federation.services import open_enrolment

    def enrol(key: Key | None = None, scope: str = "provider") -> tuple[Key, Key]:
        key = key or pair()
        _, code = open_enrolment(scope=scope)
        answer = dial(code_key(code)).post("/api/federation/enrol", json=offer(key, scope))
        assert answer.status_code == 200, answer.text
        told = answer.json()["responseKey"]
        return key, Key(told["id"], "ed25519", public_key=read_public(told["publicKey"]))

    return enrol
