"""Security headers on every answer."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from provider_federation.kit.web.headers import secure

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# Unfold's Alpine compiles the expressions in its attributes ('unsafe-eval') and binds styles inline. No inline
# script runs anywhere: the pages keep theirs in static files, and data for them travels as application/json.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class SecurityHeadersMiddleware:
    """Content security policy everywhere; nothing that a signed-in person sees is kept by a cache."""

    def __init__(self, get_response: GetResponse) -> None:
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
