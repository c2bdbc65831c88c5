"""Used requests and ratchets in one SQLite file, for the processes of one machine."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from provider_federation.protocol.replay import ReplayStoreFull

_SWEEP_EVERY = 60.0

# In one go and with the write lock from the start: several processes may open a new file at once.
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS replay_used (
    id INTEGER PRIMARY KEY, key_id TEXT NOT NULL, token TEXT NOT NULL, expires REAL NOT NULL,
    UNIQUE (key_id, token)
);
CREATE INDEX IF NOT EXISTS replay_used_expires ON replay_used (expires);
CREATE TABLE IF NOT EXISTS replay_mark (id INTEGER PRIMARY KEY CHECK (id = 1), forgotten REAL NOT NULL);
INSERT OR IGNORE INTO replay_mark VALUES (1, -1e308);
CREATE TABLE IF NOT EXISTS ratchet (pair TEXT PRIMARY KEY, since REAL NOT NULL);
COMMIT;
"""


class SqliteReplayStore:
    """A ReplayStore and Ratchet in the file at `path`; at most `capacity` live entries.

    `wait` is how many seconds a call may wait for other threads and processes before it raises; each call
    raises sqlite3.Error or TimeoutError when the file cannot be had, read or written.
    """

    blocking = True

    def __init__(self, path: str | Path, capacity: int = 1_000_000, wait: float = 2.0) -> None:
        self._path = Path(path)
        self._wait = wait
        self._capacity = capacity
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._sweep_at = float("-inf")

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """See ReplayStore. Raises ReplayStoreFull too."""
        with self._writing() as connection:
            if abs(now - self._sweep_at) >= _SWEEP_EVERY:
                self._sweep(connection, now)
            added = connection.execute(
                "INSERT INTO replay_used (key_id, token, expires) SELECT ?1, ?2, ?3 FROM replay_mark"
                " WHERE forgotten < ?3 ON CONFLICT DO NOTHING",
                (key_id, token, expires),
            )
            if added.rowcount != 1:
                return False
            if self._is_over(connection):
                self._sweep(connection, now)
                if self._is_over(connection):
                    raise ReplayStoreFull
            return True

    def is_set(self, pair: str) -> bool:
        """See Ratchet."""
        return pair in self.ratchets(pair)

    def set(self, pair: str, now: float) -> None:
        """See Ratchet. Costs a read where it is set already."""
        if not self.is_set(pair):
            with self._writing() as connection:
                connection.execute("INSERT OR IGNORE INTO ratchet VALUES (?, ?)", (pair, now))

    def reset(self, pair: str) -> None:
        """An operator's word that `pair` may use the legacy scheme again, until its next v2 request."""
        with self._writing() as connection:
            connection.execute("DELETE FROM ratchet WHERE pair = ?", (pair,))

    def ratchets(self, pair: str | None = None) -> dict[str, float]:
        """The pairs that have moved to v2, and since when; of all pairs, or of one."""
        with self._locked() as connection:
            rows = connection.execute(
                "SELECT pair, since FROM ratchet WHERE ?1 IS NULL OR pair = ?1", (pair,)
            )
            return dict(rows.fetchall())

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=self._wait):
            raise TimeoutError("the other threads wait for the replay store as well")
        try:
            yield self._connect()
        finally:
            self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back what raised
                yield connection

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():  # never across a fork
            connection = sqlite3.connect(
                self._path, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
            try:
                # What was accepted stays used after a power cut, in either mode of the file. With a write-ahead log
                # that is one wait for the disk a request and not three; where others open the file as well, one of
                # them makes it.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_TABLES)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._process = connection, os.getpid()
        return self._connection

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        # The mark is the last moment that anything dropped was good until: a clock that jumped ahead and came
        # back costs the time of one window, not of the jump.
        connection.execute(
            "UPDATE replay_mark SET forgotten = max(forgotten,"
            " ifnull((SELECT max(expires) FROM replay_used WHERE expires < ?), forgotten))",
            (now,),
        )
        connection.execute("DELETE FROM replay_used WHERE expires < ?", (now,))
        self._sweep_at = now

    def _is_over(self, connection: sqlite3.Connection) -> bool:
        """More rows than allowed; counted only where the span of ids leaves room for that."""
        span = connection.execute("SELECT max(id) - min(id) + 1 FROM replay_used").fetchone()[0]
        if span is None or span <= self._capacity:
            return False
        return bool(connection.execute("SELECT count(*) FROM replay_used").fetchone()[0] > self._capacity)
