"""A small verified app behind a layer that does to its answers what a test asks for."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy

PORTAL = Key("portal-1", "ed25519", secret=bytes(range(7, 39)))
SHARED = Key("portal-2", "hmac-sha256", secret=b"Zr5mT8xL0qW4nB7yKd2J")
LEGACY = Key("portal-3", "sha256", secret=b"Hn4sV9qT2wL6yB8dK1fR")
ANSWERS = Key("acme-answers", "ed25519", secret=bytes(range(50, 82)))


@dataclass
class SignedApp:
    """`seen` are the raw targets with method, nonce and body, as they came over the socket."""

    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __post_init__(self) -> None:
        self._gate = FederationMiddleware(
            _app,
            keyring=Keyring([PORTAL, SHARED, LEGACY]),
            policy=Policy(instance="acme", accept=("ed25519", "hmac-sha256", "sha256")),
            replay=MemoryReplayStore(),
            response_key=ANSWERS,
            now=clock.timestamp,
        )
        self._last: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.seen.append({
            "method": scope["method"],
            "target": target.decode(),
            "signature": headers.get(b"signature", b"").decode(),
            "names": [name for name, _ in scope["headers"]],
        })  # fmt: skip
        await self._gate(scope, receive, self._wrap(scope["path"], send))

    def _wrap(self, path: str, send: Any) -> Any:
        async def changed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._headers(path, list(message["headers"]))}
            elif path == "/changed":
                message = {**message, "body": message["body"].replace(b"true", b"True")}
            await send(message)

        return changed

    def _headers(self, path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ours = {b"signature", b"signature-input", b"content-digest"}
        bare = [pair for pair in headers if pair[0].lower() not in ours]
        if path == "/unsigned":
            return bare
        if path == "/replayed" and self._last:
            return bare + self._last
        self._last = [pair for pair in headers if pair[0].lower() in ours]
        return headers


async def _app(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    principal = scope["provider_federation"]
    status = 307 if scope["path"] == "/elsewhere" else 200
    told = {"ok": True, "key": principal and principal.key_id, "scheme": principal and principal.scheme,
            "org": principal and principal.org, "length": len(body)}  # fmt: skip
    headers = [(b"content-type", b"application/json"), (b"location", b"/here")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


@contextmanager
def signed_app() -> Iterator[SignedApp]:
    app = SignedApp()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)  # before the server runs, so that nobody is turned away
    app.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
