"""The portal's JSON surface: every feature's router under one OpenAPI document (contract, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from ninja import NinjaAPI

from provider_federation import __version__
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import install_handlers, problem_response
from provider_federation.kit.web.openapi import DescribedApi
from provider_federation.portal.billing_runs.api import router as billing_runs
from provider_federation.portal.directory.api import router as directory
from provider_federation.portal.fleet.api import router as fleet
from provider_federation.portal.receivables.api import router as receivables
from provider_federation.portal.reconciliation.api import router as reconciliation
from provider_federation.portal.reports.api import router as reports
from provider_federation.portal.revenue.api import router as revenue
from provider_federation.portal.revenue.api_events import router as stripe_events
from provider_federation.portal.revenue.webhook import router as webhooks
from provider_federation.portal.subscriptions.api import ai_terms, entitlements
from provider_federation.portal.subscriptions.api import router as subscriptions

View = Callable[..., HttpResponseBase]
_log = get_logger(__name__)


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


def _database_away(_request: HttpRequest, error: OperationalError) -> HttpResponse:
    """Busy or away: a 503 that a program repeats. Every write of ours may be sent again."""
    _log.warning("database unavailable", error=type(error).__name__)
    sentence = "The database is busy or away; send this again, nothing happens twice."
    return problem_response(Problem(503, "database_unavailable", sentence))


def make_api() -> NinjaAPI:
    """Collect the features' routers below /api."""
    api = DescribedApi(
        title="Provider Portal",
        version=__version__,
        urls_namespace="portal-api",
        docs_url=None,
        openapi_url="/openapi.json",
        docs_decorator=_for_admins,
    )
    install_handlers(api)
    api.exception_handler(OperationalError)(_database_away)
    api.add_router("/provider/instances", directory)
    api.add_router("/provider", fleet)
    api.add_router("/provider/billing/subscriptions", subscriptions)
    api.add_router("/provider/billing/entitlements", entitlements)
    api.add_router("/provider/billing/ai-terms", ai_terms)
    api.add_router("/provider/billing/runs", billing_runs)
    api.add_router("/provider/billing", revenue)
    api.add_router("/provider/billing", stripe_events)
    api.add_router("/provider/billing", receivables)
    api.add_router("/provider/billing", reconciliation)
    api.add_router("/provider/reports", reports)
    api.add_router("/webhooks", webhooks)
    return api


api = make_api()
