"""Replay stores that processes share: a SQLite file, or PostgreSQL. Both survive a restart and fail closed.

Each of them is a ReplayStore and a Ratchet: give one object to a gate for both. What was dropped because it had
expired stays refused when a clock steps back.
"""

from provider_federation.adapters.replay_postgres import PostgresReplayStore
from provider_federation.adapters.replay_sqlite import SqliteReplayStore

__all__ = ["PostgresReplayStore", "SqliteReplayStore"]
