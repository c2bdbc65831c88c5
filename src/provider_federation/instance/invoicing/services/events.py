"""Stripe's webhook: verified on the raw bytes, stored once, applied by fetching the invoice afresh.

Applying follows right after the commit that stored the event. When it fails, the event stays pending and the
answer is an error, so that Stripe sends it again; the next event and `provider-federation instance apply-
events` try it as well.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q

from provider_federation.instance.invoicing.models import EventState, Invoice, StripeEvent
from provider_federation.instance.invoicing.services import account
from provider_federation.instance.invoicing.services.alerts import raise_alert
from provider_federation.instance.invoicing.services.merging import merge
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import (
    StripeFailed,
    StripeInvoice,
    WebhookNotConfigured,
    WebhookRefused,
    verify_webhook,
)

State = Literal["applied", "ignored"]
_NAME = re.compile(r"[A-Za-z0-9_.]{1,80}")
_MOST_RETRIED = 10
_log = get_logger(__name__)


def receive_event(raw: bytes, signature: str, now: float) -> State:
    """Verify, store and apply one delivery; a duplicate is answered from what is stored.

    Problems: 400 `bad_signature`, `timestamp_out_of_window`, `bad_payload`, `livemode_mismatch`,
    `wrong_account`; 503 `stripe_not_configured`; 502 or 503 when Stripe cannot be asked now (the event is
    kept).
    """
    event = _store(_verified(raw, signature, now), raw)
    state = apply_event(event.pk)
    apply_pending(limit=_MOST_RETRIED)
    return state


def apply_event(event_pk: int) -> State:
    """Apply one stored event unless that is done. A Stripe failure leaves it pending and is raised as a
    Problem.
    """
    event = StripeEvent.objects.get(pk=event_pk)
    if event.state != EventState.PENDING:
        return _final(event.state)
    try:
        state = _apply(event)
    except StripeFailed as failed:
        _note_failure(event, failed.code)
        raise account.problem_of(failed) from failed
    except Exception as error:
        _note_failure(event, type(error).__name__)
        raise
    StripeEvent.objects.filter(pk=event.pk, state=EventState.PENDING).update(
        state=state, applied_at=clock.now(), attempts=F("attempts") + 1, last_error=""
    )
    return _final(state)


def apply_pending(*, limit: int = 1_000) -> tuple[int, int]:
    """Try pending events: `(applied, still pending)`. Those that failed least often come first, so that a few
    that never work do not keep the others waiting. A failure is kept with its event and logged.
    """
    pending = StripeEvent.objects.filter(state=EventState.PENDING).order_by("attempts", "pk")
    outcomes = [_try(pk) for pk in list(pending.values_list("pk", flat=True)[:limit])]
    return outcomes.count(True), outcomes.count(False)


def _try(event_pk: int) -> bool:
    try:
        apply_event(event_pk)
    except Problem as problem:
        _log.warning("stripe event still pending", row=event_pk, code=problem.code)
        return False
    except Exception:  # noqa: BLE001  kept with its event and logged; the others go on
        _log.exception("stripe event still pending", row=event_pk)
        return False
    return True


def _verified(raw: bytes, signature: str, now: float) -> dict[str, Any]:
    try:
        event = verify_webhook(raw, signature, settings.STRIPE_WEBHOOK_SECRET, now)
    except WebhookNotConfigured:
        raise Problem(503, "stripe_not_configured", "This instance has no webhook secret yet.") from None
    except WebhookRefused as refused:
        raise Problem(refused.status, refused.code, refused.message) from None
    _check_origin(event)
    return event


def _check_origin(event: dict[str, Any]) -> None:
    if any(_NAME.fullmatch(event[field]) is None for field in ("id", "type")):
        raise Problem(400, "bad_payload", "The body of this webhook is not a Stripe event.")
    live = settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))
    if event.get("livemode") is not live:
        raise Problem(
            400, "livemode_mismatch", "This event is of the other mode (live or test) than this instance."
        )
    if event.get("account") not in {None, settings.STRIPE_ACCOUNT_ID or None}:
        raise Problem(400, "wrong_account", "This event belongs to another Stripe account.")


def _store(event: dict[str, Any], raw: bytes) -> StripeEvent:
    inner = event["data"]["object"]
    invoice_event = event["type"].startswith("invoice.") and inner.get("object") == "invoice"
    object_id = inner.get("id")
    usable = invoice_event and isinstance(object_id, str) and _NAME.fullmatch(object_id) is not None
    row = StripeEvent(
        event_id=event["id"],
        type=event["type"],
        object_id=object_id if usable else "",
        payload=raw.decode(),
        received_at=clock.now(),
        state=EventState.PENDING if usable else EventState.IGNORED,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return StripeEvent.objects.get(event_id=event["id"])
    return row


def _apply(event: StripeEvent) -> EventState:
    if event.type == "invoice.deleted":
        return EventState.IGNORED  # only a draft can be deleted there, and ours is still a draft here
    try:
        stripe = account.open_account().retrieve_invoice(event.object_id)
    except StripeFailed as failed:
        if failed.code != "resource_missing":
            raise
        return _ignore(event.object_id, "Stripe sent an event about an invoice that it does not have.")
    invoice = _ours(stripe)
    if invoice is None:
        subject = stripe.customer_id or stripe.id
        return _ignore(subject, "Stripe reports an invoice that this instance did not make.")
    merge(invoice.pk, stripe)
    return EventState.APPLIED


def _ignore(subject: str, sentence: str) -> EventState:
    raise_alert("unknown_invoice", subject, sentence)
    return EventState.IGNORED


def _ours(stripe: StripeInvoice) -> Invoice | None:
    """By Stripe's id, or by our reference inside while (or just before) a sending stores that id."""
    reference = stripe.metadata.get(account.ORDER_KEY, "")
    # One query: between two of them a sending could commit, and its own event would look like a stranger's.
    found = Invoice.objects.filter(Q(stripe_invoice_id=stripe.id) | Q(reference=reference)).first()
    return found if found is not None and found.stripe_invoice_id in {None, stripe.id} else None


def _final(state: str) -> State:
    return "ignored" if state == EventState.IGNORED else "applied"


def _note_failure(event: StripeEvent, code: str) -> None:
    StripeEvent.objects.filter(pk=event.pk).update(attempts=F("attempts") + 1, last_error=code)
