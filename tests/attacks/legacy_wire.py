"""A tiny app behind the ASGI middleware on real servers, and a client that sends exactly the bytes it is told."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy, Request, sign

NOW = 1_790_000_000.0
KEY = Key("key-1", "sha256", b"a secret of thirty-two bytes ...")
READER = Key("reader", "sha256", b"the secret of one who only reads", scope="read")


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


@dataclass
class Served:
    port: int
    app: Echo
    audit: list[tuple[str, dict[str, Any]]]

    def send(self, raw: bytes, *, then: bytes = b"") -> tuple[int, dict[str, Any], bytes]:
        """Status, JSON body and everything that came, of the last answer on this connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(raw)
            if then:
                connection.sendall(then)
            received = _read_answer(connection)
        status, _, rest = received.partition(b"\r\n")
        content = rest.partition(b"\r\n\r\n")[2]
        try:
            body = json.loads(content)
        except ValueError:
            body = {}
        return int(status.split()[1]), body, received

    def call(self, method: str = "GET", target: str = "/a", *, key: Key = KEY, extra: bytes = b"", body: bytes = b"",
             signed_target: str | None = None, host: bytes = b"Host: acme.example\r\n") -> tuple[int, dict[str, Any]]:  # fmt: skip
        lines = signature(method, signed_target or target, key=key)
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        raw = (
            f"{method} {target} HTTP/1.1\r\n".encode()
            + host
            + lines
            + length
            + extra
            + b"Connection: close\r\n\r\n"
        )
        status, answer, _ = self.send(raw + body)
        return status, answer


def _read_answer(connection: socket.socket) -> bytes:
    """One answer, by its Content-Length, or until the server closes."""
    received = b""
    while True:
        head, separator, content = received.partition(b"\r\n\r\n")
        if separator and not head.startswith(b"HTTP/1.1 100"):
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                None,
            )
            if length is not None and len(content) >= length:
                return received
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return received
        received += more


def signature(
    method: str, target: str, *, key: Key = KEY, scope: str | None = None, org: str | None = None
) -> bytes:
    """The header lines of a good signature."""
    headers = sign(Request(method, target, "", [], b""), key, now=NOW, scope=scope, org=org)
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode()


@contextmanager
def serve(http: str = "h11", root_path: str = "", **options: Any) -> Iterator[Served]:
    """uvicorn with that HTTP parser on a free port, in a thread; stopped at the end."""
    app, audit = Echo(), []
    federated = FederationMiddleware(
        app,
        **{
            "keyring": Keyring([KEY, READER]),
            "policy": Policy(accept=("sha256",), max_body=100_000),
            "replay": MemoryReplayStore(),
            "now": lambda: NOW,
            "on_refused": lambda code, facts: audit.append((code, dict(facts))),
        }
        | options,
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        federated, http=http, root_path=root_path, lifespan="off", log_level="critical", loop="asyncio"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    try:
        yield Served(listener.getsockname()[1], app, audit)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
