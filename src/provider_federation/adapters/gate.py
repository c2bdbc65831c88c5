"""What every framework adapter does the same way around `verify`: no framework in here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Required, TypedDict, TypeVar

from provider_federation.protocol import Keyring, Policy, Principal, Refused, ReplayStore, Request, verify
from provider_federation.protocol.core import check_head
from provider_federation.protocol.grammar import SAFE_METHODS, carries_federation

T = TypeVar("T")

_log = logging.getLogger(__name__)

OnRefused = Callable[[str, Mapping[str, str | None]], None]


class GateOptions(TypedDict, total=False):
    """The keywords of `Gate`, for adapters that take them over."""

    keyring: Required[Keyring]
    policy: Required[Policy]
    replay: Required[ReplayStore]
    now: Callable[[], float]
    enabled: bool
    on_refused: OnRefused | None
    failures: FailureCounter | None


class FailureCounter:
    """Counts failures by name within a minute; bounded, the oldest name is forgotten first."""

    def __init__(self, limit: int = 100, window: float = 60.0, capacity: int = 4096) -> None:
        self.limit = limit
        self._window = window
        self._capacity = capacity
        self._counts: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def count(self, name: str, now: float) -> int:
        """One more failure of `name`; how many that makes in its window."""
        with self._lock:
            since, count = self._counts.pop(name, (now, 0))
            if not 0 <= now - since < self._window:
                since, count = now, 0
            if len(self._counts) >= self._capacity:
                del self._counts[next(iter(self._counts))]
            self._counts[name] = (since, count + 1)
            return count + 1


class Gate:
    """Verifies with one keyring, policy and replay store; answers only with a Principal or Refused.

    `now` gives seconds since 1970 UTC. `on_refused(code, facts)` gets the exact code for the audit log, and
    method, path, peer and key_id; what is rate limited is told once a minute. With `enabled=False` every
    request is an anonymous one.
    """

    def __init__(
        self,
        *,
        keyring: Keyring,
        policy: Policy,
        replay: ReplayStore,
        now: Callable[[], float] = time.time,  # noqa: TID251  kit is out of reach here; our own apps pass its clock
        enabled: bool = True,
        on_refused: OnRefused | None = None,
        failures: FailureCounter | None = None,
    ) -> None:
        self.keyring, self.policy, self.replay, self.now = keyring, policy, replay, now
        self.enabled = enabled
        self.on_refused = on_refused
        self.failures = failures or FailureCounter()

    @property
    def blocking(self) -> bool:
        """Whether `admit` does I/O and belongs in a thread."""
        return bool(getattr(self.replay, "blocking", False))

    def concerns(self, names: Iterable[str]) -> bool:
        """Whether a request with these header names is a federation request here."""
        return self.enabled and carries_federation(names)

    def check_head(self, request: Request) -> None:
        """Raises Refused where that is certain before the body is read; `request.body` is empty here."""
        _guarded(lambda: check_head(request, self.keyring, self.policy, self.now()))
        if not request.authority:
            raise Refused("bad_framing")

    def admit(self, request: Request) -> Principal:
        """The principal, or Refused."""
        principal = _guarded(
            lambda: verify(request, self.keyring, self.policy, now=self.now(), replay=self.replay)
        )
        if request.method not in SAFE_METHODS and not principal.may_write:
            raise Refused("scope_not_allowed", key_id=principal.key_id)
        return principal

    def report(self, refused: Refused, request: Request) -> Refused:
        """Counts and audits; returns the refusal to answer with.

        Only failures are limited. A good signature always passes, so that nobody can lock a portal out by
        failing in its name; what the limit saves is the audit log.
        """
        return _guarded(lambda: self._report(refused, request))

    def _report(self, refused: Refused, request: Request) -> Refused:
        over = 0
        if refused.status == 401:
            now = self.now()
            counted = [self.failures.count(f"peer {request.peer}", now)]
            if refused.key_id is not None:
                counted.append(self.failures.count(f"key {refused.key_id}", now))
            over = max(counted) - self.failures.limit
        answer = Refused("rate_limited", key_id=refused.key_id) if over > 0 else refused
        if self.on_refused is not None and over <= 1:
            path = request.target.partition("?")[0]
            facts = {"method": request.method, "path": path, "peer": request.peer, "key_id": refused.key_id}
            self.on_refused(answer.code, facts)
        return answer


def _guarded(step: Callable[[], T]) -> T:
    """What a fault in here becomes: a refusal that says nothing, never the handler."""
    try:
        return step()
    except Refused:
        raise
    except Exception:  # noqa: BLE001  logged, and answered as a 500 that tells nothing
        _log.exception("a federation request could not be checked")
        raise Refused("internal_error") from None
