"""The account's rate limit, kept by all processes together: one row says when the next call may leave.

Each process books a few calls at a time, evenly spaced, and sleeps until its own; a 429 moves the row on for everybody.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque

from django.db import connection

from provider_federation.portal.database import lend_connection

_BLOCK = 4
_BOOK = """
INSERT INTO revenue_stripepace AS pace (account, free_at)
VALUES (%(account)s, extract(epoch FROM clock_timestamp()) + %(length)s)
    ON CONFLICT (account) DO UPDATE
   SET free_at = greatest(pace.free_at, extract(epoch FROM clock_timestamp())) + %(length)s
RETURNING free_at - %(length)s - extract(epoch FROM clock_timestamp())
"""
_SLOW = """
INSERT INTO revenue_stripepace AS pace (account, free_at)
VALUES (%(account)s, extract(epoch FROM clock_timestamp()) + %(length)s)
    ON CONFLICT (account) DO UPDATE
   SET free_at = greatest(pace.free_at, extract(epoch FROM clock_timestamp()) + %(length)s)
"""


class DatabasePace:
    """`stripe_account.Pace` over a PostgreSQL row. `a_second`: calls to the account, over all processes."""

    def __init__(self, api_key: str, a_second: float) -> None:
        self._account = hashlib.sha256(api_key.encode()).hexdigest()[:32]
        self._gap = 1 / a_second
        self._lock = threading.Lock()
        self._booked: deque[float] = deque()

    def wait(self) -> None:
        with self._lock:
            if not self._booked:
                self._book()
            at = self._booked.popleft()
        pause = at - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def slow_down(self, seconds: float) -> None:
        with self._lock:
            self._booked.clear()
        _run(_SLOW, account=self._account, length=seconds)
        lend_connection()

    def _book(self) -> None:
        wait = _run(_BOOK, account=self._account, length=self._gap * _BLOCK)
        lend_connection()  # who books may be a thread of a few calls' life
        first = time.monotonic() + max(0.0, wait)
        self._booked.extend(first + number * self._gap for number in range(_BLOCK))


def _run(query: str, **values: str | float) -> float:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return float(cursor.fetchone()[0]) if cursor.description else 0.0
