"""Who may call a route: a signed federation request, or a signed-in person whose role allows it.

The federation middleware has judged the signature before Django sees the request. What remains here is the
scope, the person's role, and for cookies the protection against cross-site requests.
"""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest
from ninja.utils import check_csrf

from provider_federation.instance.people.models import Person
from provider_federation.kit.problem import Problem

Scope = Literal["read", "provider"]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def principal_of(request: HttpRequest) -> Any | None:
    """The `Principal` of a signed request, or None."""
    scope = getattr(request, "scope", {})
    return scope.get("provider_federation")


def person_of(request: HttpRequest) -> Person | None:
    """Whoever is signed in, or None."""
    return request.user if request.user.is_authenticated else None


def caller_of(request: HttpRequest) -> str:
    """A stable name of the caller: `provider` for any key of the portal (keys rotate), `person:<id>`
    otherwise.
    """
    if principal_of(request) is not None:
        return "provider"
    return f"person:{request.user.pk}"


def authorize(request: HttpRequest, permission: str, scope: Scope) -> str:
    """The caller's name when the request may go on; Problem 401 or 403 otherwise.

    `permission` is what a person's role must hold; `scope` is the least that a signed request must carry
    (`provider` stands above `read`). A signed request acts as the provider only, whatever cookies it brings.
    """
    principal = principal_of(request)
    if principal is not None:
        if principal.scope not in {"provider", scope}:
            raise Problem(403, "scope_not_allowed", "A key with the scope read may not call this route.")
        return caller_of(request)
    person = person_of(request)
    if person is None:
        raise Problem(401, "not_signed_in", "Sign in, or send a signed provider request.")
    if request.method not in _SAFE_METHODS and check_csrf(request) is not None:
        raise Problem(403, "csrf_failed", "The CSRF token is missing or wrong; load the page again.")
    if not person.may(permission):
        raise Problem(403, "forbidden", "Your role does not allow this.")
    return caller_of(request)


class Access:
    """`auth=Access("billing.manage")` of a ninja route: `authorize` with the scope that the route needs."""

    def __init__(self, permission: str, scope: Scope = "provider") -> None:
        self.permission = permission
        self.scope: Scope = scope

    def __call__(self, request: HttpRequest) -> str:
        return authorize(request, self.permission, self.scope)


class ProviderOnly(Access):
    """A signed request with the scope `provider`; a person, even an owner, is answered `sentence`."""

    def __init__(self, sentence: str) -> None:
        super().__init__("instance.manage")
        self.sentence = sentence

    def __call__(self, request: HttpRequest) -> str:
        if principal_of(request) is None and person_of(request) is not None:
            raise Problem(403, "forbidden", self.sentence)
        return super().__call__(request)
