"""Idempotency keys as Stripe keeps them. https://docs.stripe.com/api/idempotent_requests

The same key with the same request replays the first answer; with another request it is a 400
`idempotency_error`; while the first is still running it is a 409. Kept for 24 hours of the simulator's
clock. What failed before it was executed (bad parameters, 429) is not remembered, a 500 during or after the
execution is.
"""

from __future__ import annotations

import hashlib

from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.objects.common import DAY
from provider_federation.testing.stripe_sim.store import Account, Remembered, Store

_LONGEST_KEY = 255


def fingerprint(method: str, path: str, body: bytes) -> str:
    """What makes two requests the same: method, path and parameters as sent."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), body))).hexdigest()


class IdempotencyKeys:
    """Looks keys up, and knows which are in flight."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[tuple[str, str]] = set()

    def recall(self, account: Account, key: str, print_: str, now: int, path: str) -> Remembered | None:
        """The answer to replay, or None when this is the first time; StripeError when the key cannot be used
        so.
        """
        if len(key) > _LONGEST_KEY:
            raise StripeError(
                400, "invalid_request_error", f"Idempotency keys are at most {_LONGEST_KEY} characters."
            )
        if (account.id, key) in self._running:
            message = "There is currently another in-progress request using this Idempotent Key."
            raise StripeError(409, "idempotency_error", message, code="idempotency_key_in_use")
        known = account.remembered.get(key)
        if known and now - known.at >= DAY:
            self._store.forget(account, key)
            return None
        if known and known.fingerprint != print_:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used "
                "with. "
                f"Try using a key other than '{key}' if you meant to execute a different request ({path})."
            )
            raise StripeError(400, "idempotency_error", message)
        return known

    def start(self, account: str, key: str) -> None:
        self._running.add((account, key))

    def finish(self, account: str, key: str) -> None:
        self._running.discard((account, key))
