"""Headers on every answer, and JSON for whatever goes wrong under /api/ outside a route (405, CSRF, bad
host).
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import problem_response

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# Unfold's Alpine compiles the expressions in its attributes ('unsafe-eval') and binds styles inline. No
# inline script
# runs anywhere: the pages keep theirs in static files, and data for scripts travels as application/json.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_SENTENCES = {
    400: ("bad_request", "This request cannot be read."),
    403: ("forbidden", "This is not allowed for you."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method; see the Allow header."),
    413: ("body_too_large", "The body is larger than this route takes."),
    500: (
        "internal_error",
        "Something went wrong on our side; the request id is in the X-Request-Id header.",
    ),
}


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def json_problem(status: int) -> HttpResponse:
    """The contract's shape for an answer that no route wrote."""
    code, sentence = _SENTENCES.get(status, ("request_refused", "This request was refused."))
    return problem_response(Problem(status, code, sentence))


class ApiErrorsMiddleware:
    """Turns a non-JSON error under /api/ into the contract's shape, keeping the headers that matter."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code < 400 or not is_api(request) or "json" in response.get("Content-Type", ""):
            return response
        problem = json_problem(response.status_code)
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response:
                problem[name] = response[name]
        return problem


class SecurityHeadersMiddleware:
    """Content security policy everywhere; nothing that a signed-in person sees is kept by a cache."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"
        )
        if not request.path_info.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response
