"""Making and ending subscriptions in the provider's Stripe account, once, whatever crashes in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Plan, find_plan
from provider_federation.money.plans import BASE
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions import queries
from provider_federation.portal.subscriptions.account import price_of, provider_account, stripe_problems
from provider_federation.portal.subscriptions.applying import (
    SUBSCRIPTION_MARK,
    Foreign,
    lock_client,
    note_plan,
    refresh_invoice,
    refresh_subscription,
)
from provider_federation.portal.subscriptions.changes import (
    carry_out,
    check_changeable,
    fail_change,
    open_change,
    open_resumption,
    open_withdrawal,
)
from provider_federation.portal.subscriptions.customers import (
    customer_of,
    ensure_customer,
    living_customer,
    note_customer_deleted,
)
from provider_federation.portal.subscriptions.entitlements import update_entitlement
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import (
    ENDED,
    BillingCustomer,
    ChangeKind,
    ChangeState,
    PlanCode,
    Proration,
    Status,
    Subscription,
    SubscriptionChange,
)
from provider_federation.portal.subscriptions.previews import (
    Preview,
    Wish,
    check_preview,
    preview_change,
    wish_of,
)
from provider_federation.stripe_account import Patience, StripeAccount, StripeFailed
from provider_federation.stripe_account.steps import Step, run_step

__all__ = [
    "Changed",
    "Created",
    "cancel_subscription",
    "change_plan",
    "create_subscription",
    "ensure_customer",
    "finish_change",
    "finish_creation",
    "preview_plan",
    "provider_account",
    "refresh_customer",
    "refresh_invoice",
    "refresh_subscription",
    "resume_subscription",
    "withdraw_change",
]


@dataclass(frozen=True)
class Created:
    """`reused` is True when the client had this subscription already."""

    subscription: Subscription
    reused: bool


@dataclass(frozen=True)
class Changed:
    """The subscription after a change was asked for. `change` is None when there was nothing to do, or when a
    new subscription was created; `reused` when the same had been asked before.
    """

    subscription: Subscription
    change: SubscriptionChange | None
    reused: bool
    preview: Preview | None = None


def create_subscription(
    instance: Instance,
    plan_code: str,
    *,
    actor: str,
    payment_method: str = "",
    billing_details: Mapping[str, str] | None = None,
    trial_days: int = 0,
) -> Created:
    """Subscribe the client to a plan. With a payment method it is charged at once; without one it begins
    incomplete, and `hosted_invoice_url` is where the client pays. With `trial_days` the plan is in force and
    nothing is charged before they are over. BASE is free and needs no Stripe.

    Repeating the request answers the same subscription. Problem 409 `subscription_exists` when the client has
    another one, 422 `stripe_refused` (a declined card, say), 503 when it may work later.
    """
    plan = find_plan(plan_code)
    if plan.fee_cents:
        provider_account()  # without an account nothing may be claimed either
    price = price_of(plan.code) if plan.fee_cents else ""
    details = {name: value for name, value in (billing_details or {}).items() if value}
    asked = _Asked(plan, price, payment_method, details, trial_days if plan.fee_cents else 0)
    row, reused = _claim(instance, asked, actor)
    if row.status == Status.CREATING:
        with stripe_problems():
            row = _make(row)
    return Created(row, reused)


def cancel_subscription(
    subscription: Subscription, *, immediate: bool, actor: str, prorate: bool = False
) -> Subscription:
    """End it now, or at the end of the paid period. `prorate`: what was paid for and is not used any more is
    credited to the client's balance (only when ended now). One that has ended is answered as it is.

    Problem 409 `still_creating` while its creation is unfinished: repeat that first.
    """
    row = subscription
    if row.ended:
        return row
    if row.stripe_subscription_id is None and row.status != Status.CREATING:
        return _end_free(row, actor=actor)
    now = Proration.ALWAYS_INVOICE if prorate else Proration.NONE
    wish = Wish(BASE, now if immediate else Proration.AT_PERIOD_END)
    change, reused = open_change(row, wish, None, actor=actor)
    return _carried_out(change, reused=reused).subscription


def preview_plan(subscription: Subscription, plan_code: str, proration: str = "") -> Preview:
    """What changing to this plan costs, now and next, and what may be handed to `change_plan`.

    Problem 409 when the subscription cannot change (`subscription_ended subscription_unpaid
    subscription_ends still_creating same_plan`), 422 or 503 from Stripe.
    """
    wish = wish_of(subscription, plan_code, proration)
    if subscription.plan == wish.plan.code:
        raise Problem(409, "same_plan", f"The client has the plan {wish.plan.code} already.")
    check_changeable(subscription, wish.kind)
    with stripe_problems():
        return preview_change(subscription, wish)


def change_plan(
    subscription: Subscription,
    plan_code: str,
    *,
    actor: str,
    proration: str = "",
    preview_token: str = "",
    payment_method: str = "",
) -> Changed:
    """Carry out a change of plan: an upgrade now and prorated, a downgrade at the end of the period, unless
    the settings or `proration` say otherwise. With a preview exactly that is done, or 409 `preview_stale`.

    From BASE a subscription is created (`payment_method` as there); to BASE it is cancelled. The plan that
    the client has already takes a waiting change back. The plan in force changes when Stripe says so.
    """
    row = subscription
    if row.plan == PlanCode.BASE:
        return _leave_base(row, plan_code, preview_token, actor=actor, payment_method=payment_method)
    wish = wish_of(row, plan_code, proration)
    if row.plan == wish.plan.code and not row.ended:
        return withdraw_change(row, actor=actor)
    waiting = queries.change_under_way(row)
    if waiting and (waiting.to_plan, waiting.proration) == (wish.plan.code, wish.proration):
        return _carried_out(waiting, reused=True)
    check_changeable(row, wish.kind)
    with stripe_problems():
        preview = check_preview(row, wish, preview_token) if preview_token else preview_change(row, wish)
    change, reused = open_change(row, wish, preview, actor=actor)
    return _carried_out(change, reused=reused, preview=preview)


def resume_subscription(subscription: Subscription, *, actor: str) -> Changed:
    """Take a cancellation at the end of the period back, or go on after a pause. One that simply goes on is
    answered as it is. Problem 409 `subscription_ended`.
    """
    going_on = not subscription.cancel_at_period_end and subscription.status != Status.PAUSED
    if subscription.stripe_subscription_id and going_on and not subscription.ended:
        return Changed(subscription, None, reused=True)
    change, reused = open_resumption(subscription, actor=actor)
    return _carried_out(change, reused=reused)


def withdraw_change(subscription: Subscription, *, actor: str) -> Changed:
    """Take back a change of plan that is scheduled or waits for its payment; without one nothing happens."""
    waiting = queries.change_under_way(subscription)
    if waiting is None:
        return Changed(subscription, None, reused=True)
    if waiting.kind == ChangeKind.CANCEL:
        return resume_subscription(subscription, actor=actor)
    change, reused = open_withdrawal(subscription, actor=actor)
    return _carried_out(change, reused=reused)


def refresh_customer(stripe_customer_id: str) -> BillingCustomer | None:
    """Look whether a client's customer was deleted in Stripe; when it was, its subscriptions are looked at
    too. None when it is nobody's, or still there. Raises `StripeFailed`.
    """
    known = customer_of(stripe_customer_id)
    if known is None or not provider_account().retrieve_customer(stripe_customer_id).deleted:
        return None
    note_customer_deleted(stripe_customer_id)
    for row in Subscription.objects.filter(instance=known.instance).exclude(status__in=ENDED):
        if row.stripe_subscription_id:
            refresh_subscription(row.stripe_subscription_id)
    return known


def finish_creation(subscription_id: UUID) -> None:
    """Go on with a creation that nobody repeats. Raises `StripeFailed` when it should be tried again."""
    row = Subscription.objects.select_related("instance").filter(pk=subscription_id).first()
    if row is None or row.status != Status.CREATING:
        return
    try:
        _make(row)
    except StripeFailed as failure:
        if failure.retryable or failure.outcome_unknown:
            raise  # what was refused for good has ended the row


def finish_change(change_id: UUID) -> None:
    """Go on with a change that nobody repeats. Raises `StripeFailed` when it should be tried again."""
    change = SubscriptionChange.objects.select_related("subscription__instance").filter(pk=change_id).first()
    if change is None or change.state != ChangeState.CARRYING_OUT:
        return
    try:
        _do(change)
    except StripeFailed as failure:
        if failure.retryable or failure.outcome_unknown:
            raise


def _leave_base(
    row: Subscription, plan_code: str, preview_token: str, *, actor: str, payment_method: str
) -> Changed:
    """BASE has nothing in Stripe to change: the paid plan is a new subscription, and BASE ends."""
    wish = wish_of(row, plan_code)
    if wish.plan.code == PlanCode.BASE:
        return Changed(row, None, reused=True)
    if preview_token:
        check_preview(row, wish, preview_token)
    if row.ended and queries.current_subscription(row.instance) is None:
        raise Problem(409, "subscription_ended", "This subscription has ended; create a new one.")
    created = create_subscription(row.instance, plan_code, actor=actor, payment_method=payment_method)
    return Changed(created.subscription, None, reused=created.reused)


def _carried_out(change: SubscriptionChange, *, reused: bool, preview: Preview | None = None) -> Changed:
    if change.state == ChangeState.CARRYING_OUT:
        with stripe_problems():
            _do(change)
    change.refresh_from_db()
    row = Subscription.objects.select_related("instance").get(pk=change.subscription_id)
    return Changed(row, change, reused=reused, preview=preview)


def _do(change: SubscriptionChange) -> None:
    """Every step in Stripe, then what Stripe says. What it refuses for good ends the change."""
    try:
        carry_out(change)
    except StripeFailed as failure:
        if not failure.retryable and not failure.outcome_unknown:
            fail_change(change, failure.message)
        raise
    try:
        fresh = _refreshed(str(change.subscription.stripe_subscription_id))
    except Problem as problem:
        fail_change(change, problem.message)
        raise
    latest = fresh.snapshot.get("latestInvoice")
    if latest:
        refresh_invoice(latest)
    fail_change(change, "Stripe shows the subscription otherwise; somebody changed it in the meantime.")


def _refreshed(stripe_id: str) -> Subscription:
    try:
        return refresh_subscription(stripe_id)
    except Foreign as foreign:
        sentence = f"Stripe has done it, but the portal cannot tell the plan: {foreign.message}"
        raise Problem(409, "unknown_price", sentence) from foreign


@dataclass(frozen=True)
class _Asked:
    plan: Plan
    price: str
    payment_method: str
    details: dict[str, str]
    trial_days: int

    @property
    def digest(self) -> str:
        asked = [self.plan.code, self.payment_method, self.details, self.trial_days]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _claim(instance: Instance, asked: _Asked, actor: str) -> tuple[Subscription, bool]:
    """The client's one living subscription: the row this request makes, or the one it finds."""
    plan = asked.plan
    with transaction.atomic():
        locked = Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        _check_currency(locked, plan)
        alive = (
            Subscription.objects.select_for_update().filter(instance=locked).exclude(status__in=ENDED).first()
        )
        if alive is not None and (alive.plan != PlanCode.BASE or plan.code == PlanCode.BASE):
            return _same(alive, plan, asked.digest), True
        if alive is not None:
            _end(alive, clock.now())
        row = _new(locked, asked)
        if not plan.fee_cents:
            note_plan(row)
            update_entitlement(locked)
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


def _new(instance: Instance, asked: _Asked) -> Subscription:
    now, plan = clock.now(), asked.plan
    return Subscription.objects.create(
        id=uuid4(),
        instance=instance,
        plan=plan.code,
        status=Status.CREATING if plan.fee_cents else Status.ACTIVE,
        fee_cents=plan.fee_cents,
        currency=plan.currency.lower(),
        stripe_price_id=asked.price,
        request_digest=asked.digest,
        payment_method=asked.payment_method,
        billing_details=asked.details,
        trial_days=asked.trial_days,
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
    customer = living_customer(row.instance, row.billing_details)
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
            trial_days=row.trial_days,
            tax_rates=settings.PROVIDER_STRIPE_TAX_RATES,
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


def _end_free(row: Subscription, *, actor: str) -> Subscription:
    with transaction.atomic():
        lock_client(row.instance_id)
        locked = Subscription.objects.select_for_update().get(pk=row.pk)
        if not locked.ended:
            _end(locked, clock.now())
            note_plan(locked)
            update_entitlement(locked.instance)
            facts = {"immediate": True, "status": locked.status}
            record(Kind.SUBSCRIPTION_CANCELLED, actor, f"subscription:{row.pk}", **facts)
    return locked


def _end(row: Subscription, at: datetime) -> None:
    row.status, row.ended_at, row.cancelled_at, row.updated_at = Status.CANCELED, at, at, at
    row.version += 1
    row.save()
