"""The provider's Stripe events: verified, stored before they are acknowledged, applied by a job (money
rule 13).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet

from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind as Audited
from provider_federation.portal.audit.services import record
from provider_federation.portal.revenue.alerts import raise_alert
from provider_federation.portal.revenue.models import EventState, StripeEvent
from provider_federation.portal.revenue.services.applying import refresh_any_invoice
from provider_federation.portal.revenue.services.jobs import defer_event
from provider_federation.portal.subscriptions.account import livemode
from provider_federation.portal.subscriptions.applying import Foreign, refresh_subscription
from provider_federation.portal.subscriptions.services import refresh_customer
from provider_federation.stripe_account import (
    StripeFailed,
    WebhookIncomplete,
    WebhookNotConfigured,
    WebhookRefused,
    verify_webhook,
)

MOST_ATTEMPTS = 10
STRIPE_ATTEMPTS = 50
"""While Stripe is away an event waits (some seven hours of retries): an outage parks nothing by itself."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_log = get_logger("stripe_events")

Handler = Callable[[StripeEvent], str]
"""Fetches `event.object_id` afresh, writes what it says, and answers a note for the page."""


def receive_event(raw: bytes, signature: str | None) -> tuple[StripeEvent, bool]:
    """Verify and store one event; returns it and whether it is new. The job that applies it commits with
    the row. One that lacks its id, type, object or mode is kept and ignored.

    Problem 400 `bad_signature timestamp_out_of_window bad_payload wrong_account livemode_mismatch`, 503
    without a secret.
    """
    try:
        event = verify_webhook(raw, signature, _secrets(), clock.timestamp())
    except WebhookIncomplete as incomplete:
        return _store({}, raw, why=incomplete.message)
    except WebhookRefused as refused:
        raise Problem(refused.status, refused.code, refused.message) from None
    except WebhookNotConfigured:
        raise Problem(
            503, "webhook_not_configured", "Set PROVIDER_STRIPE_WEBHOOK_SECRET; no event is taken."
        ) from None
    _check_ours(event)
    return _store(event, raw, why=_unusable(event))


def apply_event(event_pk: int) -> None:
    """Apply one stored event, however often this is called. Raises when it should be tried again; what
    failed too often, or can never work, is parked with an alert.
    """
    event = StripeEvent.objects.filter(pk=event_pk, state=EventState.PENDING).first()
    if event is None:
        return
    StripeEvent.objects.filter(pk=event.pk).update(attempts=F("attempts") + 1)
    try:
        note = "; ".join(filter(None, (handler(event) for handler in _handlers(event.type))))
    except Foreign as foreign:
        _foreign(event, foreign)
    except StripeFailed as failure:
        _failed(event, failure, for_good=not failure.retryable)
    except Exception as error:  # noqa: BLE001  no event may be lost: written down, and tried again
        _failed(event, error, for_good=False)
    else:
        _done(event, EventState.APPLIED, note)


def retry_event(event: StripeEvent, *, actor: str) -> bool:
    """A person sends a parked event round again; False when it was not parked."""
    with transaction.atomic():
        parked = StripeEvent.objects.filter(pk=event.pk, state=EventState.PARKED)
        return bool(_go_round(parked, actor))


def retry_parked(*, actor: str, most: int = 1000) -> tuple[int, int]:
    """A person sends the parked events round again, the oldest first; how many went, and how many are left."""
    with transaction.atomic():
        parked = StripeEvent.objects.filter(state=EventState.PARKED)
        retried = _go_round(parked.order_by("pk")[:most], actor)
        return retried, parked.count()


def _go_round(parked: QuerySet[StripeEvent], actor: str) -> int:
    """Two who ask at once take turns, and the second finds nothing."""
    events = list(parked.select_for_update(skip_locked=True).defer("payload"))
    StripeEvent.objects.filter(pk__in=[event.pk for event in events]).update(
        state=EventState.PENDING, attempts=0, error=""
    )
    for event in events:
        defer_event(event)
    for event in events:
        record(Audited.WEBHOOK_RETRIED, actor, f"stripe_event:{event.event_id}", type=event.type)
    return len(events)


def handles(prefix: str, handler: Handler) -> None:
    """Have `handler` take part in applying events whose type begins with `prefix`, after those that are
    there. For upper rooms, from their AppConfig.ready; the same handler again changes nothing.
    """
    found = _HANDLERS.setdefault(prefix, [])
    if handler not in found:
        found.append(handler)


def _handlers(kind: str) -> list[Handler]:
    return [handler for prefix, found in _HANDLERS.items() if kind.startswith(prefix) for handler in found]


def _secrets() -> list[str]:
    """One signing secret, or several with commas between them while they are being rotated."""
    return [part.strip() for part in settings.PROVIDER_STRIPE_WEBHOOK_SECRET.split(",") if part.strip()]


def _check_ours(event: dict[str, Any]) -> None:
    live, account = event.get("livemode"), event.get("account")
    problem = None
    if live is not None and live is not livemode():
        problem = Problem(
            400, "livemode_mismatch", "This event is of the other mode (live or test) than our key."
        )
    elif account and account != settings.PROVIDER_STRIPE_ACCOUNT_ID:
        problem = Problem(400, "wrong_account", "This event belongs to another Stripe account.")
    if problem is not None:
        with transaction.atomic():
            record(Audited.WEBHOOK_REFUSED, "stripe", f"stripe_event:{event['id']}", code=problem.code)
        raise problem


def _unusable(event: dict[str, Any]) -> str:
    """Why nothing will come of this event, or the empty string."""
    if event.get("livemode") is None:
        return "it does not say whether it is live"
    if not _handlers(event["type"]):
        return "nothing to do for this type"
    return "" if _object_id(event) else "it names no object"


def _store(event: dict[str, Any], raw: bytes, *, why: str) -> tuple[StripeEvent, bool]:
    with transaction.atomic():
        row, new = StripeEvent.objects.get_or_create(
            event_id=_event_id(event, raw),
            defaults={
                "type": _plain(event.get("type")),
                "livemode": livemode(),
                "account": _plain(event.get("account")),
                "api_version": _plain(event.get("api_version"))[:64],
                "object_id": _object_id(event),
                "payload": raw.decode(),
                "happened_at": _instant(event.get("created")),
                "received_at": clock.now(),
                "state": EventState.IGNORED if why else EventState.PENDING,
                "note": why,
            },
        )
        if new and not why:
            defer_event(row)
    return row, new


def _event_id(event: dict[str, Any], raw: bytes) -> str:
    """Stripe's id; for an event without a usable one the digest of its bytes, so that a copy is known."""
    return _name(event.get("id")) or f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _object_id(event: dict[str, Any]) -> str:
    """What is fetched afresh: a credit note is about its invoice, everything else about itself."""
    inner = event["data"]["object"] if event else {}
    about_invoice = event and event["type"].startswith("credit_note.")
    return _name(inner.get("invoice" if about_invoice else "id"))


def _name(value: Any) -> str:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _plain(value: Any) -> str:
    """Text that a column takes: short, and nothing that cannot be printed."""
    text = value if isinstance(value, str) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:128])


def _apply_invoice(event: StripeEvent) -> str:
    if event.type == "invoice.deleted":
        return "a draft that is gone"
    try:
        row = refresh_any_invoice(event.object_id)
    except StripeFailed as failure:
        if failure.code == "resource_missing" and _was_draft(event):
            return "a draft that is gone"
        raise
    return f"{row.status} {row.number}".strip()


def _was_draft(event: StripeEvent) -> bool:
    """Only a draft can be deleted in Stripe, also before its first event is applied."""
    return bool(json.loads(event.payload)["data"]["object"].get("status") == "draft")


def _apply_subscription(event: StripeEvent) -> str:
    row = refresh_subscription(event.object_id)
    return f"{row.plan} {row.status}"


def _apply_customer(event: StripeEvent) -> str:
    customer = refresh_customer(event.object_id)
    if customer is not None:
        message = f"The Stripe customer {event.object_id} of {customer.instance} was deleted."
        raise_alert("customer_deleted", f"customer:{event.object_id}", message)
    return "deleted"


_HANDLERS: dict[str, list[Handler]] = {
    "invoice.": [_apply_invoice],
    "credit_note.": [_apply_invoice],
    "customer.subscription.": [_apply_subscription],
    "customer.deleted": [_apply_customer],
}


def _foreign(event: StripeEvent, foreign: Foreign) -> None:
    with transaction.atomic():
        raise_alert(
            foreign.code, f"{event.object_id}", foreign.message, event=event.event_id, type=event.type
        )
        _done(event, EventState.IGNORED, foreign.code)


def _failed(event: StripeEvent, error: Exception, *, for_good: bool) -> None:
    event.refresh_from_db()
    ours = not isinstance(error, StripeFailed)
    text = (f"{type(error).__name__}: {error}" if ours else f"Stripe: {error}")[:500]
    most = MOST_ATTEMPTS if ours else STRIPE_ATTEMPTS
    if not for_good and event.attempts < most:
        StripeEvent.objects.filter(pk=event.pk).update(error=text)
        raise error
    with transaction.atomic():
        message = f"The Stripe event {event.event_id} ({event.type}) could not be applied: {text}"
        raise_alert("event_parked", event.event_id, message, attempts=event.attempts)
        StripeEvent.objects.filter(pk=event.pk).update(state=EventState.PARKED, error=text)
    _log.error("stripe event parked", event_id=event.event_id, type=event.type, error=text)


def _done(event: StripeEvent, state: EventState, note: str) -> None:
    StripeEvent.objects.filter(pk=event.pk).update(
        state=state, note=note[:500], error="", applied_at=clock.now()
    )


def _instant(seconds: Any) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 2**33:
        return None
    return datetime.fromtimestamp(seconds, UTC)
