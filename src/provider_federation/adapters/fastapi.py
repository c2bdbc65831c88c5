"""FastAPI: a middleware, and dependencies that give a route its `Principal`.

federation = Federation.from_environment()
federation.install(app)                       # after every other middleware: the last one added is outermost

@app.get("/api/billing/list")
def list_invoices(principal: Annotated[Principal, Depends(federation.required)]): ...
"""

from __future__ import annotations

import json
from typing import Any, Self

from fastapi import FastAPI, Request
from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.responses import Response
from fastapi.security.base import SecurityBase

from provider_federation.adapters.asgi import SCOPE_KEY, FederationMiddleware
from provider_federation.adapters.environment import gate_from_environment
from provider_federation.adapters.gate import Gate, require
from provider_federation.protocol import Principal, Refused

__all__ = ["Federation", "Principal"]


class Federation:
    """One app's federation. `required` asks for a signed request, `write` for one that may change things too.

    Both are dependencies that give the Principal; `optional` gives None for somebody else's request, and such
    a request is then the app's own business. They show in the app's OpenAPI as the scheme `ProviderFederation`.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.required = _Signed(may_write=False)
        self.write = _Signed(may_write=True)

    @classmethod
    def from_environment(cls, **options: Any) -> Self:
        """By environment variables: see `environment.gate_from_environment`."""
        return cls(gate_from_environment(**options))

    def install(self, app: FastAPI) -> None:
        """Put the middleware around `app`. Call this after the other middleware was added."""
        app.add_middleware(FederationMiddleware, gate=self.gate)
        app.add_exception_handler(Refused, _refusal)

    @staticmethod
    def optional(request: Request) -> Principal | None:
        """The Principal of a signed request, None for any other."""
        return _principal(request)


class _Signed(SecurityBase):
    """A dependency, and what OpenAPI says about it."""

    def __init__(self, *, may_write: bool) -> None:
        self.model = APIKey.model_validate(
            {
                "in": APIKeyIn.header,
                "name": "Signature",
                "description": "RFC 9421, profile provider-federation-v2 (or the legacy X-Provider headers)",
            }
        )
        self.scheme_name = "ProviderFederation"
        self._may_write = may_write

    async def __call__(self, request: Request) -> Principal:
        """The Principal; raises Refused, which `install` has taught the app to answer."""
        return require(_principal(request), may_write=self._may_write)


def _principal(request: Request) -> Principal | None:
    if SCOPE_KEY not in request.scope:
        raise RuntimeError("call federation.install(app) first")
    principal: Principal | None = request.scope[SCOPE_KEY]
    return principal


async def _refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    content = json.dumps(refused.body())
    return Response(
        content, refused.status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
