"""Used requests and ratchets in PostgreSQL, for processes on any number of hosts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from provider_federation.protocol.replay import ReplayStoreFull

if TYPE_CHECKING:
    import psycopg

_SWEEP_EVERY = 60.0
_LOCK = 0x70665F7265706C61  # "pf_repla": the advisory lock between adding (shared) and sweeping (alone)

_TABLES = """
CREATE TABLE IF NOT EXISTS provider_federation_replay (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key_id text NOT NULL, token text NOT NULL,
    expires double precision NOT NULL, UNIQUE (key_id, token)
);
CREATE INDEX IF NOT EXISTS provider_federation_replay_expires ON provider_federation_replay (expires);
CREATE TABLE IF NOT EXISTS provider_federation_replay_mark (
    id integer PRIMARY KEY CHECK (id = 1), forgotten double precision NOT NULL
);
INSERT INTO provider_federation_replay_mark VALUES (1, '-infinity') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS provider_federation_ratchet (pair text PRIMARY KEY, since double precision NOT NULL);
"""


class PostgresReplayStore:
    """A ReplayStore and Ratchet in the database at `url`; at most `capacity` live entries. Needs psycopg.

    A process keeps one connection. `wait` is how many seconds a call may take, the wait for other threads
    included; each call raises psycopg.Error or TimeoutError when the database does not answer in that time.
    """

    blocking = True

    def __init__(self, url: str, capacity: int = 1_000_000, wait: float = 2.0) -> None:
        self._url = url
        self._capacity = capacity
        self._wait = wait
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._process = 0
        self._sweep_at = float("-inf")
        self._deadline = 0.0

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """See ReplayStore. Raises ReplayStoreFull too."""
        with self._locked() as connection:
            if abs(now - self._sweep_at) >= _SWEEP_EVERY:
                self._sweep(connection, now)
            try:
                return self._add(connection, key_id, token, expires)
            except ReplayStoreFull:
                self._sweep(connection, now)
                return self._add(connection, key_id, token, expires)

    def is_set(self, pair: str) -> bool:
        """See Ratchet."""
        return pair in self.ratchets(pair)

    def set(self, pair: str, now: float) -> None:
        """See Ratchet. Costs a read where it is set already."""
        if not self.is_set(pair):
            with self._locked() as connection:
                connection.execute(
                    "INSERT INTO provider_federation_ratchet VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (pair, now),
                )

    def reset(self, pair: str) -> None:
        """An operator's word that `pair` may use the legacy scheme again, until its next v2 request."""
        with self._locked() as connection:
            connection.execute("DELETE FROM provider_federation_ratchet WHERE pair = %s", (pair,))

    def ratchets(self, pair: str | None = None) -> dict[str, float]:
        """The pairs that have moved to v2, and since when; of all pairs, or of one."""
        with self._locked() as connection:
            rows = connection.execute(
                "SELECT pair, since FROM provider_federation_ratchet WHERE %(pair)s::text IS NULL OR pair = %(pair)s",
                {"pair": pair},
            )
            return dict(rows.fetchall())

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            self._drop()

    @contextmanager
    def _locked(self) -> Iterator[psycopg.Connection[Any]]:
        deadline = time.monotonic() + self._wait
        if not self._lock.acquire(timeout=self._wait):
            raise TimeoutError("the other threads wait for the replay store as well")
        try:
            self._deadline = deadline
            yield self._connect()
        except Exception:
            if self._connection is not None and (self._connection.broken or time.monotonic() > deadline):
                self._drop()  # what it waits for may come later, and would be taken for the next answer
            raise
        finally:
            self._lock.release()

    def _drop(self) -> None:
        if self._connection is not None and self._process == os.getpid():  # a forked one is the parent's
            self._connection.close()
        self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed or self._process != os.getpid():
            self._connection = self._open()
            self._process = os.getpid()
        return self._connection

    def _open(self) -> psycopg.Connection[Any]:
        import psycopg

        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=max(2, round(self._wait)))
        try:
            # What another swept while we waited for the lock has to be seen, whatever the database's default is.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            wait = connection.wait
            connection.wait = lambda generator, *options: wait(self._bounded(generator), *options)  # type: ignore[method-assign]  # psycopg has no deadline of its own
            connection.execute(f"SET statement_timeout = {self._wait * 1000:.0f}")
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                connection.execute(_TABLES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bounded(self, conversation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """What psycopg says and waits for, ended at the deadline: a server that hangs says nothing."""
        import psycopg

        try:
            wanted = next(conversation)
            while True:
                ready = yield wanted
                if time.monotonic() > self._deadline:
                    raise psycopg.OperationalError("the replay store did not answer in time")
                wanted = conversation.send(ready)
        except StopIteration as done:
            return done.value

    def _sweep(self, connection: psycopg.Connection[Any], now: float) -> None:
        # The mark is the last moment that anything dropped was good until: a clock that jumped ahead and came
        # back costs the time of one window, not of the jump.
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(
                "UPDATE provider_federation_replay_mark SET forgotten = greatest(forgotten,"
                " (SELECT max(expires) FROM provider_federation_replay WHERE expires < %s))",
                (now,),
            )
            connection.execute("DELETE FROM provider_federation_replay WHERE expires < %s", (now,))
        self._sweep_at = now

    def _add(self, connection: psycopg.Connection[Any], key_id: str, token: str, expires: float) -> bool:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_LOCK,))
            added = connection.execute(
                "INSERT INTO provider_federation_replay (key_id, token, expires)"
                " SELECT %(key_id)s, %(token)s, %(expires)s FROM provider_federation_replay_mark"
                " WHERE forgotten < %(expires)s ON CONFLICT DO NOTHING",
                {"key_id": key_id, "token": token, "expires": expires},
            )
            if added.rowcount != 1:
                return False
            if self._is_over(connection):
                raise ReplayStoreFull
            return True

    def _is_over(self, connection: psycopg.Connection[Any]) -> bool:
        """More rows than allowed; counted only where the span of ids leaves room for that."""
        span = connection.execute("SELECT max(id) - min(id) + 1 FROM provider_federation_replay").fetchone()
        if span is None or span[0] is None or span[0] <= self._capacity:
            return False
        count = connection.execute("SELECT count(*) FROM provider_federation_replay").fetchone()
        return count is not None and bool(count[0] > self._capacity)
