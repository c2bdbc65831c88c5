"""JSON, in the contract's shape, for whatever goes wrong under /api/ outside a route: 404, 405, CSRF, a bad
host, a fault.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import defaults

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import problem_response

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
_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")


def is_api(request: HttpRequest) -> bool:
    return request.path_info == "/api" or request.path_info.startswith("/api/")


def json_problem(status: int) -> HttpResponse:
    """The contract's shape for an answer that no route wrote."""
    code, sentence = _SENTENCES.get(status, ("request_refused", "This request was refused."))
    return problem_response(Problem(status, code, sentence))


class ApiErrorsMiddleware:
    """Turns a non-JSON error under /api/ into the contract's shape, keeping the headers that matter."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code < 400 or not is_api(request) or "json" in response.get("Content-Type", ""):
            return response
        problem = json_problem(response.status_code)
        for name in _KEPT_HEADERS:
            if name in response:
                problem[name] = response[name]
        return problem


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return json_problem(400) if is_api(request) else defaults.bad_request(request, exception)


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return json_problem(403) if is_api(request) else defaults.permission_denied(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return json_problem(404) if is_api(request) else defaults.page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    return json_problem(500) if is_api(request) else defaults.server_error(request)
