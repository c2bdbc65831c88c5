"""Webhooks: signed like Stripe's, at least once, in no promised order, with retries, and badly on demand.

A delivery is an object of its account (kind `_delivery`), committed together with the event; it survives a
restart. Backoff runs in real time, so that a demo whose clock stands still is told too; signatures carry the
simulator's time.
https://docs.stripe.com/webhooks
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import aiohttp

from provider_federation.kit import clock
from provider_federation.testing.stripe_sim.shape import new_id
from provider_federation.testing.stripe_sim.store import Account, Object, Store, Transaction

_LOG = logging.getLogger(__name__)
BACKOFF = (1, 2, 5, 10, 30, 60)
MOST_ATTEMPTS = 60
_DEADLINE = 10.0
_WAKE = 0.5
FAULTS = {
    "duplicate": "delivered twice",
    "drop": "never delivered",
    "delay": "delivered `seconds` later",
    "reorder": "held until `count` have gathered, then delivered newest first",
}


def sign(payload: bytes, secret: str, at: int) -> str:
    """The `Stripe-Signature` header over `<t>.<payload>`."""
    mac = hmac.new(secret.encode(), str(at).encode() + b"." + payload, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


@dataclass
class WebhookFault:
    """One order for the next `count` deliveries that fit."""

    kind: str
    account: str | None = None
    type: str = "*"
    count: int = 1
    seconds: float = 5.0

    def fits(self, account: str, event_type: str) -> bool:
        return self.count > 0 and self.account in {None, account} and fnmatchcase(event_type, self.type)


@dataclass
class _Timing:
    """What is not worth storing: when a delivery may be tried (monotonic seconds), and its place among the
    others.
    """

    at: float = 0.0
    place: float = 0.0


@dataclass
class Webhooks:
    """Plans deliveries inside transactions, and sends what is pending."""

    store: Store
    faults: list[WebhookFault] = field(default_factory=list)
    _timing: dict[str, _Timing] = field(default_factory=dict)
    _held: list[str] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _session: aiohttp.ClientSession | None = None
    _counter: int = 0

    def plan(self, transaction: Transaction, events: list[Object]) -> None:
        """Write a pending delivery for each event and endpoint that wants it."""
        for event in events:
            for endpoint in list(transaction.newest("webhook_endpoint")):
                if endpoint["status"] == "enabled" and (
                    "*" in endpoint["enabled_events"] or event["type"] in endpoint["enabled_events"]
                ):
                    self._plan_one(transaction, event, endpoint)

    def _plan_one(self, transaction: Transaction, event: Object, endpoint: Object) -> None:
        fault = next((one for one in self.faults if one.fits(transaction.account.id, event["type"])), None)
        if fault:
            fault.count -= 1
        kind = fault.kind if fault else None
        for _ in range(2 if kind == "duplicate" else 1):
            self._counter += 1
            delivery = transaction.add(
                "_delivery",
                {
                    "id": new_id("whd"),
                    "event": event["id"],
                    "endpoint": endpoint["id"],
                    "type": event["type"],
                    "attempts": 0,
                    "status": "dropped" if kind == "drop" else "pending",
                    "last": None,
                },
            )
            timing = self._timing[delivery["id"]] = _Timing(clock.monotonic(), float(self._counter))
            if fault and kind == "delay":
                timing.at += fault.seconds
            if fault and kind == "reorder":
                self._hold(delivery["id"], timing, last=fault.count <= 0)
            if kind != "drop":
                event["pending_webhooks"] += 1

    def _hold(self, delivery: str, timing: _Timing, *, last: bool) -> None:
        timing.at = float("inf")
        self._held.append(delivery)
        if last:
            self.release_held()

    def release_held(self) -> None:
        """Let go of what `reorder` gathered, newest first."""
        places = sorted(self._timing[one].place for one in self._held)
        for identity, place in zip(reversed(self._held), places, strict=True):
            self._timing[identity] = _Timing(0.0, place)
        self._held.clear()

    def wake(self) -> None:
        """Something may be pending: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver what becomes due, for ever."""
        while True:
            await self._round(self._due())
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), _WAKE)
            except TimeoutError:
                continue

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def flush(self, *, deadline: float = 30.0, attempts: int = 1) -> dict[str, Any]:
        """Try everything pending now, delayed or not, including what that causes; what is left is in the
        counts.
        """
        self.release_held()
        until, tries = clock.monotonic() + deadline, Counter[str]()
        counts: Counter[str] = Counter()
        while clock.monotonic() < until:
            if self._busy:  # what is on its way already must arrive, or fail, before it counts
                await asyncio.sleep(0.01)
                continue
            chosen = [(a, d) for a, d in self._pending() if tries[d["id"]] < attempts]
            if not chosen:
                break
            tries.update(delivery["id"] for _, delivery in chosen)
            counts += await self._round(chosen)
        pending = [delivery for _, delivery in self._pending()]
        return {
            "delivered": counts["delivered"],
            "failed": counts["failed"],
            "pending": len(pending),
            "failures": [
                {"type": delivery["type"], "event": delivery["event"], "last": delivery["last"]}
                for delivery in pending[:20]
            ],
        }

    def counts(self, account: Account) -> dict[str, int]:
        """How many deliveries of an account are pending, delivered, dropped, given up."""
        return dict(Counter(delivery["status"] for delivery in account.kind("_delivery").values()))

    def make_all_due(self) -> None:
        """The clock moved: retries and delays need not wait any longer."""
        for _, delivery in self._pending():
            timing = self._timing.get(delivery["id"])
            if timing and timing.at != float("inf"):
                timing.at = 0.0
        self.wake()

    def _pending(self) -> Iterator[tuple[Account, Object]]:
        accounts = (
            (self.store.accounts[account], identity) for identity, account in list(self.store.pending.items())
        )
        every = [(account, account.kind("_delivery")[identity]) for account, identity in accounts]
        yield from sorted(every, key=lambda pair: self._timing.setdefault(pair[1]["id"], _Timing()).place)

    def _due(self) -> list[tuple[Account, Object]]:
        now = clock.monotonic()
        return [(a, d) for a, d in self._pending() if self._timing[d["id"]].at <= now]

    async def _round(self, chosen: list[tuple[Account, Object]]) -> Counter[str]:
        """Each endpoint gets its deliveries one after another, the endpoints side by side."""
        queues: dict[str, list[tuple[Account, Object]]] = {}
        for account, delivery in chosen:
            if delivery["id"] not in self._busy:
                self._busy.add(delivery["id"])
                queues.setdefault(delivery["endpoint"], []).append((account, delivery))
        counts: Counter[str] = Counter()
        for result in await asyncio.gather(*(self._queue(queue) for queue in queues.values())):
            counts += result
        return counts

    async def _queue(self, queue: list[tuple[Account, Object]]) -> Counter[str]:
        counts: Counter[str] = Counter()
        try:
            for account, delivery in queue:
                counts[await self._deliver(account, delivery)] += 1
        finally:
            self._busy.difference_update(delivery["id"] for _, delivery in queue)
        return counts

    async def _deliver(self, account: Account, delivery: Object) -> str:
        endpoint, event = (
            account.kind("webhook_endpoint").get(delivery["endpoint"]),
            account.kind("event").get(delivery["event"]),
        )
        if endpoint is None or event is None or endpoint["status"] != "enabled":
            self._finish(account, delivery["id"], "dropped", "the endpoint is gone or disabled")
            return "dropped"
        outcome = await self._post(endpoint, event)
        delivered = outcome.isdigit() and outcome.startswith("2")
        self._finish(account, delivery["id"], "delivered" if delivered else "pending", outcome)
        return "delivered" if delivered else "failed"

    async def _post(self, endpoint: Object, event: Object) -> str:
        payload = json.dumps(event, indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks; simulator)",
            "Stripe-Signature": sign(payload, endpoint["_secret"], int(clock.timestamp())),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_DEADLINE), trust_env=False
            )
        try:
            async with self._session.post(
                endpoint["url"], data=payload, headers=headers, allow_redirects=False
            ) as answer:
                return str(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}"[:200]

    def _finish(self, account: Account, identity: str, status: str, outcome: str) -> None:
        if identity not in account.kind("_delivery"):
            return  # the account was reset while the request was on its way
        transaction = Transaction(account)
        delivery = transaction.edit("_delivery", identity)
        delivery |= {"attempts": delivery["attempts"] + 1, "last": outcome, "status": status}
        if status == "pending" and delivery["attempts"] >= MOST_ATTEMPTS:
            delivery["status"] = "failed"
        if delivery["status"] == "pending":
            wait = BACKOFF[min(delivery["attempts"], len(BACKOFF)) - 1]
            self._timing.setdefault(identity, _Timing()).at = clock.monotonic() + wait
            _LOG.warning(
                "webhook %s to %s failed (%s), again in %s s",
                delivery["type"],
                delivery["endpoint"],
                outcome,
                wait,
            )
        else:
            self._timing.pop(identity, None)
        if delivery["status"] == "delivered" and transaction.find("event", delivery["event"]):
            transaction.edit("event", delivery["event"])["pending_webhooks"] -= 1
        self.store.commit(transaction, None)
