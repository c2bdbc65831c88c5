"""Stripe's webhook: verified on the raw bytes, stored once, applied by fetching the invoice afresh.

Applying follows right after the commit that stored the event. When it fails, the event stays pending and the
answer is an error, so that Stripe sends it again; the next event and `provider-federation instance apply-
events` try it as well. What failed too often, or can never work, is parked for a person.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any, Literal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F

from provider_federation.instance.invoicing.models import EventState, StripeEvent
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.alerts import raise_alert
from provider_federation.instance.invoicing.services.merging import apply_invoice
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import (
    StripeFailed,
    WebhookIncomplete,
    WebhookNotConfigured,
    WebhookRefused,
    verify_webhook,
)

MOST_ATTEMPTS = 10
STRIPE_ATTEMPTS = 50
STRIPE_PATIENCE = timedelta(days=3)
"""While Stripe is away an event waits, as long as Stripe itself goes on delivering: every other delivery tries it as
well, so that the number of tries alone says nothing about time.
"""
State = Literal["applied", "ignored", "parked"]
_NAME = re.compile(r"[A-Za-z0-9_.]{1,80}")
_MOST_RETRIED = 10
_AWAY_IN_A_ROW = 3
_log = get_logger(__name__)


def receive_event(raw: bytes, signature: str, now: float) -> State:
    """Verify, store and apply one delivery; a duplicate is answered from what is stored. One that lacks its id,
    type, object or mode is kept and ignored.

    Problems: 400 `bad_signature`, `timestamp_out_of_window`, `bad_payload`, `livemode_mismatch`,
    `wrong_account`; 503 `stripe_not_configured`; 502 or 503 when Stripe cannot be asked now (the event is
    kept).
    """
    event = _store(_verified(raw, signature, now), raw)
    state = apply_event(event.pk)
    apply_pending(limit=_MOST_RETRIED)
    return state


def apply_event(event_pk: int) -> State:
    """Apply one stored event unless that is done. A failure leaves it pending and is raised (Stripe's as a
    Problem), until the event is parked.
    """
    event = StripeEvent.objects.get(pk=event_pk)
    if event.state != EventState.PENDING:
        return _final(event.state)
    try:
        note = _apply(event)
    except Exception as error:
        if _failed(event, error):
            return "parked"
        if isinstance(error, StripeFailed):
            raise account.problem_of(error) from error
        raise
    state = EventState.IGNORED if note else EventState.APPLIED
    StripeEvent.objects.filter(pk=event.pk, state=EventState.PENDING).update(
        state=state, note=note, applied_at=clock.now(), attempts=F("attempts") + 1, last_error=""
    )
    return _final(state)


def apply_pending(*, limit: int = 1_000) -> tuple[int, int]:
    """Try pending events: `(applied, still not applied)`. Those that failed least often come first, so that a few
    that never work do not keep the others waiting. A failure is kept with its event and logged; when Stripe cannot be
    asked several times in a row, the rest is left for later, so that nobody waits for each of them.
    """
    pending = StripeEvent.objects.filter(state=EventState.PENDING).order_by("attempts", "pk")
    left = list(pending.values_list("pk", flat=True)[:limit])
    applied = away = 0
    for pk in left:
        outcome = _try(pk)
        applied += outcome == "applied"
        away = away + 1 if outcome == "away" else 0
        if away == _AWAY_IN_A_ROW:
            break
    return applied, len(left) - applied


def retry_parked(event_pk: int | None = None) -> int:
    """A person sends one parked event round again, or all of them: how many are pending now. Applying follows with
    `apply_event` or `apply_pending`.
    """
    parked = StripeEvent.objects.filter(state=EventState.PARKED)
    chosen = parked if event_pk is None else parked.filter(pk=event_pk)
    return chosen.update(state=EventState.PENDING, attempts=0)


def _try(event_pk: int) -> Literal["applied", "failed", "away"]:
    try:
        return "failed" if apply_event(event_pk) == "parked" else "applied"
    except Problem as problem:
        _log.warning("stripe event still pending", row=event_pk, code=problem.code)
        return "away"
    except Exception:  # noqa: BLE001  kept with its event and logged; the others go on
        _log.exception("stripe event still pending", row=event_pk)
        return "failed"


def _verified(raw: bytes, signature: str, now: float) -> dict[str, Any]:
    """The event, or nothing when it is one of Stripe's with something missing."""
    try:
        event = verify_webhook(raw, signature, _secrets(), now)
    except WebhookNotConfigured:
        raise Problem(503, "stripe_not_configured", "This instance has no webhook secret yet.") from None
    except WebhookIncomplete:
        return {}
    except WebhookRefused as refused:
        raise Problem(refused.status, refused.code, refused.message) from None
    _check_origin(event)
    return event


def _secrets() -> list[str]:
    """One signing secret, or several with commas between them while they are being rotated."""
    return [part.strip() for part in settings.STRIPE_WEBHOOK_SECRET.split(",") if part.strip()]


def _check_origin(event: dict[str, Any]) -> None:
    live = settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))
    if event.get("livemode") not in {None, live}:
        raise Problem(
            400, "livemode_mismatch", "This event is of the other mode (live or test) than this instance."
        )
    if event.get("account") not in {None, settings.STRIPE_ACCOUNT_ID or None}:
        raise Problem(400, "wrong_account", "This event belongs to another Stripe account.")


def _store(event: dict[str, Any], raw: bytes) -> StripeEvent:
    event_id = _name(event.get("id")) or f"sha256:{hashlib.sha256(raw).hexdigest()}"
    why = _unusable(event)
    row = StripeEvent(
        event_id=event_id,
        type=_name(event.get("type")),
        object_id=_object_id(event),
        payload=raw.decode(),
        received_at=clock.now(),
        state=EventState.IGNORED if why else EventState.PENDING,
        note=why,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return StripeEvent.objects.get(event_id=event_id)
    return row


def _unusable(event: dict[str, Any]) -> str:
    """Why nothing will come of this event, or the empty string."""
    if not all(_name(event.get(field)) for field in ("id", "type")):
        return "It has no id, no type or no object."
    if event.get("livemode") is None:
        return "It does not say whether it is live."
    if not event["type"].startswith("invoice.") or event["data"]["object"].get("object") != "invoice":
        return "It is about no invoice."
    if (
        event["type"] == "invoice.deleted"
    ):  # only a draft can be deleted there, and ours is still a draft here
        return "A draft that is gone."
    return "" if _object_id(event) else "It names no invoice."


def _object_id(event: dict[str, Any]) -> str:
    return _name(event["data"]["object"].get("id")) if event else ""


def _name(value: Any) -> str:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _apply(event: StripeEvent) -> str:
    """Bring in what the event is about; answers why nothing came of it, or the empty string."""
    try:
        stripe = account.open_account().retrieve_invoice(event.object_id)
    except StripeFailed as failed:
        if failed.code != "resource_missing":
            raise
        return _gone(event)
    return "" if apply_invoice(stripe) is not None else "This instance did not make the invoice."


def _gone(event: StripeEvent) -> str:
    if event.type != "invoice.created":  # a draft can be deleted before its first event comes
        sentence = "Stripe sent an event about an invoice that it does not have."
        raise_alert("unknown_invoice", event.object_id, sentence)
    return "Stripe does not have the invoice."


def _final(state: str) -> State:
    if state == EventState.PARKED:
        return "parked"
    return "ignored" if state == EventState.IGNORED else "applied"


def _failed(event: StripeEvent, error: Exception) -> bool:
    """Count the failure; whether the event is parked by it."""
    away = isinstance(error, StripeFailed | Problem)
    for_good = isinstance(error, StripeFailed) and not error.retryable
    too_often = event.attempts + 1 >= (STRIPE_ATTEMPTS if away else MOST_ATTEMPTS)
    too_long = not away or clock.now() - event.received_at >= STRIPE_PATIENCE
    park = for_good or (too_often and too_long)
    code = getattr(error, "code", type(error).__name__)
    StripeEvent.objects.filter(pk=event.pk, state=EventState.PENDING).update(
        attempts=F("attempts") + 1,
        last_error=code[:300],
        state=EventState.PARKED if park else EventState.PENDING,
    )
    if park:
        _log.error("stripe event parked", event_id=event.event_id, type=event.type, error=code)
    return park
