"""What every proven request meets before its view: the owner's freeze, and the note of its key's last use."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from provider_federation.instance.federation.asgi import ENROL_PATH
from provider_federation.instance.federation.services import note_use
from provider_federation.instance.invoicing.services import provider_policy
from provider_federation.instance.people.access import principal_of
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import problem_response

# What a frozen provider may still ask: whether this instance lives, and that it is frozen.
_STAYS_OPEN = frozenset({"/api/system/federation.status", "/api/federation/policy"})


class ProviderMiddleware:
    """Inside the federation gate, outside the views. At the enrolment route codes sign, and no key of the portal's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        principal = principal_of(request)
        if principal is not None and request.path_info != ENROL_PATH:
            try:
                note_use(principal)
                _check_freeze(request)
            except Problem as problem:
                return problem_response(problem)
        return self.get_response(request)


def _check_freeze(request: HttpRequest) -> None:
    if request.path_info not in _STAYS_OPEN and provider_policy().frozen:
        raise Problem(403, "frozen", "The owner of this instance has frozen federation.")
