"""ASGI messages to requests and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from provider_federation.adapters.gate import check_length
from provider_federation.protocol import Refused, Request

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SMALL = 65_536


def request_of(scope: Scope, prefix: str = "") -> Request:
    """The request as it was on the wire, without its body. No `raw_path`: no target, and so a refusal."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    query = scope.get("query_string", b"")
    path = (scope.get("raw_path") or b"").decode("latin-1")
    target = path and prefix + path + ("?" + query.decode("latin-1") if query else "")
    authority = dict(headers).get("host", "")  # two of them are refused
    client = scope.get("client")
    peer = client[0] if client else ""  # a Unix socket's end is nobody that h31 may trust
    return Request(scope["method"], target, authority, headers, b"", peer)


def is_small(scope: Scope) -> bool:
    """Whether the body may be read before anything is proven: declared, not large, and not waiting for a word of
    ours (`Expect`).
    """
    fields = dict(scope["headers"])
    declared = fields.get(b"content-length", b"0")
    waits = b"expect" in fields or b"transfer-encoding" in fields
    return not waits and declared.isdigit() and len(declared) < 6 and int(declared) <= _SMALL


async def read_body(receive: Receive, request: Request, limit: int) -> bytes:
    """The raw body, at most `limit` bytes of it in memory."""
    check_length(dict(request.headers).get("content-length", "0"), limit)
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > limit:
            raise Refused("body_too_large")
        if piece:
            pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then whatever the server says next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
