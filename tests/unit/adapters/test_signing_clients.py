"""One contract for every signing adapter, over a real socket: what goes out is signed, what comes back is verified."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import yarl
from tests.unit.adapters.signing_app import ANSWERS, LEGACY, PORTAL, SHARED, SignedApp, signed_app

from provider_federation.adapters.aiohttp import FederationMiddleware
from provider_federation.adapters.httpx import AsyncFederationTransport, FederationTransport
from provider_federation.adapters.requests import FederationAdapter
from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.kit import clock
from provider_federation.protocol import Key


@dataclass
class Answer:
    status: int
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


Send = Callable[..., Answer]


def by_httpx(signer: Signer, method: str, url: str, body: bytes, headers: dict) -> Answer:
    with httpx.Client(transport=FederationTransport(signer), follow_redirects=True) as client:
        answer = client.request(method, url, content=body or None, headers=headers)
        return Answer(answer.status_code, answer.content)


def by_async_httpx(signer: Signer, method: str, url: str, body: bytes, headers: dict) -> Answer:
    async def run() -> Answer:
        async with httpx.AsyncClient(
            transport=AsyncFederationTransport(signer), follow_redirects=True
        ) as client:
            answer = await client.request(method, url, content=body or None, headers=headers)
            return Answer(answer.status_code, answer.content)

    return asyncio.run(run())


def by_requests(signer: Signer, method: str, url: str, body: bytes, headers: dict) -> Answer:
    with requests.Session() as session:
        session.mount("http://", FederationAdapter(signer))
        answer = session.request(method, url, data=body or None, headers=headers, timeout=10)
        return Answer(answer.status_code, answer.content)


def by_aiohttp(signer: Signer, method: str, url: str, body: bytes, headers: dict) -> Answer:
    async def run() -> Answer:
        async with aiohttp.ClientSession(middlewares=(FederationMiddleware(signer),)) as session:
            address = yarl.URL(url, encoded=True)
            async with session.request(method, address, data=body or None, headers=headers) as answer:
                return Answer(answer.status, await answer.read())

    return asyncio.run(run())


@pytest.fixture(scope="module")
def app() -> Iterator[SignedApp]:
    with signed_app() as running:
        yield running


@pytest.fixture(params=[by_httpx, by_async_httpx, by_requests, by_aiohttp])
def send(request, app: SignedApp) -> Send:
    def call(method: str = "GET", target: str = "/here", body: bytes = b"", *, signer: Signer | None = None,
             port: int | None = None, **headers: str) -> Answer:  # fmt: skip
        chosen = signer or Signer(PORTAL, "acme", answers=(ANSWERS,), now=clock.timestamp)
        url = f"http://127.0.0.1:{port or app.port}{target}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request.param(chosen, method, url, body, named)

    return call


def refused(code: str, work: Callable[[], object]) -> AnswerRefused:
    with pytest.raises(AnswerRefused) as caught:
        work()
    assert caught.value.code == code
    return caught.value


def test_a_read_is_proven_and_its_answer_too(send: Send) -> None:
    assert send().data == {"ok": True, "key": "portal-1", "scheme": "v2", "org": None, "length": 0}


@pytest.mark.parametrize(
    "target",
    [
        "/a?x=%2F&y=a+b&z=a%20b",
        "/a?x=1&x=2&b&c=",
        "/%E2%82%AC?q=%e2%82%ac",
        "/a/?x=/?:@!$'()*,;",
        "/a~b-c_d.e?q=~",
    ],
)
def test_the_very_target_that_goes_out_is_signed(app: SignedApp, send: Send, target: str) -> None:
    assert send(target=target).status == 200
    sent = app.seen[-1]["target"]
    assert sent.lower() == target.lower()  # a client may spell escapes its own way before it signs


@pytest.mark.parametrize("body", [b"{}", b'{"a": "\xc3\xa9"}', bytes(range(256)) * 40])
def test_a_body_is_covered_with_its_type_and_its_key(send: Send, body: bytes) -> None:
    answer = send("POST", "/here", body, Content_Type="application/json", Idempotency_Key="key-1")
    assert answer.data["length"] == len(body)
    assert send("POST", "/here", body).status == 200  # without a type of the caller's


def test_each_attempt_has_a_signature_of_its_own(app: SignedApp, send: Send) -> None:
    before = len(app.seen)
    for _ in range(3):
        assert send("POST", "/here", b"{}").status == 200
    assert len({seen["signature"] for seen in app.seen[before:]}) == 3


def test_131_the_librarys_own_retry_is_signed_afresh_or_not_made(app: SignedApp, send: Send) -> None:
    """A proxy in front loses the first connection after it has read the request."""
    with losing_proxy(app.port) as (port, first):
        try:
            assert send(port=port).status == 200
        except (httpx.HTTPError, requests.RequestException, aiohttp.ClientError):
            return
    assert first[0] not in app.seen[-1]["signature"]


def test_the_org_is_covered(send: Send) -> None:
    signer = Signer(PORTAL, "acme", org="org-1", answers=(ANSWERS,), now=clock.timestamp)
    assert send(signer=signer).data["org"] == "org-1"


def test_a_shared_key_is_answered_by_the_instances_own_or_by_itself(send: Send) -> None:
    signer = Signer(SHARED, "acme", answers=(ANSWERS,), now=clock.timestamp)
    assert send(signer=signer).data["key"] == "portal-2"


def test_a_legacy_key_signs_legacy_and_expects_no_signature(send: Send) -> None:
    fresh = Key(LEGACY.id, LEGACY.algorithm, secret=LEGACY.secret)
    with signed_app() as untouched:  # no pair has spoken v2 there
        answer = send(signer=Signer(fresh, "acme", now=clock.timestamp), port=untouched.port)
    assert answer.data["scheme"] == "legacy"


def test_an_unsigned_answer_is_none(send: Send) -> None:
    assert refused("unsigned_answer", lambda: send(target="/unsigned")).status == 200


def test_an_unproven_refusal_is_unsigned_and_so_none(send: Send) -> None:
    stranger = Signer(
        Key("nobody", "ed25519", secret=bytes(range(32))), "acme", answers=(ANSWERS,), now=clock.timestamp
    )
    assert refused("unsigned_answer", lambda: send(signer=stranger)).status == 401


@pytest.mark.parametrize("target", ["/changed", "/replayed"])
def test_a_changed_or_borrowed_answer_is_none(send: Send, target: str) -> None:
    send()
    refused("wrongly_bound_answer", lambda: send(target=target))


def test_an_answer_by_a_key_that_is_not_named_is_none(send: Send) -> None:
    for answers in ((), (Key(ANSWERS.id, "ed25519", secret=bytes(range(90, 122))),)):
        signer = Signer(PORTAL, "acme", answers=answers, now=clock.timestamp)
        refused("wrongly_bound_answer", lambda signer=signer: send(signer=signer))


def test_a_signed_refusal_is_an_answer(send: Send) -> None:
    late = Signer(PORTAL, "acme", answers=(ANSWERS,), now=lambda: clock.timestamp() - 900)
    answer = send(signer=late)
    assert (answer.status, answer.data["reason"]) == (401, "timestamp_out_of_window")


def test_122_no_redirect_is_followed_and_nothing_signed_sent_again(app: SignedApp, send: Send) -> None:
    before = len(app.seen)
    assert refused("redirect_refused", lambda: send(target="/elsewhere")).status == 307
    assert len(app.seen) == before + 1


class losing_proxy:  # noqa: N801  a context manager
    """Reads one request and hangs up; the next ones it hands through. Yields its port and the lost signature."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lost: list[str] = []

    def __enter__(self) -> tuple[int, list[str]]:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self._listener.getsockname()[1], self._lost

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                head = client.recv(65_536)
                if not self._lost:
                    lines = head.decode("latin-1").split("\r\n")
                    self._lost.extend(
                        line.partition(": ")[2] for line in lines if line.lower().startswith("signature:")
                    )
                    continue
                # The gate looks at the authority that was signed, which is ours here.
                with socket.create_connection(("127.0.0.1", self._port)) as server:
                    server.sendall(head)
                    client.sendall(server.recv(65_536))
