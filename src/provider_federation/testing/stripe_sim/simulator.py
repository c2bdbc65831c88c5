"""One simulator: accounts, clock, faults, webhooks, and what happens between a request and its answer."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provider_federation.kit import clock
from provider_federation.testing.stripe_sim import objects, timeline
from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.faults import Faults
from provider_federation.testing.stripe_sim.forms import decode_form
from provider_federation.testing.stripe_sim.idempotency import IdempotencyKeys
from provider_federation.testing.stripe_sim.objects.webhook_endpoints import new_endpoint
from provider_federation.testing.stripe_sim.render import expand, render
from provider_federation.testing.stripe_sim.routes import Route
from provider_federation.testing.stripe_sim.store import (
    Account,
    Object,
    Remembered,
    Store,
    Transaction,
    account_id,
)
from provider_federation.testing.stripe_sim.validation import Params, check_params
from provider_federation.testing.stripe_sim.webhooks import Webhooks

_LOG = logging.getLogger(__name__)
_LOG_LENGTH = 10_000
_OFFSET = "clock_offset"
assert objects  # importing it fills the route table


@dataclass(frozen=True)
class Hook:
    """An endpoint given at the start: events of the key's account go to `url`, signed with `secret`."""

    key: str
    url: str
    secret: str


@dataclass
class Request:
    """One API request as it came in, after authentication."""

    account: Account
    method: str
    path: str
    raw_form: bytes
    route: Route
    values: tuple[str, ...]
    request_id: str
    key: str | None = None


@dataclass
class Simulator:
    """Everything that is not HTTP. `base_url` is what hosted pages and invoice links begin with."""

    base_url: str = "http://127.0.0.1"
    data: Path | None = None
    hooks: tuple[Hook, ...] = ()
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_LOG_LENGTH))

    def __post_init__(self) -> None:
        self.store = Store(self.data)
        self.faults = Faults()
        self.webhooks = Webhooks(self.store)
        self.keys = IdempotencyKeys(self.store)
        self._moment: int | None = None
        self.install_hooks()

    def install_hooks(self) -> None:
        """Make the endpoints given at the start, once; those of an earlier start are kept."""
        for hook in self.hooks:
            account = self.store.account(account_id(hook.key), self.now())
            known = (row for row in account.kind("webhook_endpoint").values())
            if not any(row["url"] == hook.url and row["_secret"] == hook.secret for row in known):
                call = self.call(account, Params({}))
                new_endpoint(call, hook.url, hook.secret, ["*"])
                self.store.commit(call.tx, None)

    def now(self) -> int:
        """Whole seconds since 1970 UTC: the shared clock file's time, or else the machine's and our own shift."""
        if self._moment is not None:
            return self._moment
        shift = 0 if os.environ.get(clock.CLOCK_VARIABLE) else int(self.store.settings.get(_OFFSET, "0"))
        return int(clock.timestamp()) + shift

    def shift_clock(self, seconds: int) -> None:
        """Move this simulator's own clock forward (used when no shared clock file owns the time)."""
        self.store.set(_OFFSET, str(int(self.store.settings.get(_OFFSET, "0")) + seconds))

    def call(self, account: Account, params: Params, **more: Any) -> Call:
        def declines() -> bool:
            return self.faults.take(["card_declined"], account.id) is not None

        return Call(Transaction(account), params, self.now(), self.base_url, declines=declines, **more)

    def catch_up(self) -> int:
        """Make everything happen that is due by now, in order, each at its own moment; how many things that
        were.
        """
        done, until = 0, self.now()
        while entry := self.store.next_due(until):
            when, account, kind, identity = entry
            self._moment = when
            try:
                call = self.call(self.store.accounts[account], Params({}))
                timeline.happen(call, kind, identity)
                self._commit(call, None)
            finally:
                self._moment = None
            done += 1
        return done

    def execute(self, request: Request) -> tuple[int, str]:
        """Run a handler and commit what it did: (status, JSON). StripeError when it is refused."""
        params = check_params(request.route.params, decode_form(request.raw_form.decode("utf-8", "replace")))
        call = self.call(
            request.account,
            params,
            path=request.values,
            request_id=request.request_id,
            idempotency_key=request.key,
        )
        try:
            answer = self._answer(request, call)
        except StripeError as error:
            if error.commits:
                self._commit(call, self._record(request, call, error.status, json.dumps(error.body())))
            raise
        body = json.dumps(answer)
        self._commit(call, self._record(request, call, 200, body))
        return 200, body

    def _answer(self, request: Request, call: Call) -> Object:
        paths = call.params.plain("expand", [])
        answer = request.route.handler(call)
        ignored = call.params.unread()
        if ignored:
            message = (
                f"The simulator does not do `{ignored[0]}` here. Stripe knows it; add it to the simulator "
                "or leave it out."
            )
            raise StripeError(400, "invalid_request_error", message, code="not_simulated", param=ignored[0])
        return expand(call, render(call, answer), paths)

    def _record(self, request: Request, call: Call, status: int, body: str) -> Remembered | None:
        if request.key is None or request.method != "POST":
            return None
        return Remembered(request.key, self.print_of(request), status, body, request.request_id, call.now)

    def remember(self, request: Request, status: int, body: str) -> None:
        """Store an answer that no handler gave: an injected 500."""
        if request.key and request.method == "POST":
            record = Remembered(
                request.key, self.print_of(request), status, body, request.request_id, self.now()
            )
            self.store.commit(Transaction(request.account), record)

    def print_of(self, request: Request) -> str:
        from provider_federation.testing.stripe_sim.idempotency import fingerprint

        return fingerprint(request.method, request.path, request.raw_form)

    def _commit(self, call: Call, record: Remembered | None) -> None:
        self.webhooks.plan(call.tx, call.events)
        self.store.commit(call.tx, record)
        if call.events:
            self.webhooks.wake()

    def commit(self, call: Call) -> None:
        """Commit a call that did not come through the API (the hosted page)."""
        self._commit(call, None)
