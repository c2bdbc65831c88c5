"""A small instance for the directory's tests: only the status route, but with the real protocol behind it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy, Refused, Request, verify

SECRET = "Vq3mT8xL0rW5nB2yKd7J"


@dataclass
class Remote:
    """`mode` etc. are what it says; `secret` what it knows; `shift` how far its clock is off, in seconds."""

    port: int = 0
    name: str = "acme"
    org: str = "org-acme"
    secret: str = SECRET
    algorithm: str = "sha256"
    enabled: bool = True
    ignores_signatures: bool = False
    shift: float = 0.0
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, request: Request) -> tuple[int, dict]:
        base = {"ok": True, "enabled": self.enabled, "mode": self.algorithm if self.enabled else "off"}
        signed = any(name.lower() == "x-provider-signature" for name, _ in request.headers)
        if not signed or self.ignores_signatures:
            return 200, base
        now = clock.timestamp() + self.shift
        policy = Policy(accept=(self.algorithm,), development=True)
        keyring = Keyring([Key("key-1", self.algorithm, secret=self.secret.encode())])
        try:
            verify(request, keyring, policy, now=now, replay=MemoryReplayStore())
        except Refused as refused:
            return refused.status, {"ok": False, "error": "No.", "reason": refused.code}
        from datetime import UTC, datetime

        time = datetime.fromtimestamp(now, UTC).isoformat()
        return 200, {
            **base,
            "instance": self.name,
            "org": self.org,
            "version": "9.9",
            "capabilities": ["billing", "usage"],
            "serverTime": time,
        }


@contextlib.contextmanager
def remote(**options) -> Iterator[Remote]:
    state = Remote(**options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.seen.append(self.path)
            headers = list(self.headers.items())
            status, body = state.answer(
                Request("GET", self.path, self.headers["Host"], headers, b"", peer="127.0.0.1")
            )
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002  the signature is the library's
            return super().date_time_string(clock.timestamp() + state.shift)

        def log_message(self, *_arguments: object) -> None:
            """Nothing on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
