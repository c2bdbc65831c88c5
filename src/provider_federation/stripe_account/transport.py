"""The HTTP client under the official SDK: the SDK's own, with a deadline over the whole call.

The SDK's timeout counts between two bytes, so that a server that trickles holds a worker for ever; here the
caller gets its answer or an `APIConnectionError` after `deadline` seconds whatever name resolution, the proxy
or the server do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import requests
import stripe
from requests.adapters import HTTPAdapter

from provider_federation.stripe_account.errors import seconds_to_wait

# The SDK tells of each call twice at INFO; a billing run makes thousands, and what goes wrong is raised.
logging.getLogger("stripe").setLevel(logging.WARNING)
_CONNECT_SECONDS = 5.0
_KEPT = 64
"""Connections that wait for the next call: as many as calls may be under way at once."""


class Pace(Protocol):
    """How fast an account may be called, whoever calls it: all workers together keep its rate limit."""

    def wait(self) -> None:
        """Come back when the next call may leave."""

    def slow_down(self, seconds: float) -> None:
        """Stripe said 429: nobody calls for so long."""


class NoPace:
    """No limit of ours; Stripe's own 429 is honoured by each step."""

    def wait(self) -> None:
        return

    def slow_down(self, seconds: float) -> None:
        del seconds


class DeadlineClient(stripe.RequestsClient):
    """One call, one helper thread, one deadline. Connections are kept and shared by all threads of the
    process. Waiting for the account's pace is no part of the deadline.
    """

    def __init__(self, deadline: float, pace: Pace | None = None) -> None:
        self._deadline = deadline
        self._pace = pace or NoPace()
        session = requests.Session()
        session.mount("https://", HTTPAdapter(pool_maxsize=_KEPT))
        session.mount("http://", HTTPAdapter(pool_maxsize=_KEPT))
        super().__init__(timeout=(min(_CONNECT_SECONDS, deadline), deadline), session=session)

    def request(  # type: ignore[override]  # the SDK's own subclasses differ from their base just like this
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        self._pace.wait()
        outcome = _Outcome()
        # A daemon, so that a call that nobody waits for any more cannot keep the process alive.
        thread = threading.Thread(
            target=outcome.run, args=(super().request, method, url, headers, post_data), daemon=True
        )
        thread.start()
        thread.join(self._deadline)
        content, status, answered = outcome.result(self._deadline)
        if status == 429:
            self._pace.slow_down(seconds_to_wait(answered.get("Retry-After")))
        return content, status, answered


class _Outcome:
    def __init__(self) -> None:
        self._answer: tuple[bytes, int, Mapping[str, str]] | None = None
        self._error: Exception | None = None

    def run(self, call: Any, *arguments: Any) -> None:
        try:
            self._answer = call(*arguments)
        except Exception as error:  # noqa: BLE001  raised again in the thread that asked
            self._error = error

    def result(self, deadline: float) -> tuple[bytes, int, Mapping[str, str]]:
        if self._answer is not None:
            return self._answer
        late = f"Stripe did not answer within {deadline:g} seconds."
        raise self._error or stripe.APIConnectionError(late)  # type: ignore[no-untyped-call]  # the SDK's exceptions have no types
