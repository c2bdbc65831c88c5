"""Changing a subscription in Stripe: another plan, cancelling, resuming, taking a change back.

What is asked is stored first, then done step by step through the journal, so that a crash at any point is
followed by the same steps and no second ones. Whether it is in force is read from Stripe's subscription and
from nothing else (`settle_changes`): a plan that must be paid first is not in force before it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import price_of, provider_account
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.portal.subscriptions.models import (
    WAITING,
    ChangeKind,
    ChangeState,
    Proration,
    Status,
    Subscription,
    SubscriptionChange,
)
from provider_federation.portal.subscriptions.previews import Preview, Wish
from provider_federation.stripe_account import Patience, StripeSubscription
from provider_federation.stripe_account.steps import Step, run_step

_CHANGEABLE = (Status.ACTIVE, Status.TRIALING)
_END = (ChangeState.DONE, ChangeState.WITHDRAWN, ChangeState.FAILED)


def open_change(
    row: Subscription, wish: Wish, preview: Preview | None, *, actor: str
) -> tuple[SubscriptionChange, bool]:
    """The stored change for this wish, and whether it was there already (being carried out, or waiting).

    Problem 409 `change_in_progress` while another one is carried out, `subscription_ended`,
    `subscription_unpaid`, `subscription_ends`.
    """
    return _open(row, wish.kind, wish.plan.code, wish.proration, preview, actor=actor)


def open_resumption(row: Subscription, *, actor: str) -> tuple[SubscriptionChange, bool]:
    """Taking back a cancellation at the end of the period, or going on after a pause."""
    return _open(row, ChangeKind.RESUME, row.plan, "", None, actor=actor)


def open_withdrawal(row: Subscription, *, actor: str) -> tuple[SubscriptionChange, bool]:
    """Taking back a change that is scheduled or waits for its payment."""
    return _open(row, ChangeKind.WITHDRAW, row.plan, "", None, actor=actor)


def carry_out(change: SubscriptionChange) -> None:
    """The steps of a change in Stripe, each once. Raises `StripeFailed`. What came of it is not said here."""
    row = change.subscription
    fresh = provider_account().retrieve_subscription(str(row.stripe_subscription_id))
    for step in _steps(change, fresh):
        run_step(step, DatabaseJournal(), clock.now, Patience(tries=3, seconds=10))


def fail_change(change: SubscriptionChange, reason: str) -> None:
    """It will not happen: Stripe refused it."""
    SubscriptionChange.objects.filter(pk=change.pk, state=ChangeState.CARRYING_OUT).update(
        state=ChangeState.FAILED, failure=reason[:500], finished_at=clock.now()
    )


def settle_changes(row: Subscription, fresh: StripeSubscription) -> None:
    """What the subscription, as Stripe shows it, says about the changes that have not come to their end.

    In the transaction that writes the subscription, and under its lock: no event has to come in order, or at
    all.
    """
    open_states = (ChangeState.CARRYING_OUT, *WAITING)
    for change in SubscriptionChange.objects.filter(subscription=row, state__in=open_states).order_by(
        "created_at"
    ):
        state = _state_of(change, fresh)
        if state != change.state:
            _move(change, state)


def _move(change: SubscriptionChange, state: ChangeState) -> None:
    change.state = state
    if state in _END:
        change.finished_at = clock.now()
    if state == ChangeState.DONE and change.effective_at is None:
        change.effective_at = clock.now()
    if state == ChangeState.FAILED:
        change.failure = "It was not paid in time; the plan stayed as it was."
    change.save()
    record(
        Kind.SUBSCRIPTION_CHANGED,
        "stripe",
        f"subscription:{change.subscription_id}",
        change=str(change.pk),
        wanted=change.kind,
        plan=change.to_plan,
        state=state,
    )


def _state_of(change: SubscriptionChange, fresh: StripeSubscription) -> ChangeState:
    before = ChangeState(change.state)
    ended = fresh.status in {Status.CANCELED, Status.INCOMPLETE_EXPIRED}
    if change.kind == ChangeKind.CANCEL:
        return _state_of_cancellation(before, fresh, ended=ended)
    if ended:
        return ChangeState.DONE if change.kind == ChangeKind.WITHDRAW else ChangeState.WITHDRAWN
    if change.kind == ChangeKind.RESUME:
        going_on = not fresh.cancel_at_period_end and fresh.status != Status.PAUSED
        return ChangeState.DONE if going_on else before
    if change.kind == ChangeKind.WITHDRAW:
        waits = fresh.schedule_id or fresh.pending_price_ids
        return before if waits else ChangeState.DONE
    return _state_of_plan(change, before, fresh)


def _state_of_cancellation(before: ChangeState, fresh: StripeSubscription, *, ended: bool) -> ChangeState:
    if ended:
        return ChangeState.DONE
    if fresh.cancel_at_period_end:
        return ChangeState.SCHEDULED if before == ChangeState.CARRYING_OUT else before
    return ChangeState.WITHDRAWN if before == ChangeState.SCHEDULED else before


def _state_of_plan(change: SubscriptionChange, before: ChangeState, fresh: StripeSubscription) -> ChangeState:
    if fresh.items and fresh.items[0].price.id == change.stripe_price_id:
        return ChangeState.DONE
    if change.stripe_price_id in fresh.pending_price_ids:
        return ChangeState.AWAITING_PAYMENT
    if before == ChangeState.AWAITING_PAYMENT:
        return ChangeState.FAILED
    if change.stripe_schedule_id and change.stripe_schedule_id == fresh.schedule_id:
        return ChangeState.SCHEDULED
    return ChangeState.WITHDRAWN if before == ChangeState.SCHEDULED else before


def _open(
    row: Subscription, kind: str, plan: str, proration: str, preview: Preview | None, *, actor: str
) -> tuple[SubscriptionChange, bool]:
    with transaction.atomic():
        # The client first, then its subscription: everybody takes these locks in this order.
        Instance.objects.select_for_update(no_key=True).get(pk=row.instance_id)
        locked = Subscription.objects.select_for_update().get(pk=row.pk)
        known = _same_wish(locked, kind, plan, proration)
        if known is not None:
            return known, True
        check_changeable(locked, kind)
        now_plan = kind == ChangeKind.PLAN
        change = SubscriptionChange.objects.create(
            subscription=locked,
            kind=kind,
            proration=proration,
            from_plan=locked.plan,
            to_plan=plan,
            stripe_price_id=price_of(plan) if now_plan else "",
            proration_date=preview.proration_date if preview else clock.now().replace(microsecond=0),
            amount_now_cents=preview.amount_now_cents if preview else None,
            amount_next_cents=preview.amount_next_cents if preview else None,
            effective_at=locked.current_period_end if proration == Proration.AT_PERIOD_END else None,
            requested_by=actor[:200],
            created_at=clock.now(),
        )
        _note_request(change, actor)
    return change, False


def _note_request(change: SubscriptionChange, actor: str) -> None:
    cancels = change.kind == ChangeKind.CANCEL
    record(
        Kind.SUBSCRIPTION_CANCELLED if cancels else Kind.SUBSCRIPTION_CHANGED,
        actor,
        f"subscription:{change.subscription_id}",
        change=str(change.pk),
        wanted=change.kind,
        plan=change.to_plan,
        proration=change.proration,
    )


def _same_wish(row: Subscription, kind: str, plan: str, proration: str) -> SubscriptionChange | None:
    under_way = SubscriptionChange.objects.filter(
        subscription=row, state__in=(ChangeState.CARRYING_OUT, *WAITING)
    ).order_by("created_at")
    for change in under_way:
        if (change.kind, change.to_plan, change.proration) == (kind, plan, proration):
            return change
        if change.state == ChangeState.CARRYING_OUT:
            sentence = "Another change of this subscription is being carried out; wait for its end."
            raise Problem(409, "change_in_progress", sentence, changeId=str(change.pk))
    return None


def check_changeable(row: Subscription, kind: str) -> None:
    """Problem 409 when such a change cannot be made of the subscription as it is."""
    if row.ended:
        raise Problem(409, "subscription_ended", "This subscription has ended; create a new one.")
    if row.status == Status.CREATING:
        raise Problem(
            409, "still_creating", "This subscription is still being created; repeat that request first."
        )
    if kind == ChangeKind.PLAN and row.status not in _CHANGEABLE:
        raise Problem(
            409, "subscription_unpaid", "This subscription is not paid; its plan can change once it is."
        )
    if kind == ChangeKind.PLAN and row.cancel_at_period_end:
        raise Problem(409, "subscription_ends", "This subscription ends with its period; resume it first.")


def _steps(change: SubscriptionChange, fresh: StripeSubscription) -> list[Step]:
    """What has to be done, in order. A schedule from before is let go first: Stripe takes no other change
    beside it, except of our own.
    """
    key = f"change:{change.pk}"
    steps = []
    if fresh.schedule_id and not _is_mine(change, fresh.schedule_id):
        steps.append(_release(key, fresh.id, fresh.schedule_id))
    if change.kind == ChangeKind.PLAN and change.proration == Proration.AT_PERIOD_END:
        return [*steps, _schedule(change, key, fresh.id), _phases(change, key)]
    if change.kind == ChangeKind.PLAN:
        return [*steps, _price(change, key, fresh)]
    if change.kind == ChangeKind.CANCEL:
        at_end = change.proration == Proration.AT_PERIOD_END
        return [*steps, _cancel_later(key, fresh.id) if at_end else _cancel_now(change, key, fresh.id)]
    if change.kind == ChangeKind.RESUME:
        return [*steps, _resume(key, fresh)]
    return [*steps, *([_void(key, fresh)] if fresh.pending_price_ids else [])]


def _is_mine(change: SubscriptionChange, schedule_id: str) -> bool:
    """Whether the schedule is this change's own; told from the journal too, when the crash came between."""
    made = DatabaseJournal().load(f"change:{change.pk}").get("schedule")
    return schedule_id == change.stripe_schedule_id or (
        made is not None and made.result_id in {None, schedule_id}
    )


def _current(stripe_id: str) -> StripeSubscription:
    return provider_account().retrieve_subscription(stripe_id)


def _found(
    stripe_id: str, test: Callable[[StripeSubscription], bool]
) -> Callable[[datetime | None], str | None]:
    """`find` of a step on the subscription itself: its id when what is wanted is there already."""

    def find(_since: datetime | None) -> str | None:
        return stripe_id if test(_current(stripe_id)) else None

    return find


def _release(key: str, stripe_id: str, schedule_id: str) -> Step:
    def make(idempotency_key: str) -> str:
        provider_account().release_schedule(schedule_id, idempotency_key=idempotency_key)
        return schedule_id

    def find(_since: datetime | None) -> str | None:
        return schedule_id if _current(stripe_id).schedule_id != schedule_id else None

    return Step(key, f"release:{schedule_id[-24:]}", find, make)


def _schedule(change: SubscriptionChange, key: str, stripe_id: str) -> Step:
    def find(_since: datetime | None) -> str | None:
        return _keep_schedule(change, _current(stripe_id).schedule_id)

    def make(idempotency_key: str) -> str:
        made = provider_account().create_schedule(stripe_id, metadata={}, idempotency_key=idempotency_key)
        return str(_keep_schedule(change, made.id))

    return Step(key, "schedule", find, make)


def _keep_schedule(change: SubscriptionChange, schedule_id: str | None) -> str | None:
    if schedule_id:
        change.stripe_schedule_id = schedule_id
        SubscriptionChange.objects.filter(pk=change.pk).update(stripe_schedule_id=schedule_id)
    return schedule_id


def _phases(change: SubscriptionChange, key: str) -> Step:
    def schedule_id() -> str:
        return str(DatabaseJournal().load(key)["schedule"].result_id)

    def find(_since: datetime | None) -> str | None:
        found = provider_account().retrieve_schedule(schedule_id())
        return found.id if change.stripe_price_id in {phase.price_id for phase in found.phases} else None

    def make(idempotency_key: str) -> str:
        found = provider_account().retrieve_schedule(schedule_id())
        return (
            provider_account()
            .schedule_price(found, change.stripe_price_id, idempotency_key=idempotency_key)
            .id
        )

    return Step(key, "phases", find, make)


def _price(change: SubscriptionChange, key: str, fresh: StripeSubscription) -> Step:
    def there(now: StripeSubscription) -> bool:
        return now.items[0].price.id == change.stripe_price_id or (
            change.stripe_price_id in now.pending_price_ids
        )

    def make(idempotency_key: str) -> str:
        assert change.proration_date is not None
        return (
            provider_account()
            .change_price(
                fresh.id,
                item_id=fresh.items[0].id,
                price_id=change.stripe_price_id,
                proration_behavior=change.proration,
                proration_date=change.proration_date,
                idempotency_key=idempotency_key,
            )
            .id
        )

    return Step(key, "price", _found(fresh.id, there), make)


def _cancel_later(key: str, stripe_id: str) -> Step:
    def make(idempotency_key: str) -> str:
        account = provider_account()
        return account.update_subscription(
            stripe_id, idempotency_key=idempotency_key, cancel_at_period_end=True
        ).id

    return Step(key, "cancel_later", _found(stripe_id, lambda now: now.cancel_at_period_end), make)


def _cancel_now(change: SubscriptionChange, key: str, stripe_id: str) -> Step:
    prorate = change.proration in {Proration.ALWAYS_INVOICE, Proration.CREATE_PRORATIONS}

    def make(idempotency_key: str) -> str:
        account = provider_account()
        return account.cancel_subscription(
            stripe_id, idempotency_key=idempotency_key, prorate=prorate, invoice_now=prorate
        ).id

    # Stripe keeps no idempotency key of a DELETE, and refuses to end what has ended.
    find = _found(stripe_id, lambda now: now.status == Status.CANCELED)
    return Step(key, "cancel", find, make, look_first=True)


def _resume(key: str, fresh: StripeSubscription) -> Step:
    def make(idempotency_key: str) -> str:
        account = provider_account()
        if fresh.status == Status.PAUSED:
            return account.resume_subscription(fresh.id, idempotency_key=idempotency_key).id
        return account.update_subscription(
            fresh.id, idempotency_key=idempotency_key, cancel_at_period_end=False
        ).id

    def going_on(now: StripeSubscription) -> bool:
        return not now.cancel_at_period_end and now.status != Status.PAUSED

    return Step(key, "resume", _found(fresh.id, going_on), make)


def _void(key: str, fresh: StripeSubscription) -> Step:
    """A change that waits for its payment is dropped by Stripe when its invoice is void."""

    def make(idempotency_key: str) -> str:
        return (
            provider_account().void_invoice(str(fresh.latest_invoice_id), idempotency_key=idempotency_key).id
        )

    def find(_since: datetime | None) -> str | None:
        return fresh.latest_invoice_id if not _current(fresh.id).pending_price_ids else None

    return Step(key, "void", find, make)
