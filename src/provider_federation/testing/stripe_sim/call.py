"""What a handler gets: one request in one account, with typed parameters, the time, and a way to tell the
world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import stripe

from provider_federation.testing.stripe_sim.errors import missing, unknown_reference
from provider_federation.testing.stripe_sim.shape import API_VERSION, fill, new_id
from provider_federation.testing.stripe_sim.store import Object, Transaction
from provider_federation.testing.stripe_sim.validation import Params


@dataclass
class Call:
    """One request (or one due thing, then with `request_id` None). Times are whole seconds since 1970 UTC."""

    tx: Transaction
    params: Params
    now: int
    base_url: str
    path: tuple[str, ...] = ()
    request_id: str | None = None
    idempotency_key: str | None = None
    quiet: bool = False
    declines: Callable[[], bool] = lambda: False
    events: list[Object] = field(default_factory=list)

    @property
    def account(self) -> str:
        return self.tx.account.id

    def need(self, kind: str, identity: str, noun: str | None = None) -> Object:
        """The object that the path names, to change; a 404 when there is none."""
        if self.tx.find(kind, identity) is None:
            raise missing(noun or kind, identity)
        return self.tx.edit(kind, identity)

    def refer(self, kind: str, identity: str, param: str, noun: str | None = None) -> Object:
        """The object that a parameter names, to read; a 400 when there is none."""
        found = self.tx.find(kind, identity)
        if found is None:
            raise unknown_reference(noun or kind, identity, param)
        return found

    def emit(self, kind: str, body: Object, previous: Object | None = None) -> None:
        """Record an event with the object as it is now; `previous` is what it looked like before an update."""
        if self.quiet:
            return
        from provider_federation.testing.stripe_sim.render import render

        snapshot = render(self, body)
        data: dict[str, Any] = fill(stripe.Event.Data, object=snapshot)
        if previous is not None:
            data["previous_attributes"] = {
                name: previous.get(name) for name in snapshot if previous.get(name) != snapshot[name]
            }
        event = fill(
            stripe.Event,
            id=new_id("evt"),
            object="event",
            api_version=API_VERSION,
            created=self.now,
            data=data,
            livemode=False,
            pending_webhooks=0,
            type=kind,
            request={"id": self.request_id, "idempotency_key": self.idempotency_key},
        )
        self.events.append(self.tx.add("event", event))

    def later(self, now: int) -> Call:
        """The same transaction at another moment, outside of any request: for renewals and retries."""
        return Call(
            self.tx,
            Params({}),
            now,
            self.base_url,
            declines=self.declines,
            quiet=self.quiet,
            events=self.events,
        )
