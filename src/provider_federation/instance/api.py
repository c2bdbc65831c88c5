"""The instance's JSON API: every feature's router, strict, with every error in the contract's shape."""

from __future__ import annotations

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from provider_federation import __version__
from provider_federation.instance.disputes.api import router as disputes
from provider_federation.instance.entitlements.api import router as entitlements
from provider_federation.instance.federation.api import router as federation
from provider_federation.instance.federation.api_keys import router as federation_keys
from provider_federation.instance.invoicing.api import router as invoicing
from provider_federation.instance.people.access import authorize
from provider_federation.instance.usage.api import router as usage
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import install_handlers, problem_response
from provider_federation.kit.web.openapi import DescribedApi
from provider_federation.money import MoneyError

_log = get_logger(__name__)

api = DescribedApi(
    title="Provider Federation: client instance",
    version=__version__,
    urls_namespace="instance-api",
    openapi_url=None,
    docs_url=None,
)
install_handlers(api)
api.add_router("", invoicing)
api.add_router("", usage)
api.add_router("", federation)
api.add_router("", federation_keys)
api.add_router("", entitlements)
api.add_router("", disputes)


@api.exception_handler(MoneyError)
def _money(_request: HttpRequest, error: MoneyError) -> HttpResponse:
    return problem_response(Problem(400, error.code, error.message))


@api.exception_handler(OperationalError)
def _database(_request: HttpRequest, error: OperationalError) -> HttpResponse:
    _log.warning("database unavailable", error=type(error).__name__)
    return problem_response(
        Problem(
            503, "database_unavailable", "The database is busy or away; nothing was changed, send this again."
        )
    )


@require_GET
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI description: to everybody in development, otherwise to the instance's owners."""
    try:
        if not settings.DEVELOPMENT:
            authorize(request, "instance.manage", "provider")
    except Problem as problem:
        return problem_response(problem)
    return JsonResponse(api.get_openapi_schema(path_prefix="/api/"))
