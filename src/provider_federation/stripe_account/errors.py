"""What can go wrong with a Stripe account, as values that a job can act on."""

from __future__ import annotations

import re

import stripe

_KEYS = re.compile(r"\b(sk|rk|pk|whsec)_[A-Za-z0-9_*.]+")
_LONGEST_MESSAGE = 500
_LONGEST_PAUSE = 60


class StripeFailed(Exception):
    """A call that did not do what it was asked.

    `code` is stable: Stripe's own (`card_declined`, `resource_missing`), or ours: `connection_failed
    rate_limited stripe_unavailable bad_answer key_in_use idempotency_mismatch not_authorised
    too_many totals_differ duplicate_invoices`. `status` is the HTTP status, 0 when none came. `retryable`:
    the same call may succeed later. `outcome_unknown`: Stripe may have done it all the same. `replayed`:
    Stripe repeated a recorded answer, so that the same idempotency key will never get another one.
    `retry_after`: for how many seconds a 429 asks us to wait, None for anything else.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        retryable: bool = False,
        request_id: str | None = None,
        outcome_unknown: bool = False,
        replayed: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retryable = retryable
        self.request_id = request_id
        self.outcome_unknown = outcome_unknown
        self.replayed = replayed
        self.retry_after = retry_after


class TotalsDiffer(StripeFailed):
    """The draft in Stripe is not what was ordered. It stays a draft; the order is held for a person."""

    def __init__(self, message: str) -> None:
        super().__init__("totals_differ", message)


class DuplicateInvoices(StripeFailed):
    """Stripe holds more than one living invoice of one order. Nothing was sent; the order is held for a
    person.
    """

    def __init__(self, message: str) -> None:
        super().__init__("duplicate_invoices", message)


class WebhookRefused(Exception):
    """A webhook that is answered with `status` (400). `code`: `bad_signature timestamp_out_of_window
    bad_payload`.
    """

    status = 400

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class WebhookIncomplete(WebhookRefused):
    """Signed, and an event, but without an id, a type or an object: nothing can be applied, so it is kept
    and ignored. An app that does not keep it answers `bad_payload`.
    """

    def __init__(self, message: str) -> None:
        super().__init__("bad_payload", message)


class WebhookNotConfigured(Exception):
    """No usable signing secret: the process should have refused to start (`config_invalid`)."""

    code = "config_invalid"


def scrub(text: str) -> str:
    """The text without anything that looks like a key, and not longer than a log line should be."""
    return _KEYS.sub("[scrubbed]", text)[:_LONGEST_MESSAGE]


def from_stripe(error: stripe.StripeError) -> StripeFailed:
    """The SDK's exception as ours."""
    status = error.http_status or 0
    headers = {name.lower(): value for name, value in dict(error.headers or {}).items()}
    return StripeFailed(
        _code(error, status),
        scrub(error.user_message or type(error).__name__),
        status=status,
        retryable=_retryable(error, status),
        request_id=error.request_id or headers.get("request-id"),
        outcome_unknown=status < 300 or status >= 500 or status == 409,
        replayed=headers.get("idempotent-replayed") == "true",
        retry_after=seconds_to_wait(headers.get("retry-after")) if status == 429 else None,
    )


def seconds_to_wait(header: str | None) -> float:
    """`Retry-After` in whole seconds, from 1 to a minute; a second when it says nothing that we can read."""
    stated = int(header) if header and header.isascii() and header.isdigit() and len(header) < 6 else 1
    return float(min(max(stated, 1), _LONGEST_PAUSE))


def _retryable(error: stripe.StripeError, status: int) -> bool:
    if isinstance(error, stripe.RateLimitError) or status < 300 or status >= 500:
        return True  # below 300: no answer, or a success that could not be read
    return status == 409


def _code(error: stripe.StripeError, status: int) -> str:
    for kind, code in _CODES_BY_KIND:
        if isinstance(error, kind):
            return code
    if status >= 500:
        return "stripe_unavailable"
    if status == 409:
        return "key_in_use"
    if status < 300:
        return "bad_answer"
    return error.code or "invalid_request"


_CODES_BY_KIND: tuple[tuple[type[stripe.StripeError], str], ...] = (
    (stripe.APIConnectionError, "connection_failed"),
    (stripe.RateLimitError, "rate_limited"),
    (stripe.IdempotencyError, "idempotency_mismatch"),
    (stripe.AuthenticationError, "not_authorised"),
    (stripe.PermissionError, "not_authorised"),
)
