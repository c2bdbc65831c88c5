"""Authentication for the JSON routes: a signed-in operator, or a program's token; never both."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from provider_federation.kit.problem import Problem
from provider_federation.portal.operators.models import ApiToken, Operator
from provider_federation.portal.operators.services import actor_of, allowed, find_token


class OperatorOrToken(AuthBase):
    """django-ninja auth: returns the operator or token, sets `request.actor`; raises `Problem` 401 or 403."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, permission: str) -> None:
        allowed(None, permission)  # an unknown permission stops the process at import, not a request at night
        self.permission = permission
        super().__init__()

    def __call__(self, request: HttpRequest) -> Operator | ApiToken:
        caller = _caller(request)
        if not allowed(caller, self.permission):
            raise Problem(403, "forbidden", f"Your role does not allow this; it needs {self.permission}.")
        request.actor = actor_of(caller)  # type: ignore[attr-defined]  # the attribute is what this is for
        return caller


def operator_or_token(permission: str) -> OperatorOrToken:
    """`@router.get(..., auth=operator_or_token("billing.read"))`."""
    return OperatorOrToken(permission)


def _caller(request: HttpRequest) -> Operator | ApiToken:
    # A request that brings a token is judged by the token alone: it never falls through to the cookie.
    header = request.headers.get("Authorization")
    if header is not None:
        return _by_token(header)
    user: Any = request.user
    if not isinstance(user, Operator) or not user.is_active:
        raise Problem(401, "not_signed_in", "Sign in, or send an API token.")
    if check_csrf(request) is not None:
        raise Problem(403, "csrf_failed", "This write came without its CSRF token; reload and try again.")
    return user


def _by_token(header: str) -> ApiToken:
    scheme, _, value = header.partition(" ")
    token = find_token(value.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise Problem(401, "not_signed_in", "This token is not valid; make a new one under Operators.")
    return token
