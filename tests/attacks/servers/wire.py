"""A client that sends exactly the bytes it is told, and reads the answer as a portal would."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from typing import Any

from tests.attacks.servers.keys import ANSWERS, ED25519, HOST, NOW
from tests.unit.protocol.vector_files import request_of

from provider_federation.protocol import Key, Request, Response, sign, verify_response


def signed(
    key: Key,
    method: str = "GET",
    target: str = "/a",
    body: bytes = b"",
    *,
    headers: list[tuple[str, str]] | None = None,
    host: str = HOST,
    now: float = NOW,
    **options: Any,
) -> Request:
    """A request with its signature."""
    request = Request(method, target, host, [("Host", host), *(headers or [])], body)
    added = sign(request, key, now=now, instance="acme", **options)
    return Request(method, target, host, [*request.headers, *added], body)


def raw(request: Request, *extra: str, line: str | None = None, length: bool = True) -> bytes:
    """Its bytes; `line` is another request line, `extra` more header lines."""
    lines = [line or f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if length and request.body:
        lines.append(f"Content-Length: {len(request.body)}")
    lines += [*extra, "Connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (request.body if length else b"")


@dataclass
class Answer:
    """The last answer on a connection."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    received: bytes

    @property
    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def outcome(self) -> tuple[int, str | None]:
        """Status and reason."""
        return self.status, self.json.get("reason")

    def signer(self, request: Request, now: float = NOW) -> str:
        """The id of the key that signed this as the answer to `request`; raises Refused."""
        return verify_response(Response(self.status, self.headers, self.body), request, ANSWERS, now=now).id


@dataclass
class Served:
    """One adapter on one running server."""

    server: str
    app: str
    port: int

    def vector(self, fields: dict[str, Any], *more: list[str]) -> Answer:
        """A request as the vectors write it: Host and Content-Length are what it says elsewhere."""
        request = request_of(fields, *more)
        if not any(name.lower() == "host" for name, _ in request.headers):
            request = replace(request, headers=[("Host", request.authority), *request.headers])
        return self.call(request)

    def send(self, data: bytes, then: bytes = b"") -> Answer:
        """Raw bytes; the first header line is ours, and says which app is meant."""
        line, _, rest = data.partition(b"\r\n")
        data = line + b"\r\nX-Test-App: " + self.app.encode() + b"\r\n" + rest
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            try:
                connection.sendall(data)
                if then:
                    connection.sendall(then)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has answered before we were done
            return _answer(_receive(connection), is_head=data.startswith(b"HEAD "))

    def call(self, request: Request, *extra: str, **options: Any) -> Answer:
        """A request as it is."""
        return self.send(raw(request, *extra, **options))

    def signed(
        self, method: str = "GET", target: str = "/a", body: bytes = b"", key: Key = ED25519, **options: Any
    ) -> Answer:
        """A good request."""
        return self.call(signed(key, method, target, body, **options))

    def control(self, **settings: Any) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        """What the apps saw and what was refused since the last time; the clock goes back to NOW or to `now`."""
        body = json.dumps(settings).encode()
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        told = Served(self.server, "control", self.port).send(head.encode() + body).json
        return told["seen"], told["refused"]


def _receive(connection: socket.socket) -> bytes:
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
            if _is_whole(received):
                break
    except ConnectionResetError:
        pass
    return received


def _is_whole(received: bytes) -> bool:
    """By Content-Length, which spares the wait for a server that lingers."""
    head, separator, content = received.partition(b"\r\n\r\n")
    if not separator or head.startswith(b"HTTP/1.1 100"):
        return False
    lengths = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    return bool(lengths) and len(content) >= lengths[0]


def _answer(received: bytes, *, is_head: bool) -> Answer:
    answer = received
    while answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, content = answer.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        content = _unchunked(content)
    return Answer(int(line.split()[1]), headers, b"" if is_head else content, received)


def _unchunked(content: bytes) -> bytes:
    body = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        body, content = body + content[: int(size, 16)], content[int(size, 16) + 2 :]
    return body
