"""The portal's JSON surface: every feature's router under one OpenAPI document (contract, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from ninja import NinjaAPI

from provider_federation import __version__
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import install_handlers, problem_response
from provider_federation.portal.directory.api import router as directory
from provider_federation.portal.fleet.api import router as fleet

View = Callable[..., HttpResponseBase]


def _for_admins(view: View) -> View:
    """The OpenAPI document is open in development and to signed-in admins; to anybody else it does not
    exist.
    """

    @wraps(view, assigned=())
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not (settings.DEVELOPMENT or (user.is_active and getattr(user, "role", "") == "admin")):
            return problem_response(Problem(404, "not_found", "There is nothing at this address."))
        return view(request, *args, **kwargs)

    return guarded


def make_api() -> NinjaAPI:
    """Collect the features' routers below /api."""
    api = NinjaAPI(
        title="Provider Portal",
        version=__version__,
        urls_namespace="portal-api",
        docs_url=None,
        openapi_url="/openapi.json",
        docs_decorator=_for_admins,
    )
    install_handlers(api)
    api.add_router("/provider/instances", directory)
    api.add_router("/provider", fleet)
    return api


api = make_api()
