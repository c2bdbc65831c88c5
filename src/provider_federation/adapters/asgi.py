"""ASGI middleware for any framework: a `Principal` or None at `scope["provider_federation"]`."""

from __future__ import annotations

import asyncio
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
    read_body,
    replaying,
    request_of,
)
from provider_federation.adapters.gate import Gate, GateOptions, check_length
from provider_federation.protocol import Key, Refused, Request, Response
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
        try:
            request, signer, body = await self._proven(scope, fields, receive)
        except Refused as refused:
            answer = await self._refuse(refused, request_of(scope, self.gate.prefix))
            await send_response(scope, send, answer, last=True)
        except ConnectionError:  # the caller left in the middle of the body; nobody waits for an answer
            return
        else:
            drop_other_identities(scope, fields)
            await self._answered(request, signer, scope, replaying(body, receive), send)

    async def _refuse(self, refused: Refused, request: Request) -> Response:
        refuse, audited = self.gate.refuse, self.gate.on_refused is not None
        return await asyncio.to_thread(refuse, refused, request) if audited else refuse(refused, request)

    async def _proven(self, scope: Scope, fields: Fields, receive: Receive) -> Proven:
        gate, limit = self.gate, self.gate.most_body()
        if is_small(fields):  # all checks at once cost less than two steps
            body = await read_body(receive, limit)
            request = request_of(scope, gate.prefix, body)
            proven = await asyncio.to_thread(gate.verify, request) if gate.blocking else gate.verify(request)
            scope[SCOPE_KEY], signer = proven
            return request, signer, body
        request = request_of(scope, gate.prefix)
        claim = gate.check_head(request)
        check_length(fields.get(b"content-length", b"0").decode("latin-1"), limit)
        body = await read_body(receive, limit)
        scope[SCOPE_KEY] = await asyncio.to_thread(gate.admit, claim, request, body)  # much to digest
        return request, gate.signer(claim), body

    async def _answered(
        self, request: Request, signer: Key | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if signer is None:
            await self.app(scope, receive, send)
            return
        signing = SigningSend(
            scope, send, lambda answer: self.gate.answer(answer, request, signer), self.gate.max_answer
        )
        try:
            await self.app(scope, receive, signing)
        finally:
            await signing.close(lambda: self.gate.failed(request, signer))
