"""Django middleware: a `Principal` or None at `request.federation`, under ASGI and WSGI, sync and async.

Settings: `PROVIDER_FEDERATION_GATE`, a `gate.Gate`. Put it first in MIDDLEWARE: nothing may change an answer
after it was signed. Where the ASGI or WSGI middleware runs around Django already, its result is taken over and
no gate is needed; that way also a body with a bad signature is never read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from provider_federation.adapters import django_answer as answers
from provider_federation.adapters import django_wire as wire
from provider_federation.adapters.gate import Gate
from provider_federation.protocol import Key, Principal, Refused, Request


class FederationMiddleware:
    """Sets `request.federation`; answers refused requests itself, and signs the views' answers to the others.

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
        _set(request, wire.found_outside(request))
        if self.gate is None or wire.is_known_outside(request) or not self.gate.concerns(request.headers):
            response: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
            return response
        return (
            self._federated_async(self.gate, request) if self._async else self._federated(self.gate, request)
        )

    def _federated(self, gate: Gate, request: HttpRequest) -> HttpResponseBase:
        admitted = _admit(gate, request)
        if isinstance(admitted, HttpResponseBase):
            return admitted
        received, signer = admitted
        response: HttpResponseBase = self.get_response(request)
        if signer is not None:
            body = answers.body_of_response(response, gate.max_answer)
            answers.put(response, gate.answer(answers.answer_of(response, body), received, signer))
        return response

    async def _federated_async(self, gate: Gate, request: HttpRequest) -> HttpResponseBase:
        if gate.blocking or gate.on_refused is not None:
            admitted = await sync_to_async(_admit, thread_sensitive=False)(gate, request)
        else:
            admitted = _admit(gate, request)
        if isinstance(admitted, HttpResponseBase):
            return admitted
        received, signer = admitted
        response: HttpResponseBase = await self.get_response(request)
        if signer is not None:
            body = await answers.body_of_response_async(response, gate.max_answer)
            answers.put(response, gate.answer(answers.answer_of(response, body), received, signer))
        return response


def _admit(gate: Gate, request: HttpRequest) -> tuple[Request, Key | None] | HttpResponseBase:
    received = wire.head_of(request, gate.prefix)
    try:
        claim = gate.check_head(received)
        principal = gate.admit(claim, received, wire.read_body(request, gate.policy.max_body))
    except Refused as refused:
        return answers.response_of(gate.refuse(refused, received), request)
    _set(request, principal)
    return received, gate.signer(claim)


def _set(request: HttpRequest, principal: Principal | None) -> None:
    request.federation = principal  # type: ignore[attr-defined]  # the attribute is what this middleware is for
    if principal is not None:
        request.COOKIES = {}
        request.__dict__.pop("headers", None)  # Django keeps what it has read from META
        for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "REMOTE_USER"):
            request.META.pop(name, None)
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # noqa: SLF001  Django's own switch
