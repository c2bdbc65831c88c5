"""A named lock over all threads and processes of one instance, held during calls to Stripe without an open
transaction.

On PostgreSQL it is a session's advisory lock, on SQLite a locked file in the data folder. Either ends with
the process that holds it, so that nothing has to expire after a crash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from provider_federation.kit.clock import monotonic
from provider_federation.kit.problem import Problem

_LOOK_EVERY = 0.03


@contextmanager
def exclusive(kind: str, name: str, *, wait: float, busy: Problem) -> Iterator[None]:
    """Hold the lock `name` of its kind; raise `busy` when somebody else still does after `wait` seconds.

    Kinds nest in one order only, `request` around `invoice`, so that nobody waits in a circle.
    """
    digest = hashlib.sha256(f"{kind}:{name}".encode()).digest()
    hold: _Advisory | _File = _Advisory(digest) if connection.vendor == "postgresql" else _File(kind, digest)
    deadline = monotonic() + wait
    while not hold.acquire():
        if monotonic() > deadline:
            hold.close()
            raise busy
        time.sleep(_LOOK_EVERY)
    try:
        yield
    finally:
        hold.close()


class _Advisory:
    def __init__(self, digest: bytes) -> None:
        self.number = int.from_bytes(digest[:8], "big", signed=True)
        self.held = False

    def acquire(self) -> bool:
        self.held = self._ask("SELECT pg_try_advisory_lock(%s)")
        return self.held

    def close(self) -> None:
        if self.held:
            self._ask("SELECT pg_advisory_unlock(%s)")

    def _ask(self, sql: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.number])
            row = cursor.fetchone()
        return bool(row and row[0])


class _File:
    def __init__(self, kind: str, digest: bytes) -> None:
        folder = Path(settings.DATA_DIR) / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        # A fixed set of files per kind instead of one per name: two names that share a file only wait for
        # each other.
        self.descriptor = os.open(folder / f"{kind}-{digest[0]:02x}.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self.descriptor)
