"""ASGI middleware for any framework: a `Principal` or None at `scope["provider_federation"]`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from provider_federation.adapters.asgi_answer import SigningSend, send_response
from provider_federation.adapters.asgi_wire import (
    App,
    Receive,
    Scope,
    Send,
    is_small,
    read_body,
    replaying,
    request_of,
)
from provider_federation.adapters.gate import Gate, GateOptions, with_body
from provider_federation.protocol import Key, Refused, Request
from provider_federation.protocol.grammar import FEDERATION_HEADERS

T = TypeVar("T")

SCOPE_KEY = "provider_federation"
_FEDERATION = frozenset(name.encode() for name in FEDERATION_HEADERS)  # ASGI has them in lower case
_OTHER_IDENTITIES = frozenset({b"cookie", b"authorization"})


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
            if self.gate.enabled and not _FEDERATION.isdisjoint(dict(scope["headers"])):
                await self._federated(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _federated(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope, self.gate.prefix)
        try:
            signer, body = await self._proven(request, scope, receive)
        except Refused as refused:
            refusal, audited = refused, self.gate.on_refused is not None
            answer = await self._run(audited, lambda: self.gate.refuse(refusal, request))
            await send_response(scope, send, answer, last=True)
        except ConnectionError:  # the caller left in the middle of the body; nobody waits for an answer
            return
        else:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _OTHER_IDENTITIES]
            await self._answered(request, signer, scope, replaying(body, receive), send)

    async def _proven(self, request: Request, scope: Scope, receive: Receive) -> tuple[Key | None, bytes]:
        """The key to answer with, and the body; the Principal goes into the scope. Refused."""
        gate = self.gate
        claim = None if is_small(scope) else gate.check_head(request)
        body = await read_body(receive, request, gate.most_body())
        if claim is None:  # all checks at once cost less than two steps
            whole = with_body(request, body)
            scope[SCOPE_KEY], signer = await self._run(gate.blocking, lambda: gate.verify(whole))
            return signer, body
        scope[SCOPE_KEY] = await self._run(gate.blocking, lambda: gate.admit(claim, request, body))
        return gate.signer(claim), body

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

    @staticmethod
    async def _run(in_thread: bool, step: Callable[[], T]) -> T:
        return await asyncio.to_thread(step) if in_thread else step()
