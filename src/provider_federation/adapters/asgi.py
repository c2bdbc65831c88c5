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
    read_body,
    replaying,
    request_of,
)
from provider_federation.adapters.gate import Gate, GateOptions
from provider_federation.protocol import Key, Refused, Request

T = TypeVar("T")

SCOPE_KEY = "provider_federation"
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
            if self.gate.concerns(name.decode("latin-1") for name, _ in scope["headers"]):
                await self._federated(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _federated(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope, self.gate.prefix)
        try:
            claim = self.gate.check_head(request)
            body = await read_body(receive, request, self.gate.policy.max_body)
            scope[SCOPE_KEY] = await self._run(
                self.gate.blocking, lambda: self.gate.admit(claim, request, body)
            )
        except Refused as refused:
            refusal, audited = refused, self.gate.on_refused is not None
            answer = await self._run(audited, lambda: self.gate.refuse(refusal, request))
            await send_response(scope, send, answer, last=True)
        except ConnectionError:  # the caller left in the middle of the body; nobody waits for an answer
            return
        else:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _OTHER_IDENTITIES]
            await self._answered(request, self.gate.signer(claim), scope, replaying(body, receive), send)

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
        except Exception:
            await signing.finish(self.gate.failed(request, signer))
            raise

    @staticmethod
    async def _run(in_thread: bool, step: Callable[[], T]) -> T:
        return await asyncio.to_thread(step) if in_thread else step()
