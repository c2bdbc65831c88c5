"""Looking through the provider's Stripe account for what no event told us of: a lost webhook is found here.

Objects are listed by the time they were made; what is older and not final in our books is fetched one by
one. Whatever differs from our row is applied like an event's object, so that it does not matter who was first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from provider_federation.kit import clock
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.revenue.alerts import raise_alert
from provider_federation.portal.revenue.models import StripeSweep, UsageInvoice, UsageStatus
from provider_federation.portal.revenue.services.applying import ORDER_MARK, refresh_any_invoice
from provider_federation.portal.revenue.services.jobs import defer_sweep
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.applying import Foreign, refresh_subscription
from provider_federation.portal.subscriptions.models import ENDED, Subscription, SubscriptionInvoice
from provider_federation.stripe_account import StripeFailed, StripeInvoice, StripeSubscription

WINDOW = timedelta(days=35)
"""Objects made in this time are listed; Stripe itself gives up on a delivery after three days."""
_PART = timedelta(days=3)
_MOST = 1_000_000
"""Objects in one list at most: an account's limit for one sweep would be the end of all sweeps."""
_ROW = 1
_CHANGING = (UsageStatus.OPEN, UsageStatus.UNCOLLECTIBLE)

Found = tuple[int, int]
"""How many objects were looked at, and how many of them our books did not have as they are."""


@dataclass(frozen=True)
class Swept:
    """What one sweep did. `problems` are objects that are not ours, told as alerts."""

    looked_at: int
    found: int
    problems: int = 0


_EXTRA: list[Callable[[datetime], Found]] = []


def sweeps(look: Callable[[datetime], Found]) -> None:
    """Have `look(since)` take part in every sweep, after the invoices. For upper rooms, from their
    AppConfig.ready.
    """
    if look not in _EXTRA:
        _EXTRA.append(look)


def sweep_account(*, since: datetime | None = None, actor: str = "system") -> Swept:
    """Look now. Raises `StripeFailed` when Stripe cannot be asked; what was found until then is kept."""
    begun = clock.now()
    since = since or begun - WINDOW
    StripeSweep.objects.update_or_create(pk=_ROW, defaults=_times(begun, error=""))
    try:
        swept = _sweep(since)
    except StripeFailed as failure:
        StripeSweep.objects.filter(pk=_ROW).update(error=f"{failure.code}: {failure.message}"[:500])
        raise
    with transaction.atomic():
        StripeSweep.objects.filter(pk=_ROW).update(
            finished_at=clock.now(), looked_at=swept.looked_at, found=swept.found
        )
        if swept.found or actor != "system":
            facts = {"looked_at": swept.looked_at, "found": swept.found, "since": since}
            record(Kind.STRIPE_SWEPT, actor, "stripe:provider", **facts)
    return swept


def schedule_sweep() -> bool:
    """A job for the next sweep when it is due; many workers may ask, one of them claims it."""
    every = settings.PROVIDER_STRIPE_SWEEP_SECONDS
    if not every or not settings.PROVIDER_STRIPE_SECRET_KEY:
        return False
    with transaction.atomic():
        StripeSweep.objects.get_or_create(pk=_ROW, defaults={"due_at": clock.now()})
        claimed = StripeSweep.objects.filter(pk=_ROW, due_at__lte=clock.now()).update(
            due_at=clock.now() + timedelta(seconds=every)
        )
        if claimed:
            defer_sweep()
    return bool(claimed)


def _times(begun: datetime, **more: object) -> dict[str, object]:
    every = timedelta(seconds=settings.PROVIDER_STRIPE_SWEEP_SECONDS)
    return {"due_at": begun + every, "started_at": begun, **more}


def _sweep(since: datetime) -> Swept:
    problems: list[Foreign] = []
    parts = [_subscriptions(since, problems), _invoices(since, problems)]
    parts += [look(since) for look in _EXTRA]
    return Swept(sum(part[0] for part in parts), sum(part[1] for part in parts), len(problems))


def _subscriptions(since: datetime, problems: list[Foreign]) -> Found:
    """All that Stripe still runs (our rows that ended there are fetched one by one)."""
    listed = provider_account().list_subscriptions(status="all", most=_MOST)
    rows = {
        row.stripe_subscription_id: row
        for row in Subscription.objects.exclude(stripe_subscription_id=None).order_by()
    }
    changed = [one.id for one in listed if _news(one, rows.get(one.id), since)]
    living = {row.stripe_subscription_id or "" for row in rows.values() if row.status not in ENDED}
    changed += sorted(living - {one.id for one in listed})
    return len(listed), _refresh(changed, refresh_subscription, problems)


def _news(one: StripeSubscription, row: Subscription | None, since: datetime) -> bool:
    if row is None:
        return one.created >= since
    end = one.items[0].period_end if one.items else None
    ours = (row.status, row.cancel_at_period_end, row.current_period_end, row.stripe_price_id)
    price = one.items[0].price.id if one.items else row.stripe_price_id
    return ours != (one.status, one.cancel_at_period_end, end, price)


def _invoices(since: datetime, problems: list[Foreign]) -> Found:
    """A few days of Stripe's invoices at a time, and their rows: neither account nor ledger is in memory whole."""
    looked: set[str] = set()
    found = 0
    for listed in _listings(since):
        fresh = {one.id: one for one in listed if one.id not in looked}
        looked |= fresh.keys()
        rows = _rows(fresh)
        changed = [one.id for one in fresh.values() if _differs(one, rows.get(one.id))]
        found += _refresh(changed, refresh_any_invoice, problems)
    older = sorted(_changing() - looked)
    return len(looked) + len(older), found + _refresh(older, refresh_any_invoice, problems)


def _listings(since: datetime) -> Iterator[list[StripeInvoice]]:
    account, now = provider_account(), clock.now()
    while (before := since + _PART) < now:
        yield account.list_invoices(since=since, before=before, most=_MOST)
        since = before
    yield account.list_invoices(since=since, most=_MOST)  # no end: Stripe's clock is not ours
    for status in _CHANGING:
        yield account.list_invoices(status=status, most=_MOST)


def _changing() -> set[str]:
    """Those in our books that may still change, by Stripe's id."""
    names: set[str] = set()
    for table in (UsageInvoice, SubscriptionInvoice):
        living = table.objects.filter(status__in=_CHANGING).exclude(stripe_invoice_id=None)
        names |= {name or "" for name in living.order_by().values_list("stripe_invoice_id", flat=True)}
    return names


def _rows(names: Iterable[str]) -> dict[str, UsageInvoice | SubscriptionInvoice]:
    wanted = list(names)
    usage = UsageInvoice.objects.filter(stripe_invoice_id__in=wanted).defer("usage").order_by()
    fees = SubscriptionInvoice.objects.filter(stripe_invoice_id__in=wanted).order_by()
    rows: list[UsageInvoice | SubscriptionInvoice] = [*usage, *fees]
    return {row.stripe_invoice_id or "": row for row in rows}


def _differs(one: StripeInvoice, row: UsageInvoice | SubscriptionInvoice | None) -> bool:
    if row is None:
        # A draft of an order is on its way by its own job; any other is a subscription's, or a stranger.
        return one.status != "draft" or ORDER_MARK not in one.metadata
    if one.status == "draft":
        return False
    ours = (row.status, row.total_cents, row.paid_cents, row.remaining_cents, row.off_stripe_cents)
    theirs = (one.status, one.total, one.amount_paid, one.amount_remaining, one.amount_off_stripe)
    credited = (row.credited_unpaid_cents, row.credited_paid_cents)
    return (ours, credited) != (theirs, (one.credited_unpaid, one.credited_paid))


def _refresh(names: Iterable[str], fetch: Callable[[str], object], problems: list[Foreign]) -> int:
    found = 0
    for name in names:
        try:
            fetch(name)
            found += 1
        except Foreign as foreign:
            problems.append(foreign)
            raise_alert(foreign.code, name, foreign.message)
        except StripeFailed as failure:
            if failure.code != "resource_missing":
                raise
            problems.append(
                Foreign("missing_in_stripe", f"Stripe does not know {name}, which is in our books.")
            )
            raise_alert(problems[-1].code, name, problems[-1].message)
    return found
