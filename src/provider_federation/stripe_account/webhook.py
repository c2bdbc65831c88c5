"""Webhooks, verified on the raw bytes (docs.stripe.com/webhooks#verify-manually, threats 149 to 151).

Our own check and not the SDK's: that one never looks for timestamps from the future, switches the window off
at tolerance 0, and decodes the body before it has checked it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from typing import Any

from provider_federation.stripe_account.errors import (
    WebhookIncomplete,
    WebhookNotConfigured,
    WebhookRefused,
)

_LONGEST_HEADER = 4096
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,14}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


def verify_webhook(
    raw: bytes, header: str | None, secret: str | Iterable[str], now: float, tolerance: int = 300
) -> dict[str, Any]:
    """The event inside `raw`, once one v1 signature of `header` was made with one of our secrets within the
    window.

    `raw` is the body as received, `header` the value of `Stripe-Signature`, `secret` one `whsec_...` or
    several while they are being rotated, `now` seconds since 1970 UTC. Raises `WebhookRefused` (400) with the
    code `bad_signature`, `timestamp_out_of_window` or `bad_payload` (`WebhookIncomplete` when it is an event
    with something missing); `WebhookNotConfigured` when there is no secret or no window.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets or not all(value.strip() for value in secrets):
        raise WebhookNotConfigured("STRIPE_WEBHOOK_SECRET is empty; set the endpoint's signing secret.")
    if tolerance <= 0:
        raise WebhookNotConfigured(
            "The webhook window must be at least a second; a webhook without one can be replayed."
        )
    timestamp, signatures = _read_header(header)
    if not _signed(raw, timestamp, signatures, secrets):
        raise WebhookRefused("bad_signature", "No signature of this webhook was made with our secret.")
    if abs(now - int(timestamp)) > tolerance:
        raise WebhookRefused(
            "timestamp_out_of_window", "This webhook was signed too long ago, or in the future."
        )
    return _read_event(raw)


def _read_header(header: str | None) -> tuple[str, list[str]]:
    refused = WebhookRefused("bad_signature", "The Stripe-Signature header is missing or cannot be read.")
    if not header or len(header) > _LONGEST_HEADER or not header.isascii():
        raise refused
    pairs = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1" and _SIGNATURE.fullmatch(value)]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]) or not signatures:
        raise refused
    return timestamps[0], signatures


def _signed(raw: bytes, timestamp: str, signatures: list[str], secrets: list[str]) -> bool:
    payload = timestamp.encode() + b"." + raw
    expected = [hmac.new(value.encode(), payload, hashlib.sha256).hexdigest() for value in secrets]
    # Every pair is compared, so that the time taken says nothing about which one matched.
    return sum(hmac.compare_digest(ours, theirs) for ours in expected for theirs in signatures) > 0


def _read_event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise WebhookRefused("bad_payload", "The body of this webhook is not UTF-8 JSON.") from None
    if not isinstance(event, dict) or event.get("object") != "event":
        raise WebhookRefused("bad_payload", "The body of this webhook is not a Stripe event.")
    data = event.get("data")
    named = all(isinstance(event.get(name), str) and event[name] for name in ("id", "type"))
    if not named or not isinstance(data, dict) or not isinstance(data.get("object"), dict):
        raise WebhookIncomplete("This Stripe event has no id, no type or no object.")
    return event


def _no_constant(name: str) -> float:
    raise ValueError(name)
