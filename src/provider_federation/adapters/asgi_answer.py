"""Responses to ASGI messages, and the app's own messages to one signed response."""

from __future__ import annotations

from provider_federation.adapters.asgi_wire import Message, Scope, Send
from provider_federation.adapters.gate import OURS, Gate, refusal, sift
from provider_federation.protocol import Key, Refused, Request, Response


async def send_response(scope: Scope, send: Send, response: Response, *, last: bool = False) -> None:
    """The whole response; `last` ends the connection with it, because the request's body may be unread."""
    start, rest = _messages(response, scope["method"])
    if last and scope.get("http_version", "1.1").startswith("1"):
        start["headers"].append((b"connection", b"close"))
    await send(start)
    await send(rest)


def _messages(response: Response, method: str) -> tuple[Message, Message]:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers]
    body = b"" if method == "HEAD" else response.body
    return (
        {"type": "http.response.start", "status": response.status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


class SigningSend:
    """Its `send` holds the app's answer until it is whole, and then sends it on as the gate completes it.

    An answer over the gate's `max_answer` is not held any further: a signed 500 goes out in its place, and the
    app is told by an OSError that nobody reads on, as ASGI has it. `asked` is the request's Signature.
    """

    __slots__ = ("_asked", "_gate", "_held", "_method", "_out", "_signer", "_start", "is_done")

    def __init__(self, scope: Scope, send: Send, gate: Gate, asked: bytes, signer: Key) -> None:
        self._out, self._gate, self._signer = send, gate, signer
        self._method, self._asked = scope["method"], asked
        self._start: Message = {}
        self._held = bytearray()
        self.is_done = False
        extensions = scope.get("extensions")
        if extensions:  # the app must not send around us
            scope["extensions"] = {
                name: value for name, value in extensions.items() if not name.startswith("http.response")
            }

    async def send(self, message: Message) -> None:
        """One message of the app."""
        if self.is_done:
            raise OSError("the answer was sent")
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            body, is_last = message.get("body", b""), not message.get("more_body", False)
            if self._held or not is_last:
                self._held += body
                body = self._held
            is_over = len(body) > self._gate.max_answer
            if is_over or is_last:
                start, rest = self._too_large(body) if is_over else self._signed(bytes(body))
                self.is_done = True
                await self._out(start)
                await self._out(rest)
            if is_over:
                raise OSError("the answer was too large")

    def _signed(self, body: bytes) -> tuple[Message, Message]:
        start, method, asked = self._start, self._method, self._asked.removeprefix(b"pf=")
        kept, types = sift(start.get("headers", ()), OURS, b"content-type")
        try:
            body, added = self._gate.complete(start["status"], types, body, method, asked, self._signer)
        except Refused as refused:
            return _messages(refusal(refused), method)
        return (
            {"type": "http.response.start", "status": start["status"], "headers": kept + added},
            {"type": "http.response.body", "body": body},
        )

    def _too_large(self, body: bytes | bytearray) -> tuple[Message, Message]:
        answer = Response(500, [], bytes(body))  # which the gate puts another in the place of
        return _messages(self._gate.answer(answer, self._request(), self._signer), self._method)

    def _request(self) -> Request:
        """Of the request, what an answer to it is bound to."""
        return Request(self._method, "", "", [("Signature", self._asked.decode("latin-1"))], b"")

    async def close(self) -> None:
        """The app is done, or has raised, and left its answer unfinished."""
        self.is_done = True
        for message in _messages(self._gate.failed(self._request(), self._signer), self._method):
            await self._out(message)
