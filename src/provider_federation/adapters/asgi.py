"""ASGI middleware for any framework: a `Principal` or None at `scope["provider_federation"]`."""

from __future__ import annotations

from asyncio import to_thread
from typing import Any, Unpack, overload

from provider_federation.adapters.asgi_answer import SigningSend, send_response
from provider_federation.adapters.asgi_wire import (
    App,
    Fields,
    Receive,
    Scope,
    Send,
    drop_other_identities,
    head_of,
    in_steps,
    is_small,
    replaying,
    request_of,
    whole,
)
from provider_federation.adapters.gate import Gate, GateOptions
from provider_federation.protocol import Refused
from provider_federation.protocol.grammar import FEDERATION_HEADERS

SCOPE_KEY = "provider_federation"
_FEDERATION = frozenset(name.encode() for name in FEDERATION_HEADERS)  # ASGI has them in lower case


class FederationMiddleware:
    """Verifies federation requests before `app` sees them, and signs its answers to them.

    Takes a `gate`, or the keywords of `gate.Gate`. Other requests pass untouched. A refused one is answered
    here; a proven one reaches the app without its cookies and Authorization header, so that it acts as the
    machine it is and as nobody else. Nothing may change requests or answers between this and the server.
    """

    @overload
    def __init__(self, app: App, gate: Gate) -> None: ...
    @overload
    def __init__(self, app: App, **gate: Unpack[GateOptions]) -> None: ...
    def __init__(self, app: App, gate: Gate | None = None, **options: Any) -> None:
        self.app = app
        self.gate = gate or Gate(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "http":
            scope[SCOPE_KEY] = None
            fields = dict(scope["headers"]) if self.gate.enabled else {}  # `Request` has also what came twice
            if not _FEDERATION.isdisjoint(fields):
                await self._federated(scope, fields, receive, send)
                return
        await self.app(scope, receive, send)

    async def _federated(self, scope: Scope, fields: Fields, receive: Receive, send: Send) -> None:
        gate, proven, message = self.gate, None, None
        try:
            if is_small(fields):  # all checks at once cost less than two steps
                message = await receive()
                if message["type"] != "http.request" or message.get("more_body", False):
                    message = await whole(message, receive, gate.most_body())
                head, verify = head_of(scope, fields, gate.prefix, message.get("body", b"")), gate.verify
                count = len(scope["headers"])
                proven = (
                    await to_thread(verify, head, fields, count)
                    if gate.blocking
                    else verify(head, fields, count)
                )
            if message is None or proven is None:
                proven, message = await in_steps(gate, scope, fields, receive, message)
            scope[SCOPE_KEY], signer = proven
        except Refused as refused:
            request, refuse = request_of(scope, fields, gate.prefix), gate.refuse
            answer = (
                await to_thread(refuse, refused, request) if gate.on_refused else refuse(refused, request)
            )
            await send_response(scope, send, answer, last=True)
        except ConnectionError:
            return  # the caller left in the middle of the body; nobody waits for an answer
        else:
            if b"cookie" in fields or b"authorization" in fields:
                drop_other_identities(scope)
            again = replaying(message, receive)
            if signer is None:
                await self.app(scope, again, send)
                return
            signing = SigningSend(scope, send, gate, fields[b"signature"], signer)
            try:
                await self.app(scope, again, signing.send)
            finally:
                if not signing.is_done:
                    await signing.close()
