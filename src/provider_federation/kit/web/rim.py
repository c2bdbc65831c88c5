"""The ASGI rim around a Django application: body limit, request id, access log, JSON answers for paths
under /api.

The limit is enforced while the body streams in, so that a lying Content-Length or an endless chunked body
is cut off
before anything holds it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from provider_federation.kit.clock import monotonic
from provider_federation.kit.logs import get_logger

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_log = get_logger("http")


class _TooLarge(Exception):
    pass


class Rim:
    """Wraps `app`. `max_body` is in bytes. Adds `X-Request-Id` to every answer and binds it to the logs."""

    def __init__(
        self, app: App, *, max_body: int = 1_048_576, too_large: Callable[[], bytes] | None = None
    ) -> None:
        self.app = app
        self.too_large = too_large  # the HTML for a browser's too large body, where there are pages
        self.max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = monotonic(), 500
        answered = False

        async def send_marked(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                message = {
                    **message,
                    "headers": [*message.get("headers", []), (b"x-request-id", request_id.encode())],
                }
            await send(message)

        try:
            await self.app(scope, self._limited(scope, receive), send_marked)
        except _TooLarge:
            if not answered:
                await self._answer_too_large(scope, send_marked)
        finally:
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((monotonic() - started) * 1000, 1),
            )

    async def _answer_too_large(self, scope: Scope, send: Send) -> None:
        if self.too_large is not None and not scope["path"].startswith("/api"):
            await _send_whole(send, 413, b"text/html; charset=utf-8", self.too_large())
            return
        await _answer(send, 413, "body_too_large", f"The body may have at most {self.max_body} bytes.")

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        # A length of that many digits is over any limit; not converting it keeps int() away from hostile
        # input.
        too_long = not declared.isdigit() or len(declared) > 12 or int(declared) > self.max_body
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            if too_long:
                raise _TooLarge
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self.max_body:
                    raise _TooLarge
            return message

        return limited

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


async def _answer(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"ok": False, "error": message, "reason": code}).encode()
    await _send_whole(send, status, b"application/json", body)


async def _send_whole(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
