"""How each call of the account is made: its parameters, its key, its pages, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import stripe

from provider_federation.stripe_account.errors import StripeFailed, from_stripe

MOST = 10_000
PAGE = 100

Metadata = Mapping[str, str]


def carries(metadata: Metadata, wanted: Metadata | None) -> bool:
    """Whether the metadata holds all that is wanted."""
    return all(metadata.get(name) == value for name, value in (wanted or {}).items())


def window(since: datetime | None, before: datetime | None) -> dict[str, int] | None:
    """Stripe's filter for `[since, before)`, None for all times."""
    window = {name: int(at.timestamp()) for name, at in (("gte", since), ("lt", before)) if at is not None}
    return window or None


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without the parameters that are not given."""
    return {name: value for name, value in parameters.items() if value is not None}


def read(call: Callable[..., Any], *arguments: str, **parameters: Any) -> dict[str, Any]:
    """A call that changes nothing."""
    return guarded(lambda: call(*arguments, params=given(parameters)))


def write(call: Callable[..., Any], *arguments: str, key: str, **parameters: Any) -> dict[str, Any]:
    """A call that changes something, under the key that its caller has stored."""
    if not key:
        raise ValueError("every write to Stripe takes an idempotency key")
    return guarded(lambda: call(*arguments, params=given(parameters), options={"idempotency_key": key}))


def every(
    call: Callable[..., Any], most: int, *, arguments: tuple[str, ...] = (), **parameters: Any
) -> list[dict[str, Any]]:
    """All pages. More than `most` is a StripeFailed `too_many`: a list that is silently cut would be wrong
    money.
    """
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = read(call, *arguments, limit=PAGE, **parameters, **cursor)
        rows = page.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
            raise StripeFailed("bad_answer", "Stripe's answer is not a list.")
        found += rows
        if not page.get("has_more") or not rows:
            return found
        if len(found) >= most:
            raise StripeFailed("too_many", f"There are more than {most} of these; narrow the window.")
        cursor = {"starting_after": rows[-1]["id"]}


def guarded(call: Callable[[], Any]) -> dict[str, Any]:
    """Stripe's answer as a plain mapping, or StripeFailed."""
    try:
        answer = call()
    except stripe.StripeError as error:
        raise from_stripe(error) from None  # the SDK's exception holds the whole answer: it is for no log
    except UnicodeDecodeError:
        raise unreadable() from None
    if not isinstance(answer, stripe.StripeObject):
        raise unreadable()
    values: dict[str, Any] = answer.to_dict()
    return values


def unreadable() -> StripeFailed:
    return StripeFailed("bad_answer", "Stripe's answer cannot be read.", retryable=True, outcome_unknown=True)
