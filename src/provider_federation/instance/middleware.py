"""Security headers on every answer of the instance."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from provider_federation.kit.web.headers import secure
from provider_federation.kit.web.rim import App, Message, Receive, Scope, Send

# No inline script and nothing from elsewhere: the pages keep their scripts and styles in static files.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


# What Django's own middlewares give, for answers that are made before Django is asked.
_AT_THE_RIM = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-frame-options": b"DENY",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class HeadersAtTheRim:
    """ASGI: the security headers on every answer that has none yet, also on those of the rim and the gate."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", []))
                names = {name.lower() for name, _ in given}
                missing = [pair for pair in _AT_THE_RIM.items() if pair[0] not in names]
                message = {**message, "headers": [*given, *missing]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SecurityHeadersMiddleware:
    """Content security policy everywhere; nothing that a signed-in person sees is kept by a cache."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        secure(
            response,
            path=request.path_info,
            content_policy=CONTENT_SECURITY_POLICY,
            hsts_seconds=settings.SECURE_HSTS_SECONDS,
        )
        return response
