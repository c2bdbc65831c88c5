"""Pages for everything that goes wrong; under /api/ the JSON of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from provider_federation.kit.problem import Problem
from provider_federation.kit.web import errors as json_errors

_TOO_LARGE = ("This is too much at once", "What was sent is larger than a page takes. Nothing was changed.")
_UNREADABLE = ("This request cannot be read", "Go back, load the page again and retry.")
_NOT_ALLOWED = (
    "Your role does not allow this",
    "An owner of this instance can give you another role under People.",
)
_MISSING = ("There is nothing here", "The address may be mistyped, or what it showed does not exist.")
_FAULT = (
    "Something went wrong on our side",
    "Try again. If it stays, tell whoever runs this instance the time and the address of this page.",
)


def error_page(status: int, title: str, sentence: str) -> HttpResponse:
    """A page in the looks of the others; needs neither a session nor the database."""
    context = {"title": title, "sentence": sentence, "status": status}
    return HttpResponse(render_to_string("instance/error.html", context), status=status)


def problem_page(problem: Problem) -> HttpResponse:
    """A service's refusal as a page."""
    if problem.status == 404:
        return error_page(404, _MISSING[0], problem.message)
    title = {409: "This cannot be done now", 502: "Stripe refused this", 503: "Not available right now"}
    return error_page(problem.status, title.get(problem.status, "This does not work"), problem.message)


def method_page(allowed: Sequence[str]) -> HttpResponse:
    """405 with its Allow header."""
    response = error_page(405, "This page cannot be used that way", "Open it from the menu instead.")
    response.headers["Allow"] = ", ".join(allowed)
    return response


def too_large_page() -> bytes:
    """What the rim answers for a body over its limit, before Django sees the request."""
    return error_page(413, *_TOO_LARGE).content


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001  Django passes it
    """Django's CSRF_FAILURE_VIEW."""
    if json_errors.is_api(request):
        return json_errors.json_problem(403)
    sentence = (
        "The form was too old, or cookies are blocked. Load the page again and retry; nothing was changed."
    )
    return error_page(403, "Please load the page again", sentence)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    too_large = isinstance(exception, RequestDataTooBig | TooManyFieldsSent)
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST
    if json_errors.is_api(request):
        return json_errors.json_problem(status)
    return error_page(status, *(_TOO_LARGE if too_large else _UNREADABLE))


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django passes it
    if json_errors.is_api(request):
        return json_errors.json_problem(403)
    return error_page(403, *_NOT_ALLOWED)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django passes it
    if json_errors.is_api(request):
        return json_errors.json_problem(404)
    return error_page(404, *_MISSING)


def handler500(request: HttpRequest) -> HttpResponse:
    if json_errors.is_api(request):
        return json_errors.json_problem(500)
    return error_page(500, *_FAULT)
