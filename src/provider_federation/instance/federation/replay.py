"""Where used signatures are remembered: beside the instance's data, shared by all its processes."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import connection

from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import ReplayStore


def replay_store() -> ReplayStore:
    """PostgreSQL where the instance lives there, a file of its own otherwise: it must not wait for the app's
    writers.
    """
    if connection.vendor == "postgresql":
        return PostgresReplayStore(settings.DATABASE_URL)
    return SqliteReplayStore(Path(settings.DATA_DIR) / "replay.sqlite3")
