"""ASGI messages to requests and back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from provider_federation.protocol import Refused, Request

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def request_of(scope: Scope) -> Request:
    """The request as it was on the wire, without its body. No `raw_path`: no target, and so a refusal."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    query = scope.get("query_string", b"")
    target = (scope.get("raw_path") or b"") + (b"?" + query if query else b"")
    authority = next((value for name, value in headers if name.lower() == "host"), "")
    client = scope.get("client")
    peer = client[0] if client else ""  # a Unix socket's end is nobody that h31 may trust
    return Request(scope["method"], target.decode("latin-1"), authority, headers, b"", peer)


async def read_body(receive: Receive, request: Request, limit: int) -> bytes:
    """The raw body, at most `limit` bytes of it in memory."""
    declared = next((value for name, value in request.headers if name.lower() == "content-length"), "0")
    if not (declared.isascii() and declared.isdigit()):
        raise Refused("bad_framing")
    if len(declared) > 15 or int(declared) > limit:
        raise Refused("body_too_large")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message.get("body", b"")
        if len(body) > limit:
            raise Refused("body_too_large")
        if not message.get("more_body", False):
            return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then whatever the server says next."""
    pending: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> MutableMapping[str, Any]:
        return pending.pop() if pending else await receive()

    return receive_again


async def send_refusal(scope: Scope, send: Send, refused: Refused) -> None:
    """The JSON answer to a refused request; the connection ends with it."""
    content = json.dumps(refused.body()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if scope.get("http_version", "1.1").startswith("1"):
        headers.append((b"connection", b"close"))  # the body may be unread, and is not going to be
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
