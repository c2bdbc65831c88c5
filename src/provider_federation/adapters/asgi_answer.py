"""Responses to ASGI messages, and the app's own messages to one signed response."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from provider_federation.adapters.asgi_wire import Message, Scope, Send
from provider_federation.protocol import Response


async def send_response(scope: Scope, send: Send, response: Response, *, last: bool = False) -> None:
    """The whole response; `last` ends the connection with it, because the request's body may be unread."""
    headers = [(_name(name), value.encode("latin-1")) for name, value in response.headers]
    if last and scope.get("http_version", "1.1").startswith("1"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=512)
def _name(name: str) -> bytes:
    return name.lower().encode("latin-1")


class SigningSend:
    """A `send` that holds the app's answer until it is whole, and then sends what `sign` makes of it.

    An answer over `limit` bytes is not held any further: what `sign` makes of that goes out in its place, and
    the app is told by an OSError that nobody reads on, as ASGI has it.
    """

    def __init__(self, scope: Scope, send: Send, sign: Callable[[Response], Response], limit: int) -> None:
        self._scope, self._send, self._sign, self._limit = scope, send, sign, limit
        self._start: Message = {}
        self._body = bytearray()
        self._is_done = False
        # The app must not send around us.
        extensions = scope.get("extensions") or {}
        scope["extensions"] = {
            name: value for name, value in extensions.items() if not name.startswith("http.response")
        }

    async def __call__(self, message: Message) -> None:
        """One message of the app."""
        if self._is_done:
            raise OSError("the answer was sent")
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            is_over = len(self._body) > self._limit
            if is_over or not message.get("more_body", False):
                await self._finish(self._sign(self._whole()))
            if is_over:
                raise OSError("the answer was too large")

    async def close(self, failed: Callable[[], Response]) -> None:
        """The app is done, or has raised: what `failed` gives is sent where it left its answer unfinished."""
        if not self._is_done:
            await self._finish(failed())

    async def _finish(self, response: Response) -> None:
        self._is_done = True
        await send_response(self._scope, self._send, response)

    def _whole(self) -> Response:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._start.get("headers", ())
        ]
        return Response(self._start["status"], headers, bytes(self._body))
