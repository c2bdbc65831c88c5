"""Who may see a page. Every view of this package goes through `page`; only signing in is open."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from provider_federation.instance.pages.errors import error_page, method_page, problem_page
from provider_federation.instance.people.access import person_of
from provider_federation.instance.people.models import Person
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem

View = Callable[..., HttpResponse]
_READS = ("GET", "HEAD")
_log = get_logger(__name__)


def page(permission: str, *, writes: bool = False) -> Callable[[View], View]:
    """For signed-in people whose role holds `permission`; GET and HEAD, with `writes` POST as well.

    Nobody signed in: a redirect to the sign-in. Wrong role: 403. A Problem from a service becomes its page.
    """
    methods = (*_READS, "POST") if writes else _READS

    def decorate(view: View) -> View:
        @told
        @wraps(view)
        def guarded(request: HttpRequest, **arguments: object) -> HttpResponse:
            person = person_of(request)
            if person is None:
                return to_sign_in(request)
            if not person.may(permission):
                raise PermissionDenied
            if request.method not in methods:
                return method_page(methods)
            return view(request, **arguments)

        return guarded

    return decorate


def signed_in(request: HttpRequest) -> Person:
    """The person behind a guarded view's request."""
    person = person_of(request)
    if person is None:
        raise PermissionDenied
    return person


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    """To the sign-in, and back here afterwards. A write comes back to its confirmation, its fields are not kept."""
    wanted = request.get_full_path() if request.method in _READS else request.path
    return HttpResponseRedirect(f"{reverse('sign_in')}?{urlencode({'next': wanted})}")


def told(view: View) -> View:
    """A Problem from a service, or a database that is busy, becomes its page."""

    @wraps(view)
    def answered(request: HttpRequest, **arguments: object) -> HttpResponse:
        try:
            return view(request, **arguments)
        except Problem as problem:
            return problem_page(problem)
        except OperationalError as error:
            _log.warning("database unavailable", error=type(error).__name__)
            sentence = "Nothing was changed. Wait a moment, then load this page again."
            return error_page(503, "The database is busy", sentence)

    return answered
