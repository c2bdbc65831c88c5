"""Replay stores that processes share: a SQLite file, or PostgreSQL. Both survive a restart and fail closed.

What was dropped because it had expired stays refused when a clock steps back: `forgotten_before` only moves
forward.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provider_federation.protocol.replay import ReplayStoreFull

if TYPE_CHECKING:
    import psycopg

_SWEEP_EVERY = 60.0
_WAIT = 2.0
_LOCK = 0x70665F7265706C61  # "pf_repla": the advisory lock between adding (shared) and sweeping (alone)

# In one go and with the write lock from the start: several processes may open a new file at once.
_SQLITE_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS replay_used (
    id INTEGER PRIMARY KEY, key_id TEXT NOT NULL, token TEXT NOT NULL, expires REAL NOT NULL,
    UNIQUE (key_id, token)
);
CREATE INDEX IF NOT EXISTS replay_used_expires ON replay_used (expires);
CREATE TABLE IF NOT EXISTS replay_mark (
    id INTEGER PRIMARY KEY CHECK (id = 1), forgotten_before REAL NOT NULL
);
INSERT OR IGNORE INTO replay_mark VALUES (1, 0);
COMMIT;
"""
_POSTGRES_TABLES = """
CREATE TABLE IF NOT EXISTS provider_federation_replay (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key_id text NOT NULL, token text NOT NULL,
    expires double precision NOT NULL, UNIQUE (key_id, token)
);
CREATE INDEX IF NOT EXISTS provider_federation_replay_expires ON provider_federation_replay (expires);
CREATE TABLE IF NOT EXISTS provider_federation_replay_mark (
    id integer PRIMARY KEY CHECK (id = 1), forgotten_before double precision NOT NULL
);
INSERT INTO provider_federation_replay_mark VALUES (1, 0) ON CONFLICT DO NOTHING;
"""


class SqliteReplayStore:
    """A ReplayStore in one SQLite file, for the processes of one machine; at most `capacity` live entries.

    `wait` is how many seconds it waits for another process before it raises.
    """

    blocking = True

    def __init__(self, path: str | Path, capacity: int = 1_000_000, wait: float = _WAIT) -> None:
        self._path = Path(path)
        self._wait = wait
        self._capacity = capacity
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._sweep_at = float("-inf")

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """See ReplayStore. Raises ReplayStoreFull, sqlite3.Error."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back what raised
                self._sweep(connection, now)
                return self._add(connection, key_id, token, expires)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():  # never across a fork
            connection = sqlite3.connect(
                self._path, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute(
                    "PRAGMA synchronous = FULL"
                )  # what was accepted stays used after a power cut
                connection.executescript(_SQLITE_TABLES)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._process = connection, os.getpid()
        return self._connection

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        if abs(now - self._sweep_at) < _SWEEP_EVERY:
            return
        connection.execute("UPDATE replay_mark SET forgotten_before = max(forgotten_before, ?)", (now,))
        connection.execute(
            "DELETE FROM replay_used WHERE expires < (SELECT forgotten_before FROM replay_mark)"
        )
        self._sweep_at = now

    def _add(self, connection: sqlite3.Connection, key_id: str, token: str, expires: float) -> bool:
        added = connection.execute(
            "INSERT INTO replay_used (key_id, token, expires) SELECT ?1, ?2, ?3 FROM replay_mark"
            " WHERE forgotten_before <= ?3 ON CONFLICT DO NOTHING",
            (key_id, token, expires),
        )
        if added.rowcount != 1:
            return False
        _check_capacity(connection.execute, "replay_used", self._capacity)
        return True


class PostgresReplayStore:
    """A ReplayStore in PostgreSQL, for processes on any hosts; at most `capacity` live entries.

    `connect` is a connection string or a function that gives a new psycopg connection; a process keeps one.
    """

    blocking = True

    def __init__(
        self, connect: str | Callable[[], psycopg.Connection[Any]], capacity: int = 1_000_000
    ) -> None:
        self._open = _opener(connect) if isinstance(connect, str) else connect
        self._capacity = capacity
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._process = 0
        self._sweep_at = float("-inf")

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """See ReplayStore. Raises ReplayStoreFull, psycopg.Error."""
        with self._lock:
            connection = self._connect()
            try:
                with connection.transaction():
                    self._sweep(connection, now)
                with connection.transaction():
                    return self._add(connection, key_id, token, expires)
            finally:
                if connection.broken:
                    self._connection = None

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed or self._process != os.getpid():
            connection = self._open()
            connection.autocommit = True
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                connection.execute(_POSTGRES_TABLES)
            self._connection, self._process = connection, os.getpid()
        return self._connection

    def _sweep(self, connection: psycopg.Connection[Any], now: float) -> None:
        if abs(now - self._sweep_at) < _SWEEP_EVERY:
            return
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            "UPDATE provider_federation_replay_mark SET forgotten_before = greatest(forgotten_before, %s)",
            (now,),
        )
        connection.execute(
            "DELETE FROM provider_federation_replay"
            " WHERE expires < (SELECT forgotten_before FROM provider_federation_replay_mark)"
        )
        self._sweep_at = now

    def _add(self, connection: psycopg.Connection[Any], key_id: str, token: str, expires: float) -> bool:
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_LOCK,))
        added = connection.execute(
            "INSERT INTO provider_federation_replay (key_id, token, expires)"
            " SELECT %(key_id)s, %(token)s, %(expires)s FROM provider_federation_replay_mark"
            " WHERE forgotten_before <= %(expires)s ON CONFLICT DO NOTHING",
            {"key_id": key_id, "token": token, "expires": expires},
        )
        if added.rowcount != 1:
            return False
        _check_capacity(connection.execute, "provider_federation_replay", self._capacity)
        return True


def _opener(url: str) -> Callable[[], psycopg.Connection[Any]]:
    def connect() -> psycopg.Connection[Any]:
        import psycopg

        return psycopg.connect(
            url, connect_timeout=round(_WAIT), options=f"-c statement_timeout={_WAIT * 1000:.0f}"
        )

    return connect


def _check_capacity(execute: Callable[[str], Any], table: str, capacity: int) -> None:
    """ReplayStoreFull when there are more rows; counted only where the span of ids allows for that."""
    span = execute(f"SELECT max(id) - min(id) + 1 FROM {table}").fetchone()[0]  # noqa: S608  our own two tables
    if span > capacity and execute(f"SELECT count(*) FROM {table}").fetchone()[0] > capacity:  # noqa: S608  as above
        raise ReplayStoreFull
