"""ASGI middleware for any framework: a `Principal` or None at `scope["provider_federation"]`."""

from __future__ import annotations

from asyncio import to_thread
from typing import Any, Unpack, overload

from provider_federation.adapters.asgi_answer import SigningSend, send_response
from provider_federation.adapters.asgi_wire import (
    App,
    Fields,
    Proven,
    Receive,
    Scope,
    Send,
    drop_other_identities,
    is_small,
    replaying,
    request_of,
    whole,
)
from provider_federation.adapters.gate import Gate, GateOptions, check_length
from provider_federation.protocol import Refused, Request, Response
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
        gate = self.gate
        try:
            if is_small(fields):  # all checks at once cost less than two steps
                message = await receive()
                if message["type"] != "http.request" or message.get("more_body", False):
                    message = await whole(message, receive, gate.most_body())
                request = request_of(scope, fields, gate.prefix, message.get("body", b""))
                verify = gate.verify
                proven = await to_thread(verify, request) if gate.blocking else verify(request)
                scope[SCOPE_KEY], signer = proven
            else:
                request, signer, message = await self._in_steps(scope, fields, receive)
        except Refused as refused:
            answer = await self._refuse(refused, request_of(scope, fields, gate.prefix))
            await send_response(scope, send, answer, last=True)
            return
        except ConnectionError:
            return  # the caller left in the middle of the body; nobody waits for an answer
        drop_other_identities(scope, fields)
        again = replaying(message, receive)
        if signer is None:
            await self.app(scope, again, send)
            return
        signing = SigningSend(scope, send, gate, request, fields[b"signature"], signer)
        try:
            await self.app(scope, again, signing)
        finally:
            if not signing.is_done:
                await signing.close()

    async def _in_steps(self, scope: Scope, fields: Fields, receive: Receive) -> Proven:
        """Nothing of the body is read before the head has proven itself."""
        gate, limit = self.gate, self.gate.most_body()
        request = request_of(scope, fields, gate.prefix)
        claim = gate.check_head(request)
        check_length(fields.get(b"content-length", b"0").decode("latin-1"), limit)
        message = await whole(await receive(), receive, limit)
        scope[SCOPE_KEY] = await to_thread(gate.admit, claim, request, message["body"])  # much to digest
        return request, gate.signer(claim), message

    async def _refuse(self, refused: Refused, request: Request) -> Response:
        refuse, audited = self.gate.refuse, self.gate.on_refused is not None
        return await to_thread(refuse, refused, request) if audited else refuse(refused, request)
