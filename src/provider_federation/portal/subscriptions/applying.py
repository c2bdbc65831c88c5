"""What Stripe says about subscriptions and their invoices reaches our rows, always from a fresh look.

Two workers may look at the same object: whoever looked before the other wrote looks again (`version`), so
that an older state never overwrites a newer one, whatever the order of events.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from provider_federation.kit import clock
from provider_federation.money import find_plan
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import plan_of, provider_account
from provider_federation.portal.subscriptions.changes import settle_changes
from provider_federation.portal.subscriptions.customers import customer_of
from provider_federation.portal.subscriptions.entitlements import update_entitlement
from provider_federation.portal.subscriptions.figures import StripeFigures
from provider_federation.portal.subscriptions.models import (
    ENDED,
    ENTITLED,
    ChangeState,
    PlanChange,
    PlanCode,
    Subscription,
    SubscriptionChange,
    SubscriptionInvoice,
)
from provider_federation.portal.subscriptions.queries import plan_history
from provider_federation.stripe_account import StripeInvoice, StripeSubscription

SUBSCRIPTION_MARK = "pf_subscription"
"""The metadata key under which Stripe's subscription names our row."""

_TRIES = 5

Row = TypeVar("Row")


class Foreign(Exception):
    """Stripe's object does not belong to what we know: `code`, and a sentence for the alert. Nothing was
    changed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Overtaken(Exception):
    """Somebody wrote after we looked: look again."""


def look_until_current(attempt: Callable[[], Row]) -> Row:
    """Call `attempt` (look, then write) until nobody wrote in between."""
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except (Overtaken, IntegrityError):
            continue  # IntegrityError: the other one made the row that we were about to make
    return attempt()


def refresh_subscription(stripe_subscription_id: str) -> Subscription:
    """Fetch the subscription and apply it. Raises `StripeFailed`, or `Foreign` when it is not one of ours."""

    def attempt() -> Subscription:
        row = Subscription.objects.filter(stripe_subscription_id=stripe_subscription_id).first()
        fresh = provider_account().retrieve_subscription(stripe_subscription_id)
        if row is None:
            row = _expected_row(fresh)
            if row.stripe_subscription_id:
                raise Overtaken  # bound while we looked: what we saw may be older than what is written
        return apply_subscription(fresh, seen=row.version)

    return look_until_current(attempt)


def apply_subscription(fresh: StripeSubscription, *, seen: int) -> Subscription:
    """Write what Stripe says; `seen` is the row's version before it was fetched, another one raises
    `Overtaken`.
    """
    with transaction.atomic():
        row = _locked_row(fresh)
        if row.version != seen:
            raise Overtaken
        _copy(row, fresh)
        row.save()
        note_plan(row, fresh)
        settle_changes(row, fresh)
        update_entitlement(row.instance)
    return row


def refresh_invoice(stripe_invoice_id: str) -> SubscriptionInvoice:
    """Fetch a subscription's invoice and apply it. Raises `StripeFailed` or `Foreign`."""

    def attempt() -> SubscriptionInvoice:
        row = SubscriptionInvoice.objects.filter(stripe_invoice_id=stripe_invoice_id).first()
        return apply_invoice(
            provider_account().retrieve_invoice(stripe_invoice_id, payments=True),
            seen=row.version if row else 0,
        )

    return look_until_current(attempt)


def apply_invoice(fresh: StripeInvoice, *, seen: int) -> SubscriptionInvoice:
    """Write what a subscription billed. `Foreign` when the subscription or its customer is not ours."""
    subscription = _subscription_of(fresh)
    with transaction.atomic():
        lock_client(subscription.instance_id)
        found = SubscriptionInvoice.objects.select_for_update().filter(stripe_invoice_id=fresh.id).first()
        row = found or SubscriptionInvoice(stripe_invoice_id=fresh.id, version=0)
        if row.version != seen:
            raise Overtaken
        row.instance, row.subscription = subscription.instance, subscription
        row.status, row.billing_reason = fresh.status, fresh.billing_reason or ""
        row.billed_at = fresh.finalized_at or fresh.created
        row.service_start, row.service_end = _service_period(fresh)
        copy_figures(row, fresh)
        row.save()
        _keep_link(subscription)
        update_entitlement(subscription.instance)
    return row


def copy_figures(row: StripeFigures, fresh: StripeInvoice) -> None:
    """Everything about money that Stripe's invoice says, onto the row; the version goes up."""
    row.number = fresh.number or ""
    row.currency = fresh.currency.lower()
    row.total_cents, row.due_cents = fresh.total, fresh.amount_due
    row.tax_cents = fresh.tax
    row.paid_cents, row.remaining_cents = fresh.amount_paid, fresh.amount_remaining
    row.off_stripe_cents = fresh.amount_off_stripe
    if fresh.payments is not None:
        row.payments = [
            {"at": one.at.isoformat(), "cents": one.amount, "stripe": one.through_stripe}
            for one in fresh.payments
        ]
    row.credited_unpaid_cents, row.credited_paid_cents = fresh.credited_unpaid, fresh.credited_paid
    row.hosted_invoice_url, row.invoice_pdf = fresh.hosted_invoice_url or "", fresh.invoice_pdf or ""
    row.finalized_at, row.paid_at, row.due_at = fresh.finalized_at, fresh.paid_at, fresh.due_date
    row.voided_at, row.uncollectible_at = fresh.voided_at, fresh.marked_uncollectible_at
    row.seen_at = clock.now()
    row.version += 1


def note_plan(row: Subscription, fresh: StripeSubscription | None = None) -> None:
    """A row in the client's plan history when what is in force changed: the entitled subscription's plan,
    else BASE.

    A late word about a subscription that ended therefore never takes the next one's plan away.
    """
    Instance.objects.select_for_update(no_key=True).get(pk=row.instance_id)
    entitled = Subscription.objects.filter(instance=row.instance, status__in=ENTITLED).first()
    wanted = entitled.plan if entitled else PlanCode.BASE
    history = plan_history(row.instance)
    if (history[-1].plan if history else PlanCode.BASE) == wanted and (history or entitled is None):
        return
    since = _since(row, fresh)
    PlanChange.objects.create(
        instance=row.instance,
        subscription=entitled or row,
        plan=wanted,
        effective_at=max(since, history[-1].effective_at) if history else since,
        recorded_at=clock.now(),
        reason=f"subscription {row.status}",
    )


def _since(row: Subscription, fresh: StripeSubscription | None) -> datetime:
    if fresh is None:
        return row.ended_at or row.created_at
    if row.status not in ENTITLED:
        return fresh.ended_at or fresh.canceled_at or clock.now()
    # The first plan of a subscription holds from its start, a scheduled one from the end of the period that it waited
    # for, any other from when Stripe told us.
    if not PlanChange.objects.filter(subscription=row).exists():
        return fresh.start_date
    scheduled = SubscriptionChange.objects.filter(
        subscription=row, state=ChangeState.SCHEDULED, stripe_price_id=row.stripe_price_id
    ).first()
    waited_until = scheduled.effective_at if scheduled else None
    return min(waited_until, clock.now()) if waited_until else clock.now()


def _locked_row(fresh: StripeSubscription) -> Subscription:
    expected = _expected_row(fresh)
    lock_client(expected.instance_id)
    return Subscription.objects.select_for_update().select_related("instance").get(pk=expected.pk)


def lock_client(instance_id: UUID) -> None:
    """The client first, then its subscription and its invoices: everybody takes these locks in this order."""
    Instance.objects.select_for_update(no_key=True).get(pk=instance_id)


def _expected_row(fresh: StripeSubscription) -> Subscription:
    instance = _client_of(fresh.customer_id)
    ours = Q(stripe_subscription_id=fresh.id)
    mark = _uuid(fresh.metadata.get(SUBSCRIPTION_MARK))
    if mark is not None:
        ours |= Q(pk=mark, stripe_subscription_id=None)
    # One query: between two of them another worker could bind the row, and it would look like a stranger's.
    row = Subscription.objects.filter(ours, instance=instance).first()
    if row is None:
        raise Foreign(
            "unknown_subscription",
            f"Stripe's subscription {fresh.id} of {instance} was not made by this portal.",
        )
    return row


def _subscription_of(fresh: StripeInvoice) -> Subscription:
    instance = _client_of(fresh.customer_id)
    row = Subscription.objects.filter(stripe_subscription_id=fresh.subscription_id, instance=instance).first()
    if row is None or not fresh.subscription_id:
        raise Foreign(
            "unknown_subscription",
            f"Stripe's invoice {fresh.id} of {instance} belongs to no subscription we know.",
        )
    return row


def _client_of(stripe_customer_id: str | None) -> Instance:
    customer = customer_of(stripe_customer_id)
    if customer is None:
        raise Foreign("unknown_customer", f"Stripe's customer {stripe_customer_id} is no client of ours.")
    return customer.instance


def _copy(row: Subscription, fresh: StripeSubscription) -> None:
    row.stripe_subscription_id = fresh.id
    row.status = fresh.status
    row.cancel_at_period_end = fresh.cancel_at_period_end
    row.cancelled_at, row.ended_at, row.trial_end = fresh.canceled_at, fresh.ended_at, fresh.trial_end
    if fresh.items:
        item = fresh.items[0]
        row.current_period_start, row.current_period_end = item.period_start, item.period_end
        # The settings may name a newer price for the plan by now; what has ended ends whatever its price is.
        if item.price.id != row.stripe_price_id and fresh.status not in ENDED:
            _copy_plan(row, item.price.id)
        row.stripe_price_id = item.price.id
    row.snapshot = {
        "status": fresh.status,
        "latestInvoice": fresh.latest_invoice_id,
        "items": [i.id for i in fresh.items],
    }
    row.snapshot_at = row.updated_at = clock.now()
    row.failure = ""
    row.version += 1


def _copy_plan(row: Subscription, price_id: str) -> None:
    plan = plan_of(price_id)
    if plan is None:
        raise Foreign(
            "unknown_price",
            f"{row.instance} subscribes to Stripe's price {price_id}, which is no plan of ours.",
        )
    row.plan, row.fee_cents = plan, find_plan(plan).fee_cents


def _service_period(fresh: StripeInvoice) -> tuple[datetime | None, datetime | None]:
    # The invoice's own period is the one before, in which items were gathered; the lines say what was paid
    # for.
    ends = [line.period_end for line in fresh.lines if line.period_end]
    newest = max(ends) if ends else None
    starts = [line.period_start for line in fresh.lines if line.period_end == newest and line.period_start]
    return (min(starts) if starts else fresh.period_start), newest or fresh.period_end


def _keep_link(subscription: Subscription) -> None:
    unpaid = SubscriptionInvoice.objects.filter(subscription=subscription, status="open").order_by(
        "billed_at", "id"
    )
    newest = unpaid.last()
    Subscription.objects.filter(pk=subscription.pk).update(
        hosted_invoice_url=newest.hosted_invoice_url if newest else ""
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
