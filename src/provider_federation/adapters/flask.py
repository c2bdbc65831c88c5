"""Flask: a middleware, and decorators for the views that only a provider may call.

federation = Federation.from_environment()
federation.install(app)

@app.get("/api/billing/list")
@federation.required
def list_invoices(): ...          # federation.principal says who asks
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

from flask import Flask, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from provider_federation.adapters.environment import gate_from_environment
from provider_federation.adapters.gate import Gate, require
from provider_federation.adapters.wsgi import ENVIRON_KEY, FederationMiddleware
from provider_federation.protocol import Principal, Refused

__all__ = ["Federation", "Principal"]

P = ParamSpec("P")
T = TypeVar("T")


class Federation:
    """One app's federation. `required` lets signed requests through only, `write` those that may change things."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    @classmethod
    def from_environment(cls, **options: Any) -> Self:
        """By environment variables: see `environment.gate_from_environment`."""
        return cls(gate_from_environment(**options))

    def install(self, app: Flask) -> None:
        """Put the middleware around `app`. Call this after any other change of `app.wsgi_app`."""
        app.wsgi_app = FederationMiddleware(app.wsgi_app, gate=self.gate)  # type: ignore[method-assign]  # Flask's documented way
        app.register_error_handler(Refused, _refusal)

    @property
    def principal(self) -> Principal | None:
        """Who signed the current request; None for anybody else's."""
        if ENVIRON_KEY not in request.environ:
            raise RuntimeError("call federation.install(app) first")
        principal: Principal | None = request.environ[ENVIRON_KEY]
        return principal

    def required(self, view: Callable[P, T]) -> Callable[P, T]:
        """Refuse requests that are not signed. Stands below `@app.route`."""
        return self._guard(view, may_write=False)

    def write(self, view: Callable[P, T]) -> Callable[P, T]:
        """Refuse those too that may only read."""
        return self._guard(view, may_write=True)

    def _guard(self, view: Callable[P, T], *, may_write: bool) -> Callable[P, T]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            require(self.principal, may_write=may_write)
            answer: T = current_app.ensure_sync(view)(*args, **kwargs)
            return answer

        return guarded


def _refusal(refused: Refused) -> ResponseReturnValue:
    return jsonify(refused.body()), refused.status, {"Cache-Control": "no-store"}
