"""What is remembered between requests: which were used, and which pairs have left the legacy scheme."""

from __future__ import annotations

import threading
from typing import Protocol


class ReplayStore(Protocol):
    """Remembers what was used until it could not be used again anyway.

    A store that does I/O sets `blocking = True`, so that an adapter keeps it off the event loop. Anything
    that `remember` raises is answered as `replay_store_unavailable`: without memory no write is accepted.
    """

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """True when (key_id, token) is new and now kept until `expires`; False when it was used before.

        Atomic: of all callers with the same pair, in any process that shares the store, one gets True.
        Times are seconds since 1970 UTC. Tokens of different keys do not meet.
        """
        ...


class ReplayStoreFull(Exception):
    """The store holds as many live entries as it may; forgetting one would allow a replay."""


class MemoryReplayStore:
    """A ReplayStore of one process, at most `capacity` live entries; it forgets all when the process ends."""

    blocking = False

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._forgotten = float("-inf")
        self._next_sweep = min(1024, capacity)

    def remember(self, key_id: str, token: str, expires: float, now: float) -> bool:
        """See ReplayStore. Raises ReplayStoreFull."""
        with self._lock:
            if len(self._until) >= self._next_sweep:
                self._sweep(now)
            if expires <= self._forgotten or (key_id, token) in self._until:
                return False
            if len(self._until) >= self._capacity:
                raise ReplayStoreFull
            self._until[key_id, token] = expires
            return True

    def _sweep(self, now: float) -> None:
        # What was dropped may come back when the clock steps back. The mark is the last moment that any of it was good
        # until: a clock that leapt ahead and came back costs the time of one window, not of the leap.
        dropped = (until for until in self._until.values() if until < now)
        self._forgotten = max(self._forgotten, max(dropped, default=self._forgotten))
        self._until = {pair: until for pair, until in self._until.items() if until >= now}
        self._next_sweep = min(self._capacity, max(1024, 2 * len(self._until)))


class Ratchet(Protocol):
    """Which pairs of portal and instance (`Key.pair`) have once used v2: legacy is over for them.

    Nothing here resets one; an operator does. What either call raises is answered as
    `replay_store_unavailable`.
    """

    def is_set(self, pair: str) -> bool:
        """Whether this pair has used v2."""
        ...

    def set(self, pair: str, now: float) -> None:
        """From `now` (seconds since 1970 UTC) on it has. Setting it again changes nothing."""
        ...


class MemoryRatchet:
    """A Ratchet of one process, which forgets when the process ends."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def is_set(self, pair: str) -> bool:
        """See Ratchet."""
        return pair in self._since

    def set(self, pair: str, now: float) -> None:
        """See Ratchet."""
        self._since.setdefault(pair, now)

    def reset(self, pair: str) -> None:
        """Legacy is possible again, until the pair's next v2 request."""
        self._since.pop(pair, None)
