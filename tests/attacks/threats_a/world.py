"""A v2 instance on uvicorn whose clock, keys and memory a test owns, and requests that no good signer makes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn
from tests.attacks.servers.keys import ED25519, HMAC, HOST, LEGACY, MOVED, MOVES, NOW, READER, RESPONSE
from tests.attacks.servers.wire import Answer, raw, signed
from tests.attacks.servers.wire import Served as Wire
from tools.vector_making import federated, header_of, names_of, plus_headers, sealed, with_header

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.gate import FailureCounter
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryRatchet,
    MemoryReplayStore,
    Policy,
    Request,
)

BODY = b'{"amount": 1}'
POLICY = Policy(
    instance="acme",
    authorities=(HOST,),
    accept=("sha256", "hmac-sha256", "ed25519"),
    org="org-1",
    max_body=100_000,
)
KEYS = (HMAC, ED25519, READER, LEGACY, MOVED, MOVES)

__all__ = [
    "BODY", "ED25519", "HMAC", "HOST", "KEYS", "LEGACY", "MOVED", "MOVES", "NOW", "POLICY", "READER", "RESPONSE",
    "Answer", "Instance", "Keys", "Memory", "bare", "federated", "header_of", "made", "names_of", "plus_headers", "raw",
    "running", "sealed", "signed", "with_header",
]  # fmt: skip


@dataclass
class Echo:
    """Answers with what it saw, and remembers it."""

    seen: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        principal = scope["provider_federation"]
        facts = {
            "method": scope["method"],
            "path": scope["path"],
            "body": body.decode("latin-1"),
            "cookie": dict(scope["headers"]).get(b"cookie", b"").decode(),
            "key": principal and principal.key_id,
            "scope": principal and principal.scope,
        }
        self.seen.append(facts)
        content = json.dumps(facts).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Memory:
    """Replay store and ratchet in one, emptied between tests."""

    blocking = False

    def __init__(self, capacity: int = 100_000) -> None:
        self.capacity = capacity
        self.forget()

    def forget(self) -> None:
        self.store, self.ratchet = MemoryReplayStore(self.capacity), MemoryRatchet()

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        return self.store.remember(key_id, token, expires, now)

    def is_set(self, pair: str) -> bool:
        return self.ratchet.is_set(pair)

    def set(self, pair: str, now: float) -> None:
        self.ratchet.set(pair, now)


class Keys(Keyring):
    """A keyring that changes while the server runs, as one in a database does."""

    def __init__(self, *keys: Key) -> None:
        super().__init__()
        self.live = {key.id: key for key in keys}

    def get(self, key_id: str) -> Key | None:
        return self.live.get(key_id)


@dataclass
class Instance:
    """A running one. `refused` are the exact codes of the audit log, `seen` what reached the app."""

    port: int
    app: Echo
    audit: list[tuple[str, dict[str, Any]]]
    memory: Memory
    keys: Keys
    now: list[float] = field(default_factory=lambda: [NOW])

    def send(self, data: bytes, then: bytes = b"") -> Answer:
        return Wire("uvicorn", "echo", self.port).send(data, then)

    def call(self, request: Request, *extra: str, **options: Any) -> Answer:
        return self.send(raw(_with_host(request), *extra, **options))

    def refuses(
        self, request: Request, code: str, status: int, *extra: str, told: str | None = None
    ) -> Answer:
        """`request` is answered like that, nothing of it reaches the app, and the log has the exact code."""
        reached = len(self.app.seen)
        answer = self.call(request, *extra)
        assert answer.outcome == (status, told or code)
        assert answer.json["ok"] is False
        assert answer.json["error"]
        assert len(self.app.seen) == reached
        assert self.audit[-1][0] == code
        return answer

    def accepts(self, request: Request, *extra: str) -> dict[str, Any]:
        """What the app saw of it."""
        answer = self.call(request, *extra)
        assert answer.status == 200, answer.json
        return answer.json

    def reset(self) -> None:
        self.memory.forget()
        self.now[0] = NOW
        self.app.seen.clear()
        self.audit.clear()
        self.keys.live = {key.id: key for key in KEYS}


def _with_host(request: Request) -> Request:
    if any(name.lower() == "host" for name, _ in request.headers):
        return request
    return replace(request, headers=[("Host", request.authority), *request.headers])


@contextmanager
def running(http: str = "httptools", root_path: str = "", **options: Any) -> Iterator[Instance]:
    """uvicorn with that HTTP parser on a free port, in a thread; `options` are keywords of the middleware."""
    app, audit, memory, keys, now = Echo(), [], Memory(), Keys(*KEYS), [NOW]
    chosen = {
        "keyring": keys, "policy": POLICY, "replay": memory, "response_key": RESPONSE, "now": lambda: now[0],
        "failures": FailureCounter(limit=100_000),
        "on_refused": lambda code, facts: audit.append((code, dict(facts))),
    } | options  # fmt: skip
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        FederationMiddleware(app, **chosen),
        http=http,
        root_path=root_path,
        lifespan="off",
        log_level="critical",
        loop="asyncio",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    try:
        yield Instance(listener.getsockname()[1], app, audit, memory, keys, now)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def bare(method: str = "GET", target: str = "/a", body: bytes = b"", *headers: tuple[str, str]) -> Request:
    """Before it is signed."""
    content = [("Content-Type", "application/json")] if body else []
    return Request(method, target, HOST, [*content, *headers], body)


def made(request: Request | None = None, key: Key = HMAC, **changed: Any) -> Request:
    """Signed by hand, see `tools.vector_making.sealed`; a write with a body when none is given."""
    return sealed(federated(request or bare("POST", "/a", BODY)), key, **changed)


def at_once(count: int, call: Any) -> list[Any]:
    """`call()` in that many threads that start together; the results."""
    barrier, results = threading.Barrier(count), []

    def one() -> None:
        barrier.wait()
        results.append(call())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
