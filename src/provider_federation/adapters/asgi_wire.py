"""ASGI messages to requests and back."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from provider_federation.adapters.gate import Gate, check_length
from provider_federation.protocol import Key, Principal, Refused, Request
from provider_federation.protocol.values import Head

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Fields = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Proven = tuple[Principal, Key | None]
"""Who asks, and the key to answer with."""

_OTHER_IDENTITIES = frozenset({b"cookie", b"authorization"})


def request_of(scope: Scope, fields: Fields, prefix: str = "", body: bytes = b"") -> Request:
    """The request as it was on the wire; `fields` are its headers by name."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    method, target, authority, body, peer = head_of(scope, fields, prefix, body)
    return Request(method, target, authority, headers, body, peer)


def head_of(scope: Scope, fields: Fields, prefix: str, body: bytes) -> Head:
    """The request without its headers. No `raw_path`: no target, and so a refusal."""
    target = prefix + path.decode("latin-1") if (path := scope.get("raw_path")) else ""
    if target and (query := scope.get("query_string")):
        target += "?" + query.decode("latin-1")
    authority = fields.get(b"host", b"").decode("latin-1")  # two of them are refused
    client = scope.get("client")
    peer = client[0] if client else ""  # a Unix socket's end is nobody that h31 may trust
    return Head(scope["method"], target, authority, body, peer)


def drop_other_identities(scope: Scope) -> None:
    """A proven request acts as its key and as nobody else."""
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _OTHER_IDENTITIES]


def is_small(fields: Fields) -> bool:
    """Whether the body may be read before anything is proven: declared, below 100 kB, and not waiting for a word of
    ours (`Expect`).
    """
    declared = fields.get(b"content-length", b"0")
    return (
        len(declared) < 6
        and declared.isdigit()
        and b"expect" not in fields
        and b"transfer-encoding" not in fields
    )


async def in_steps(
    gate: Gate, scope: Scope, fields: Fields, receive: Receive, message: Message | None
) -> tuple[Proven, Message]:
    """What knows every refusal. Without a `message` nothing of the body is read before the head is proven."""
    limit, body = gate.most_body(), message.get("body", b"") if message else b""
    request = request_of(scope, fields, gate.prefix, body)
    claim, is_much, admit = gate.check_head(request), message is None, gate.admit
    if message is None:
        check_length(fields.get(b"content-length", b"0").decode("latin-1"), limit)
        message = await whole(await receive(), receive, limit)
        body = message["body"]
    in_thread = is_much or gate.blocking
    principal = await to_thread(admit, claim, request, body) if in_thread else admit(claim, request, body)
    return (principal, gate.signer(claim)), message


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
