"""Is this process alive, can it serve, and how is it doing. The first two are for load balancers, the
third for Prometheus.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from provider_federation.kit.logs import get_logger

_log = get_logger(__name__)
_LOOPBACK = {"127.0.0.1", "::1"}


@require_GET
def live(_request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers at all; touches nothing else."""
    return JsonResponse({"ok": True, "status": "live"})


@require_GET
def ready(_request: HttpRequest) -> JsonResponse:
    """200 when the database answers and every migration is applied; 503 with what fails otherwise."""
    checks = {"database": _database(), "migrations": _migrations()}
    failing = {name: sentence for name, sentence in checks.items() if sentence}
    if not failing:
        return JsonResponse({"ok": True, "status": "ready"})
    body = {
        "ok": False,
        "error": "; ".join(failing.values()),
        "reason": "not_ready",
        "failing": sorted(failing),
    }
    return JsonResponse(body, status=503)


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, to callers on this machine or with the bearer token of PORTAL_METRICS_TOKEN; 404 to
    anybody else.
    """
    if not _may_scrape(request):
        return JsonResponse(
            {"ok": False, "error": "There is nothing at this address.", "reason": "not_found"}, status=404
        )
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    from provider_federation.portal.metrics import registry

    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def pending_migrations() -> list[str]:
    """`app.name` of every migration that this code has and the database has not; raises DatabaseError
    without one.
    """
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def _may_scrape(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and hmac.compare_digest(token.encode(), given.encode()):
        return True
    # Behind a proxy on this machine every caller looks local; the proxy says so with a header, and then
    # the token decides.
    forwarded = "Forwarded" in request.headers or "X-Forwarded-For" in request.headers
    return not forwarded and request.META.get("REMOTE_ADDR") in _LOOPBACK


def _database() -> str:
    def ask() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return ""

    return _or_sentence(ask, "the database does not answer")


def _migrations() -> str:
    def ask() -> str:
        pending = pending_migrations()
        return (
            f"{len(pending)} migrations are not applied; run `provider-federation portal migrate`"
            if pending
            else ""
        )

    return _or_sentence(ask, "the state of the migrations cannot be read")


def _or_sentence(ask: Callable[[], str], sentence: str) -> str:
    try:
        return ask()
    except DatabaseError as error:
        _log.warning("not ready", check=sentence, error=type(error).__name__)
        return sentence
