"""ASGI messages to requests and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from provider_federation.protocol import Key, Refused, Request

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Fields = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Proven = tuple[Request, Key | None, bytes]
"""The request, the key to answer with, and the body."""

_SMALL = 65_536
_OTHER_IDENTITIES = frozenset({b"cookie", b"authorization"})


def request_of(scope: Scope, prefix: str = "", body: bytes = b"") -> Request:
    """The request as it was on the wire. No `raw_path`: no target, and so a refusal."""
    headers = [(_name(name), value.decode("latin-1")) for name, value in scope["headers"]]
    query = scope.get("query_string", b"")
    path = (scope.get("raw_path") or b"").decode("latin-1")
    target = path and prefix + path + ("?" + query.decode("latin-1") if query else "")
    authority = dict(headers).get("host", "")  # two of them are refused
    client = scope.get("client")
    peer = client[0] if client else ""  # a Unix socket's end is nobody that h31 may trust
    return Request(scope["method"], target, authority, headers, body, peer)


@lru_cache(maxsize=512)
def _name(name: bytes) -> str:
    return name.decode("latin-1")


def drop_other_identities(scope: Scope, fields: Fields) -> None:
    """A proven request acts as its key and as nobody else."""
    if not _OTHER_IDENTITIES.isdisjoint(fields):
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _OTHER_IDENTITIES]


def is_small(fields: Fields) -> bool:
    """Whether the body may be read before anything is proven: declared, not large, and not waiting for a word of
    ours (`Expect`).
    """
    declared = fields.get(b"content-length", b"0")
    waits = b"expect" in fields or b"transfer-encoding" in fields
    return not waits and declared.isdigit() and len(declared) < 6 and int(declared) <= _SMALL


async def read_body(receive: Receive, limit: int) -> bytes:
    """The raw body, at most `limit` bytes of it in memory; Refused when it is longer."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # most are one piece
    else:
        body = await _joined(message, receive, limit)
    if len(body) > limit:
        raise Refused("body_too_large")
    return body


async def _joined(message: Message, receive: Receive, limit: int) -> bytes:
    """The pieces from this one on, until the last, or one that is over the limit."""
    pieces = bytearray()
    while message["type"] != "http.disconnect":
        pieces += message.get("body", b"")
        if len(pieces) > limit or not message.get("more_body", False):
            return bytes(pieces)
        message = await receive()
    raise ConnectionError


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then whatever the server says next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
