"""Is this process alive, and can it serve: for load balancers and supervisors."""

from __future__ import annotations

import threading

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from provider_federation.kit.logs import get_logger

_log = get_logger(__name__)
_migrated = threading.Event()


@require_GET
def live(_request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers at all; touches nothing else."""
    return JsonResponse({"ok": True, "status": "live"})


@require_GET
def ready(_request: HttpRequest) -> JsonResponse:
    """200 when the database answers and every migration is applied; 503 with what fails otherwise."""
    try:
        pending = _pending_once()
        sentence = (
            f"{len(pending)} migrations are not applied; run `provider-federation instance migrate`"
            if pending
            else ""
        )
    except DatabaseError as error:
        _log.warning("not ready", error=type(error).__name__)
        sentence = "the database does not answer"
    if sentence:
        return JsonResponse({"ok": False, "error": sentence, "reason": "not_ready"}, status=503)
    return JsonResponse({"ok": True, "status": "ready"})


def _pending_once() -> list[str]:
    """Looked up until nothing is pending, then only the connection is tried: a process never loses a migration."""
    if _migrated.is_set():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return []
    pending = pending_migrations()
    if not pending:
        _migrated.set()
    return pending


def pending_migrations() -> list[str]:
    """`app.name` of every migration that this code has and the database has not."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]
