"""Django middleware: a `Principal` or None at `request.federation`, under ASGI and WSGI, sync and async.

Settings: `PROVIDER_FEDERATION_GATE`, a `gate.Gate`. Put it above the session middleware. Where the ASGI
middleware runs outside of Django already, its result is taken over and no gate is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from provider_federation.adapters.asgi import SCOPE_KEY
from provider_federation.adapters.asgi_wire import request_of
from provider_federation.adapters.gate import Gate
from provider_federation.protocol import Principal, Refused, Request


class FederationMiddleware:
    """Sets `request.federation`; answers a refused request itself.

    A proven request has no cookies, so it acts as nobody else, and needs no CSRF token.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.gate: Gate | None = getattr(settings, "PROVIDER_FEDERATION_GATE", None)
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """One request."""
        if self._async:
            return self._call_async(request)
        return self._admit(request) or self.get_response(request)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        refusal = await sync_to_async(self._admit, thread_sensitive=False)(request)
        return refusal or await self.get_response(request)

    def _admit(self, request: HttpRequest) -> HttpResponseBase | None:
        scope = getattr(request, "scope", {})
        if SCOPE_KEY in scope:
            _set(request, scope[SCOPE_KEY])
            return None
        _set(request, None)
        if self.gate is None or not self.gate.concerns(request.headers):
            return None
        return self._verify(self.gate, request)

    @staticmethod
    def _verify(gate: Gate, request: HttpRequest) -> HttpResponseBase | None:
        wire = _wire_request(request)
        try:
            gate.check_head(wire)
            _set(request, gate.admit(_with_body(wire, request)))
        except Refused as refused:
            return _answer(gate, refused, wire)
        return None


def _set(request: HttpRequest, principal: Principal | None) -> None:
    request.federation = principal  # type: ignore[attr-defined]  # the attribute is what this middleware is for
    if principal is not None:
        request.COOKIES = {}
        request.META.pop("HTTP_COOKIE", None)
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # noqa: SLF001  Django's own switch


def _wire_request(request: HttpRequest) -> Request:
    scope = getattr(request, "scope", None)
    if scope is not None:
        return request_of(scope)
    meta = request.META
    headers = [(name, str(value)) for name, value in request.headers.items()]
    # gunicorn says RAW_URI, uWSGI and mod_wsgi REQUEST_URI; else no signature can be checked.
    target = meta.get("RAW_URI") or meta.get("REQUEST_URI") or ""
    return Request(
        request.method or "", target, meta.get("HTTP_HOST", ""), headers, b"", meta.get("REMOTE_ADDR", "")
    )


def _with_body(wire: Request, request: HttpRequest) -> Request:
    try:
        body = request.body
    except RequestDataTooBig:
        raise Refused("body_too_large") from None
    return Request(wire.method, wire.target, wire.authority, wire.headers, body, wire.peer)


def _answer(gate: Gate, refused: Refused, wire: Request) -> HttpResponseBase:
    try:
        refused = gate.report(refused, wire)
    except Refused as worse:
        refused = worse
    return JsonResponse(refused.body(), status=refused.status, headers={"Cache-Control": "no-store"})
