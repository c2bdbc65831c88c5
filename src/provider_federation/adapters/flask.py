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
        self._apps: list[Flask] = []
        self._views: list[Callable[..., Any]] = []

    @classmethod
    def from_environment(cls, **options: Any) -> Self:
        """By environment variables: see `environment.gate_from_environment`."""
        return cls(gate_from_environment(**options))

    def install(self, app: Flask) -> None:
        """Put the middleware around `app`. Call this after any other change of `app.wsgi_app`.

        RuntimeError when one of the decorators below stands above an `@app.route`, and so protects nothing.
        """
        self._apps.append(app)
        self._check_order()
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
        """Refuse requests that are not signed. Stands below `@app.route`; RuntimeError above it."""
        return self._guard(view, may_write=False)

    def write(self, view: Callable[P, T]) -> Callable[P, T]:
        """Refuse those too that may only read."""
        return self._guard(view, may_write=True)

    def _guard(self, view: Callable[P, T], *, may_write: bool) -> Callable[P, T]:
        self._views.append(view)
        self._check_order()

        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            require(self.principal, may_write=may_write)
            answer: T = current_app.ensure_sync(view)(*args, **kwargs)
            return answer

        return guarded

    def _check_order(self) -> None:
        """A route that was given a bare view serves it to anybody."""
        served = [view for app in self._apps for view in app.view_functions.values()]
        if any(view is bare for view in served for bare in self._views):
            raise RuntimeError(
                "federation.required and federation.write stand below @app.route, not above it"
            )


def _refusal(refused: Refused) -> ResponseReturnValue:
    return jsonify(refused.body()), refused.status, {"Cache-Control": "no-store"}
