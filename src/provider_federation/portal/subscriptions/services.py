"""Making and ending subscriptions in the provider's Stripe account, once, whatever crashes in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Plan, find_plan
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import (
    price_of,
    provider_account,
    stripe_problems,
)
from provider_federation.portal.subscriptions.applying import (
    SUBSCRIPTION_MARK,
    Foreign,
    note_plan,
    refresh_invoice,
    refresh_subscription,
)
from provider_federation.portal.subscriptions.customers import ensure_customer
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import (
    ENDED,
    CapChange,
    PlanCode,
    Status,
    Subscription,
)
from provider_federation.stripe_account import Patience, StripeAccount, StripeFailed
from provider_federation.stripe_account.steps import Step, run_step

__all__ = [
    "Created",
    "cancel_subscription",
    "create_subscription",
    "ensure_customer",
    "note_cap",
    "provider_account",
    "refresh_invoice",
    "refresh_subscription",
]


@dataclass(frozen=True)
class Created:
    """`reused` is True when the client had this subscription already."""

    subscription: Subscription
    reused: bool


def create_subscription(
    instance: Instance,
    plan_code: str,
    *,
    actor: str,
    payment_method: str = "",
    billing_details: Mapping[str, str] | None = None,
) -> Created:
    """Subscribe the client to a plan. With a payment method it is charged at once; without one it begins
    incomplete, and `hosted_invoice_url` is where the client pays. BASE is free and needs no Stripe.

    Repeating the request answers the same subscription. Problem 409 `subscription_exists` when the client has
    another one, 422 `stripe_refused` (a declined card, say), 503 when it may work later.
    """
    plan = find_plan(plan_code)
    if plan.fee_cents:
        provider_account()  # without an account nothing may be claimed either
    price = price_of(plan.code) if plan.fee_cents else ""
    details = {name: value for name, value in (billing_details or {}).items() if value}
    row, reused = _claim(instance, plan, price, payment_method, details, actor)
    if row.status == Status.CREATING:
        with stripe_problems():
            row = _make(row)
    return Created(row, reused)


def cancel_subscription(subscription: Subscription, *, immediate: bool, actor: str) -> Subscription:
    """End it now, or at the end of the paid period. One that has ended is answered as it is.

    Problem 409 `still_creating` while its creation is unfinished: repeat that first.
    """
    row = subscription
    if row.ended or (row.cancel_at_period_end and not immediate):
        return row
    if row.status == Status.CREATING:
        raise Problem(
            409, "still_creating", "This subscription is still being created; repeat that request first."
        )
    if row.stripe_subscription_id is None:
        return _end_free(row, actor=actor)
    with stripe_problems():
        _cancel_there(row, row.stripe_subscription_id, immediate=immediate)
        row = _refreshed(row.stripe_subscription_id)
    record(
        Kind.SUBSCRIPTION_CANCELLED, actor, f"subscription:{row.pk}", immediate=immediate, status=row.status
    )
    return row


def _refreshed(stripe_id: str) -> Subscription:
    try:
        return refresh_subscription(stripe_id)
    except Foreign as foreign:
        sentence = f"Stripe has done it, but the portal cannot tell the plan: {foreign.message}"
        raise Problem(409, "unknown_price", sentence) from foreign


def note_cap(instance: Instance, *, markup: Decimal | None = None) -> None:
    """Keep the history of the client's AI terms: a row when its cap, or the `markup` given (a fraction on top
    of the cost), is not what the last one says.
    """
    last = CapChange.objects.filter(instance=instance).order_by("-effective_at", "-id").first()
    terms = (instance.ai_cap_cents, (last.markup if last else Decimal(0)) if markup is None else markup)
    if last is None or (last.cap_cents, last.markup) != terms:
        CapChange.objects.create(
            instance=instance, cap_cents=terms[0], markup=terms[1], effective_at=clock.now()
        )


def _claim(
    instance: Instance, plan: Plan, price: str, payment_method: str, details: dict[str, str], actor: str
) -> tuple[Subscription, bool]:
    """The client's one living subscription: the row this request makes, or the one it finds."""
    digest = _digest(plan.code, payment_method, details)
    with transaction.atomic():
        locked = Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        _check_currency(locked, plan)
        alive = (
            Subscription.objects.select_for_update().filter(instance=locked).exclude(status__in=ENDED).first()
        )
        if alive is not None and (alive.plan != PlanCode.BASE or plan.code == PlanCode.BASE):
            return _same(alive, plan, digest), True
        if alive is not None:
            _end(alive, clock.now())
        row = _new(locked, plan, price, payment_method, details, digest)
        if not plan.fee_cents:
            note_plan(row)
        record(
            Kind.SUBSCRIPTION_CREATED, actor, f"subscription:{row.pk}", plan=plan.code, client=locked.org_id
        )
    return row, False


def _check_currency(instance: Instance, plan: Plan) -> None:
    if plan.fee_cents and instance.currency.lower() != plan.currency.lower():
        sentence = f"Plans are billed in {plan.currency}, this client in {instance.currency.upper()}."
        raise Problem(422, "currency_mismatch", sentence)


def _same(alive: Subscription, plan: Plan, digest: str) -> Subscription:
    if alive.plan != plan.code:
        sentence = f"This client has the plan {alive.plan} already; cancel it, or change its plan."
        raise Problem(409, "subscription_exists", sentence, subscriptionId=str(alive.pk))
    if alive.status == Status.CREATING and alive.request_digest != digest:
        sentence = "This subscription is being created with other details; repeat the first request."
        raise Problem(409, "creation_in_progress", sentence, subscriptionId=str(alive.pk))
    return alive


def _new(
    instance: Instance, plan: Plan, price: str, payment_method: str, details: dict[str, str], digest: str
) -> Subscription:
    now = clock.now()
    return Subscription.objects.create(
        id=uuid4(),
        instance=instance,
        plan=plan.code,
        status=Status.CREATING if plan.fee_cents else Status.ACTIVE,
        fee_cents=plan.fee_cents,
        currency=plan.currency.lower(),
        stripe_price_id=price,
        request_digest=digest,
        payment_method=payment_method,
        billing_details=details,
        created_at=now,
        updated_at=now,
    )


def _make(row: Subscription) -> Subscription:
    """From the claimed row to Stripe's subscription. What Stripe refuses for good ends the row, so that the
    client can be subscribed anew; what may have happened all the same stays claimed.
    """
    try:
        stripe_id = _create_there(row)
    except StripeFailed as failure:
        if failure.retryable or failure.outcome_unknown:
            raise
        # What was refused now may have been made by an earlier try whose answer never came.
        found = _made_before(row)
        if found is None:
            _give_up(row, failure)
            raise
        stripe_id = found
    fresh = refresh_subscription(stripe_id)
    latest = fresh.snapshot.get("latestInvoice")
    if latest:
        refresh_invoice(latest)
        fresh.refresh_from_db()
    return fresh


def _create_there(row: Subscription) -> str:
    account, journal, key = provider_account(), DatabaseJournal(), f"subscription:{row.pk}"
    customer = ensure_customer(row.instance, row.billing_details).stripe_customer_id or ""
    if row.payment_method:
        _attach_card(row, account, customer, key)
    mark = {SUBSCRIPTION_MARK: str(row.pk)}

    def find(_since: datetime | None) -> str | None:
        return _find_there(row, account, customer)

    def make(idempotency_key: str) -> str:
        created = account.create_subscription(
            customer_id=customer,
            price_id=row.stripe_price_id,
            metadata={**mark, "clientOrgId": row.instance.org_id, "plan": row.plan},
            idempotency_key=idempotency_key,
            payment_method_id=row.payment_method or None,
        )
        return created.id

    # A request waits for this one: little patience, and the repeat of the request goes on from the journal.
    return run_step(
        Step(key, "create", find, make), journal, clock.now, Patience(tries=3, seconds=10)
    ).result_id


def _find_there(row: Subscription, account: StripeAccount, customer: str) -> str | None:
    found = account.list_subscriptions(customer_id=customer)
    return next((one.id for one in found if one.metadata.get(SUBSCRIPTION_MARK) == str(row.pk)), None)


def _made_before(row: Subscription) -> str | None:
    """The subscription that an earlier try made in Stripe, if one was begun; raises `StripeFailed` when Stripe
    cannot be asked: then the row stays claimed.
    """
    if "create" not in DatabaseJournal().load(f"subscription:{row.pk}"):
        return None
    customer = ensure_customer(row.instance, row.billing_details).stripe_customer_id or ""
    return _find_there(row, provider_account(), customer)


def _attach_card(row: Subscription, account: StripeAccount, customer: str, key: str) -> None:
    """The customer's default from now on. Stripe's test cards (`pm_card_visa`) get an id of their own when
    they are attached, and only that one can be charged: the row keeps it, so that a repeat uses the same
    card.
    """
    given = row.payment_method
    attached = account.attach_payment_method(given, customer, idempotency_key=f"pf/{key}/attach/{given}").id
    if attached != given:
        Subscription.objects.filter(pk=row.pk).update(payment_method=attached)
        row.payment_method = attached
    account.set_default_payment_method(customer, attached, idempotency_key=f"pf/{key}/default/{attached}")


def _give_up(row: Subscription, failure: StripeFailed) -> None:
    now = clock.now()
    Subscription.objects.filter(pk=row.pk, status=Status.CREATING).update(
        status=Status.INCOMPLETE_EXPIRED, failure=failure.message[:500], ended_at=now, updated_at=now
    )


def _cancel_there(row: Subscription, stripe_id: str, *, immediate: bool) -> None:
    key = f"pf/subscription:{row.pk}/cancel/{'now' if immediate else 'end'}/{row.version}"
    if immediate:
        provider_account().cancel_subscription(stripe_id, idempotency_key=key)
    else:
        provider_account().update_subscription(stripe_id, idempotency_key=key, cancel_at_period_end=True)


def _end_free(row: Subscription, *, actor: str) -> Subscription:
    with transaction.atomic():
        locked = Subscription.objects.select_for_update().get(pk=row.pk)
        if not locked.ended:
            _end(locked, clock.now())
            note_plan(locked)
            record(
                Kind.SUBSCRIPTION_CANCELLED,
                actor,
                f"subscription:{row.pk}",
                immediate=True,
                status=locked.status,
            )
    return locked


def _end(row: Subscription, at: datetime) -> None:
    row.status, row.ended_at, row.cancelled_at, row.updated_at = Status.CANCELED, at, at, at
    row.version += 1
    row.save()


def _digest(plan: str, payment_method: str, details: Mapping[str, str]) -> str:
    return hashlib.sha256(
        json.dumps([plan, payment_method, dict(details)], sort_keys=True).encode()
    ).hexdigest()
