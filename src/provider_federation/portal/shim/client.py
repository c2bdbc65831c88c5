"""The shim itself: deadlines, concurrency, retries. Every call ends in an Outcome."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.portal.shim.answers import judge
from provider_federation.portal.shim.calls import Call, Target
from provider_federation.portal.shim.guard import Address, BaseUrl, parse_base_url, resolve
from provider_federation.portal.shim.outcomes import (
    Answered,
    BadAnswer,
    Outcome,
    RefusedThere,
    TimedOut,
    Unreachable,
)
from provider_federation.portal.shim.signing import CannotSign, check_answer, signed_request
from provider_federation.portal.shim.transport import Failed, Reply, Transport, Wire
from provider_federation.protocol import Request

_CONNECT_SECONDS = 5.0
_FIRST_PAUSE = 0.1
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_RETRIED_FAILURES = frozenset({"connect_failed", "connection_lost", "dns_failed"})
_UNREACHABLE = frozenset({"tls_failed", *_RETRIED_FAILURES})
_log = get_logger(__name__)


@dataclass
class _HostSlots:
    free: asyncio.Semaphore
    users: int = 0


@dataclass
class _Progress:
    """How far a call has come: the time it started (monotonic seconds) and the attempts begun."""

    started: float = field(default_factory=clock.monotonic)
    attempts: int = 0


class Shim:
    """`concurrency` calls at once over all instances, `per_host` of them to one host. Use as an async context
    manager.

    `tls` replaces the system's trust store (for a provider with a certificate authority of its own). A host
    that hangs holds at most `per_host` slots until its calls' deadlines; there is no circuit breaker beyond
    that.
    """

    def __init__(
        self, *, concurrency: int = 200, per_host: int = 8, tls: ssl.SSLContext | None = None
    ) -> None:
        self._concurrency = concurrency
        self._per_host = per_host
        self._all = asyncio.Semaphore(concurrency)
        self._hosts: dict[str, _HostSlots] = {}
        self._transport = Transport(tls)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, value, traceback)

    async def call(self, target: Target, call: Call) -> Outcome:
        """One call. Its deadline includes waiting for a free slot. Raises nothing for what the other side
        did.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(call.timeout), self._slot(target):
                return await self._attempts(target, call, progress)
        except TimeoutError:
            return TimedOut(clock.monotonic() - progress.started, attempts=progress.attempts)

    async def call_many(self, pairs: Iterable[tuple[Target, Call]]) -> AsyncIterator[tuple[Target, Outcome]]:
        """Many calls; outcomes come as they are ready, in any order, one for each pair.

        `pairs` is read only as fast as outcomes are taken (at most four times `concurrency` ahead). A call's
        deadline runs from when it has its slot, so that waiting in a long queue times nobody out.
        """
        source = iter(pairs)
        ready: asyncio.Queue[tuple[Target, Outcome]] = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()
        open_calls = 0
        try:
            while True:
                while open_calls < self._concurrency * 4 and (pair := next(source, None)) is not None:
                    task = asyncio.create_task(self._queued(*pair, ready))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    open_calls += 1
                if not open_calls:
                    return
                yield await ready.get()
                open_calls -= 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def pages(self, target: Target, call: Call, *, page_cap: int = 100) -> AsyncIterator[Outcome]:
        """The pages of a list route, following `nextCursor` while there is more; ends with the first that is
        not ok.

        A list that repeats a cursor or goes past `page_cap` pages ends with BadAnswer `page_cap`.
        """
        seen: set[str] = set()
        for _ in range(page_cap):
            outcome = await self.call(target, call)
            yield outcome
            cursor = _next_cursor(outcome)
            if not cursor:
                return
            if cursor in seen:
                yield BadAnswer("page_cap", "a cursor came twice")
                return
            seen.add(cursor)
            call = replace(call, query={**call.query, "cursor": cursor})
        yield BadAnswer("page_cap", f"more than {page_cap} pages")

    async def _queued(self, target: Target, call: Call, ready: asyncio.Queue[tuple[Target, Outcome]]) -> None:
        async with self._slot(target):
            progress = _Progress()
            try:
                async with asyncio.timeout(call.timeout):
                    outcome = await self._attempts(target, call, progress)
            except TimeoutError:
                outcome = TimedOut(clock.monotonic() - progress.started, attempts=progress.attempts)
        ready.put_nowait((target, outcome))

    @asynccontextmanager
    async def _slot(self, target: Target) -> AsyncIterator[None]:
        """First the host's, then the common one: who waits for a busy host takes nothing from the others."""
        slots = self._hosts.setdefault(target.base_url, _HostSlots(asyncio.Semaphore(self._per_host)))
        slots.users += 1
        try:
            async with slots.free, self._all:
                yield
        finally:
            slots.users -= 1
            if not slots.users:
                del self._hosts[target.base_url]

    async def _attempts(self, target: Target, call: Call, progress: _Progress) -> Outcome:
        deadline = progress.started + call.timeout
        while True:
            progress.attempts += 1
            outcome = replace(
                await self._guarded(target, call),
                elapsed=clock.monotonic() - progress.started,
                attempts=progress.attempts,
            )
            pause = _pause(outcome, progress.attempts)
            last = progress.attempts >= call.attempts or clock.monotonic() + pause >= deadline
            if last or not _worth_repeating(outcome, call):
                return outcome
            await asyncio.sleep(pause)

    async def _attempt(self, target: Target, call: Call) -> Outcome:
        try:
            base = parse_base_url(target.base_url, target.private_hosts)
            addresses = await resolve(base, target.private_hosts)
            sent_at = clock.timestamp()
            reply, request = await self._send(base, addresses, target, call)
            signed_at = check_answer(reply, request, target, call)
        except CannotSign as error:
            return Unreachable("cannot_sign", str(error))
        except Problem as problem:
            return Unreachable(problem.code)
        except Failed as failed:
            if failed.reason in _UNREACHABLE:
                return Unreachable(failed.reason, failed.detail)
            return BadAnswer(failed.reason, failed.detail, failed.status)
        return judge(reply, target, sent_at, clock.timestamp(), signed_at)

    async def _guarded(self, target: Target, call: Call) -> Outcome:
        """An outcome also when we are at fault: without one, whoever waits for this call waits for ever."""
        try:
            return await self._attempt(target, call)
        except Exception as error:  # noqa: BLE001  logged, and told as an outcome; the other calls go on
            _log.exception("a call failed on our side", instance=target.name, path=call.path)
            return BadAnswer("internal_error", type(error).__name__)

    async def _send(
        self, base: BaseUrl, addresses: list[Address], target: Target, call: Call
    ) -> tuple[Reply, Request]:
        """To the first address that takes the connection; each try is signed afresh."""
        for address in addresses:
            request = signed_request(base, target, call)
            try:
                return await self._transport.send(base, address, _wire(request, call)), request
            except Failed as failed:
                if failed.reason != "connect_failed" or address is addresses[-1]:
                    raise
        raise Failed("connect_failed", "no address", sent=False)


def call_now(target: Target, call: Call, *, tls: ssl.SSLContext | None = None) -> Outcome:
    """One call from synchronous code, in an event loop of its own. In asynchronous code use Shim."""

    async def run() -> Outcome:
        async with Shim(concurrency=1, per_host=1, tls=tls) as shim:
            return await shim.call(target, call)

    return asyncio.run(run())


def _wire(request: Request, call: Call) -> Wire:
    return Wire(
        request.method, request.target, request.headers, request.body, call.max_bytes, _CONNECT_SECONDS
    )


def _next_cursor(outcome: Outcome) -> str:
    """Where the list goes on; empty when it does not. `hasMore` rules where a route has it."""
    if not isinstance(outcome, Answered) or not outcome.data.get("hasMore", True):
        return ""
    cursor = outcome.data.get("nextCursor")
    return cursor if isinstance(cursor, str) else ""


def _worth_repeating(outcome: Outcome, call: Call) -> bool:
    """Reads are safe to repeat; so are writes, by their idempotency key.

    `replayed` says that another process of ours signed the same path in the same millisecond (a legacy
    signature covers no more), or that something on the way sent our write twice: signed anew it is taken.
    """
    match outcome:
        case Unreachable():
            return outcome.reason in _RETRIED_FAILURES
        case RefusedThere():
            twin = call.write and call.signed and (outcome.status, outcome.code) == (401, "replayed")
            return twin or outcome.status in _RETRIED_STATUSES
        case BadAnswer():  # a proxy's own answer, say, while the instance restarts: nobody can have signed that
            return outcome.reason == "unsigned_answer" and outcome.status in _RETRIED_STATUSES
        case _:
            return False


def _pause(outcome: Outcome, attempt: int) -> float:
    """Seconds before the next attempt: what the instance asked for, or longer each time with chance in it."""
    if isinstance(outcome, RefusedThere) and outcome.retry_after is not None:
        return outcome.retry_after
    return _FIRST_PAUSE * 4.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  spreads load, hides nothing
