"""ASGI messages to requests and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from provider_federation.protocol import Key, Refused, Request

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Fields = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Proven = tuple[Request, Key | None, Message]
"""The request, the key to answer with, and the message that its whole body came in."""

_SMALL = 65_536
_OTHER_IDENTITIES = frozenset({b"cookie", b"authorization"})


def request_of(scope: Scope, fields: Fields, prefix: str = "", body: bytes = b"") -> Request:
    """The request as it was on the wire; `fields` are its headers by name. No `raw_path`: no target, a refusal."""
    names = _NAMES
    headers = [(names[name], value.decode("latin-1")) for name, value in scope["headers"]]
    target = prefix + path.decode("latin-1") if (path := scope.get("raw_path")) else ""
    if target and (query := scope.get("query_string")):
        target += "?" + query.decode("latin-1")
    authority = fields.get(b"host", b"").decode("latin-1")  # two of them are refused
    client = scope.get("client")
    peer = client[0] if client else ""  # a Unix socket's end is nobody that h31 may trust
    return Request(scope["method"], target, authority, headers, body, peer)


class _Names(dict[bytes, str]):
    """Names as text; those met are remembered."""

    def __missing__(self, name: bytes) -> str:
        text = name.decode("latin-1")
        if len(self) < 512 and len(text) < 64:
            self[name] = text
        return text


_NAMES = _Names()


def drop_other_identities(scope: Scope, fields: Fields) -> None:
    """A proven request acts as its key and as nobody else."""
    if b"cookie" in fields or b"authorization" in fields:
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _OTHER_IDENTITIES]


def is_small(fields: Fields) -> bool:
    """Whether the body may be read before anything is proven: declared, not large, and not waiting for a word of
    ours (`Expect`).
    """
    declared = fields.get(b"content-length", b"0")
    waits = b"expect" in fields or b"transfer-encoding" in fields
    return not waits and declared.isdigit() and len(declared) < 6 and int(declared) <= _SMALL


async def whole(message: Message, receive: Receive, limit: int) -> Message:
    """`message` with all pieces of the body that follow it; Refused when that is more than `limit` bytes."""
    pieces = bytearray()
    while message["type"] != "http.disconnect":
        pieces += message.get("body", b"")
        if len(pieces) > limit:
            raise Refused("body_too_large")
        if not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(pieces), "more_body": False}
        message = await receive()
    raise ConnectionError


def replaying(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives `message` once more, then whatever the server says next."""
    pending = [message]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
