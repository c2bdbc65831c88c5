"""django-ninja, made strict: unknown fields refused, every error in the contract's shape, never a 500 for
bad input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import ConfigDict

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.parser import refuse_nul


class Strict(Schema):
    """Base of every request schema: an unknown field is an error, and nothing is guessed into another type."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def problem_response(problem: Problem) -> HttpResponse:
    return JsonResponse(problem.body(), status=problem.status, headers={"Cache-Control": "no-store"})


def _validation(error: ValidationError) -> Problem:
    """Say which field, and what it should have been. `unknown_field` has a code of its own (contract,
    section 3).
    """
    first: dict[str, Any] = dict(error.errors[0]) if error.errors else {}
    where = ".".join(
        shown(str(part)) for part in first.get("loc", ()) if part not in {"body", "query", "path", "payload"}
    )
    if first.get("type") == "extra_forbidden":
        return Problem(400, "unknown_field", f"Unknown field {where!r}; check its spelling.", field=where)
    return Problem(
        400, "invalid_field", f"{where or 'The request'}: {first.get('msg', 'not valid')}.", field=where
    )


def install_handlers(api: NinjaAPI) -> None:
    """Give `api` the contract's error shape for everything that can go wrong before or inside a route."""

    @api.exception_handler(Problem)
    def _problem(_request: HttpRequest, error: Problem) -> HttpResponse:
        return problem_response(error)

    @api.exception_handler(ValidationError)
    def _invalid(_request: HttpRequest, error: ValidationError) -> HttpResponse:
        return problem_response(_validation(error))

    @api.exception_handler(AuthenticationError)
    def _anonymous(_request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
        return problem_response(Problem(401, "not_signed_in", "Sign in, or send a token or a signature."))

    @api.exception_handler(HttpError)
    def _http(_request: HttpRequest, error: HttpError) -> HttpResponse:
        if isinstance(error.__cause__, Problem):  # what our parser said, wrapped by ninja
            return problem_response(error.__cause__)
        code = "bad_json" if error.status_code == 400 else "request_refused"
        return problem_response(Problem(error.status_code, code, str(error)))

    @api.exception_handler(Http404)
    def _missing(_request: HttpRequest, _error: Http404) -> HttpResponse:
        return problem_response(Problem(404, "not_found", "There is nothing at this address."))

    @api.exception_handler(PermissionDenied)
    def _forbidden(_request: HttpRequest, _error: PermissionDenied) -> HttpResponse:
        return problem_response(Problem(403, "forbidden", "Your role does not allow this."))

    @api.exception_handler(RequestDataTooBig)
    def _too_big(_request: HttpRequest, _error: RequestDataTooBig) -> HttpResponse:
        return problem_response(Problem(413, "body_too_large", "The body is larger than this route takes."))

    @api.exception_handler(SuspiciousOperation)
    def _suspicious(_request: HttpRequest, _error: SuspiciousOperation) -> HttpResponse:
        return problem_response(Problem(400, "bad_request", "This request cannot be read."))


def shown(name: str) -> str:
    """A caller's word as a sentence may repeat it: short, and one line."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name[:61])
    return plain if len(plain) <= 60 else f"{plain[:59]}…"


def refuse_unknown_query(request: HttpRequest, known: Iterable[str]) -> None:
    """An unknown or repeated query parameter is a 400 `unknown_field`, so that a typo never widens a query."""
    refuse_nul(request.GET)
    allowed = set(known)
    for name, values in request.GET.lists():
        if name not in allowed:
            raise Problem(
                400,
                "unknown_field",
                f"Unknown query parameter {shown(name)!r}; known are {', '.join(sorted(allowed)) or 'none'}.",
                field=shown(name),
            )
        if len(values) > 1:
            raise Problem(
                400,
                "repeated_field",
                f"Query parameter {name!r} was sent {len(values)} times; send it once.",
                field=name,
            )


def refuse_body(request: HttpRequest) -> None:
    """For writes that take no body: one that says something is a 400, so that nobody believes it was heard."""
    if request.body.strip() not in {b"", b"{}"}:
        raise Problem(400, "unknown_field", "This route takes no body; send it empty.")
