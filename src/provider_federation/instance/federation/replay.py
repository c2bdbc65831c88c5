"""Where used signatures and the ratchet are remembered: beside the instance's data, shared by all its processes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import connection

from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore


def replay_store() -> SqliteReplayStore | PostgresReplayStore:
    """PostgreSQL where the instance lives there, a file of its own otherwise: it must not wait for the app's
    writers. One per process and place.
    """
    if connection.vendor == "postgresql":
        return _postgres(settings.DATABASE_URL)
    return _sqlite(Path(settings.DATA_DIR) / "replay.sqlite3")


@cache
def _postgres(url: str) -> PostgresReplayStore:
    return PostgresReplayStore(url)


@cache
def _sqlite(path: Path) -> SqliteReplayStore:
    return SqliteReplayStore(path)
