"""ASGI middleware for any framework: a `Principal` or None at `scope["provider_federation"]`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Unpack

from provider_federation.adapters.asgi_wire import (
    App,
    Receive,
    Scope,
    Send,
    read_body,
    replaying,
    request_of,
    send_refusal,
)
from provider_federation.adapters.gate import Gate, GateOptions
from provider_federation.protocol import Principal, Refused, Request

SCOPE_KEY = "provider_federation"
_OTHER_IDENTITIES = frozenset({b"cookie", b"authorization"})


class FederationMiddleware:
    """Verifies federation requests before `app` sees them; passes every other request on untouched.

    Takes what `gate.Gate` takes, as keywords. A refused request is answered here; a proven one reaches the
    app without its cookies and Authorization header, so that it acts as the machine it is and as nobody else.
    """

    def __init__(self, app: App, **gate: Unpack[GateOptions]) -> None:
        self.app = app
        self.gate = Gate(**gate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "http":
            scope[SCOPE_KEY] = None
            if self.gate.concerns(name.decode("latin-1") for name, _ in scope["headers"]):
                await self._federated(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _federated(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope)
        try:
            self.gate.check_head(request)
            request = replace(request, body=await read_body(receive, request, self.gate.policy.max_body))
            principal = await self._admit(request)
        except Refused as refused:
            await send_refusal(scope, send, await self._report(refused, request))
        except ConnectionError:  # the caller left in the middle of the body; nobody waits for an answer
            return
        else:
            scope[SCOPE_KEY] = principal
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _OTHER_IDENTITIES]
            await self.app(scope, replaying(request.body, receive), send)

    async def _admit(self, request: Request) -> Principal:
        if self.gate.blocking:
            return await asyncio.to_thread(self.gate.admit, request)
        return self.gate.admit(request)

    async def _report(self, refused: Refused, request: Request) -> Refused:
        try:
            if self.gate.on_refused is None:
                return self.gate.report(refused, request)
            return await asyncio.to_thread(self.gate.report, refused, request)
        except Refused as worse:
            return worse
