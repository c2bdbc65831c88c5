"""The portal's ledger against the provider's Stripe account: each invoice, its amounts, its lines (money rule
15).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from django.db.models import Q

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.ledger import Owed
from provider_federation.portal.reconciliation.classes import ADOPT, REFETCH, REMOVE_DRAFT
from provider_federation.portal.reconciliation.differences import Difference, Says, in_words
from provider_federation.portal.reconciliation.services.corrections_side import compare_corrections
from provider_federation.portal.reconciliation.services.lines import compare_lines
from provider_federation.portal.reconciliation.services.stripe_side import (
    ORDER,
    Scope,
    customers_of,
    invoice_now,
    invoices_of,
    lines_of,
    subscriptions_of,
)
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.subscriptions.account import stripe_problems
from provider_federation.portal.subscriptions.models import Subscription, SubscriptionInvoice
from provider_federation.stripe_account import StripeInvoice, StripeSubscription

Row: TypeAlias = UsageInvoice | SubscriptionInvoice
Pair: TypeAlias = tuple[Row | None, StripeInvoice | None]

_COUNTED = {"open", "paid", "uncollectible"}
_UNSENT = {"planned", "placing", "held"}
_LOOK_AGAIN = 200
"""So many differing invoices are looked at a second time; what changed while we read is no difference."""
_PLAIN = ("total", "tax", "due", "paid", "off_stripe", "remaining", "credited_unpaid", "credited_paid")
_CLASS_OF = {
    "total": "amount",
    "tax": "tax",
    "due": "amount",
    "paid": "paid",
    "off_stripe": "paid",
    "remaining": "paid",
    "credited_unpaid": "credited",
    "credited_paid": "credited",
}


@dataclass(frozen=True)
class Comparison:
    """Both books by currency, and every difference. They agree when there is none."""

    at: datetime
    differences: tuple[Difference, ...]
    portal: dict[str, Owed] = field(default_factory=dict)
    stripe: dict[str, Owed] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return not self.differences


def compare_provider_account(scope: Scope | None = None) -> Comparison:
    """Read Stripe's invoices in scope and hold them against our rows. Problem 503 or 422 when Stripe cannot be
    read. What looks different is looked at once more before it is told.
    """
    scope = scope or Scope()
    with stripe_problems():
        return _compare(scope)


def _compare(scope: Scope) -> Comparison:
    customers = customers_of(scope)
    rows = {row.stripe_invoice_id or "": row for row in _rows(scope) if row.stripe_invoice_id}
    theirs = {one.id: one for one in invoices_of(scope, customers, set(rows))}
    pairs = [(rows.get(key), theirs.get(key)) for key in sorted(rows.keys() | theirs.keys())]
    twice = _extra(pairs)
    differences = [
        *_settled(pairs, customers, twice),
        *_duplicates(twice, theirs, customers),
        *_not_placed(scope),
        *_subscriptions(scope, customers),
        *compare_corrections(scope),
    ]
    return Comparison(
        at=clock.now(),
        differences=tuple(differences),
        portal=_sum((row.currency, row.status, _of_row(row)) for row in rows.values()),
        stripe=_sum(
            (one.currency.lower(), one.status, _of_stripe(one))
            for one in theirs.values()
            if one.customer_id in customers
        ),
    )


def _rows(scope: Scope) -> list[Row]:
    usage, fees = UsageInvoice.objects.defer("usage"), SubscriptionInvoice.objects.all()
    if scope.instance is not None:
        usage, fees = usage.filter(instance=scope.instance), fees.filter(instance=scope.instance)
    if scope.period is not None:
        usage = usage.filter(period=scope.period.label)
        fees = fees.filter(billed_at__gte=scope.period.start, billed_at__lt=scope.period.end)
    return [
        *usage.select_related("instance").prefetch_related("lines"),
        *fees.select_related("instance"),
    ]


def _settled(pairs: list[Pair], customers: Mapping[str, Instance], twice: set[str]) -> Iterator[Difference]:
    looked = 0
    for row, theirs in pairs:
        found = list(_pair(row, theirs, customers, twice))
        if found and looked < _LOOK_AGAIN:
            looked += 1
            found = list(_pair(*_again(row, theirs), customers, twice))
        yield from found


def _again(row: Row | None, theirs: StripeInvoice | None) -> Pair:
    """Both sides once more. A row that was made since we read is found by Stripe's id."""
    key = (theirs.id if theirs else None) or (row.stripe_invoice_id if row else None) or ""
    fresh = invoice_now(key)
    for model in (UsageInvoice, SubscriptionInvoice):
        found = model.objects.select_related("instance").filter(stripe_invoice_id=key).first()
        if found is not None:
            return found, fresh
    return None, fresh


def _pair(
    row: Row | None, theirs: StripeInvoice | None, customers: Mapping[str, Instance], twice: set[str]
) -> Iterator[Difference]:
    if row is not None and theirs is not None:
        yield from _both(row, theirs, customers)
    elif row is not None:
        # An order whose draft was deleted is void without ever having been final.
        given_up = row.status == "void" and row.finalized_at is None
        if row.status not in _UNSENT and row.status != "draft" and not given_up:
            yield _about(row, "missing_in_stripe", "is not in Stripe", row.total_cents, None)
    elif theirs is not None and theirs.id not in twice and theirs.status != "void":
        yield from _stripe_only(theirs, customers)


def _stripe_only(theirs: StripeInvoice, customers: Mapping[str, Instance]) -> Iterator[Difference]:
    client = customers.get(theirs.customer_id or "")
    subject = f"stripe_invoice:{theirs.id}"
    currency, total = theirs.currency.lower(), theirs.total
    if client is None:
        message = f"Stripe's invoice {theirs.id} is on {theirs.customer_id}, who is no client of ours."
        yield Difference("stranger", subject, message, None, currency, stripe=total, target=theirs.id)
    elif theirs.metadata.get(ORDER):
        order = UsageInvoice.objects.filter(order_key=theirs.metadata[ORDER], stripe_invoice_id=None)
        repair = ADOPT if order.filter(instance=client).exists() else ""
        message = f"Stripe's invoice {theirs.id} carries our order, and no row of the ledger holds it."
        yield Difference(
            "orphan", subject, message, client, currency, stripe=total, repair=repair, target=theirs.id
        )
    elif theirs.status != "draft":
        repair = REFETCH if theirs.subscription_id else ""
        message = f"Stripe's invoice {theirs.id} is not in the portal's ledger."
        yield Difference(
            "missing_in_ledger",
            subject,
            message,
            client,
            currency,
            stripe=total,
            repair=repair,
            target=theirs.id,
        )


def _both(row: Row, theirs: StripeInvoice, customers: Mapping[str, Instance]) -> Iterator[Difference]:
    client = customers.get(theirs.customer_id or "")
    if client is None or client.pk != row.instance_id:
        yield _about(
            row,
            "customer",
            "is on another customer than its client's",
            row.instance.org_id,
            theirs.customer_id,
        )
        return
    if row.currency != theirs.currency.lower():
        yield _about(row, "currency", "has two currencies", row.currency, theirs.currency.lower())
        return
    if row.status in _UNSENT and theirs.status == "draft":
        return  # under way: told of as not placed
    if row.status != theirs.status:
        yield _about(row, "status", "has two states", row.status, theirs.status, repair=REFETCH)
    if theirs.status != "draft":
        lines = list(compare_lines(row, lines_of(theirs))) if isinstance(row, UsageInvoice) else []
        yield from _amounts(row, theirs, repair="" if lines else REFETCH)
        yield from lines


def _amounts(row: Row, theirs: StripeInvoice, *, repair: str) -> Iterator[Difference]:
    """One difference a class, with the first amount that shows it."""
    here, there = _of_row(row), _of_stripe(theirs)
    told: set[str] = set()
    for name in _PLAIN:
        kind = _CLASS_OF[name]
        if here[name] != there[name] and kind not in told:
            told.add(kind)
            words = f"differs in {name.replace('_', ' ')}"
            yield _about(row, kind, words, here[name], there[name], repair=repair, amount=True)


def _about(
    row: Row, kind: str, words: str, here: Says, there: Says, *, repair: str = "", amount: bool = False
) -> Difference:
    name = "usage_invoice" if isinstance(row, UsageInvoice) else "subscription_invoice"
    said = f"{in_words(here, row.currency)} in the portal, {in_words(there, row.currency)} in Stripe"
    message = f"{row.number or row.stripe_invoice_id or row.pk} {words}: {said}."
    return Difference(
        kind=kind,
        subject=f"{name}:{row.pk}",
        message=message,
        instance=row.instance,
        currency=row.currency if amount or isinstance(here, int) else "",
        portal=here,
        stripe=there,
        repair=repair,
        target=row.stripe_invoice_id or "",
    )


def _extra(pairs: Iterable[Pair]) -> set[str]:
    """Of each order that has several living invoices, all but the one that counts: the ledger's, else the
    oldest that is final, else the oldest.
    """
    orders: dict[str, list[tuple[bool, bool, datetime, str]]] = defaultdict(list)
    for row, one in pairs:
        if one is not None and one.metadata.get(ORDER) and one.status != "void":
            orders[one.metadata[ORDER]].append((row is None, one.status == "draft", one.created, one.id))
    return {place[-1] for places in orders.values() for place in sorted(places)[1:]}


def _duplicates(
    twice: Iterable[str], theirs: Mapping[str, StripeInvoice], customers: Mapping[str, Instance]
) -> Iterator[Difference]:
    for key in sorted(twice):
        one = theirs[key]
        message = f"Stripe's {one.status} invoice {key} repeats the order {one.metadata[ORDER]}."
        yield Difference(
            kind="duplicate",
            subject=f"stripe_invoice:{key}",
            message=message,
            instance=customers.get(one.customer_id or ""),
            currency=one.currency.lower(),
            stripe=one.total,
            repair=REMOVE_DRAFT if one.status == "draft" else "",
            target=key,
        )


def _not_placed(scope: Scope) -> Iterator[Difference]:
    wanted = Q(status__in=(UsageStatus.PLANNED, UsageStatus.PLACING, UsageStatus.HELD))
    rows = UsageInvoice.objects.filter(wanted).select_related("instance").defer("usage")
    if scope.instance is not None:
        rows = rows.filter(instance=scope.instance)
    if scope.period is not None:
        rows = rows.filter(period=scope.period.label)
    for row in rows:
        kind = "held" if row.status == UsageStatus.HELD else "not_placed"
        why = row.hold_reason or row.failure
        message = f"The invoice of {row.period} is {row.status} and not in Stripe yet. {why}".strip()
        yield Difference(
            kind, f"usage_invoice:{row.pk}", message, row.instance, row.currency, portal=row.total_cents
        )


def _subscriptions(scope: Scope, customers: Mapping[str, Instance]) -> Iterator[Difference]:
    """How each subscription stands now, whatever month is compared: a lost event gives a wrong plan."""
    rows = Subscription.objects.exclude(stripe_subscription_id=None).select_related("instance")
    if scope.instance is not None:
        rows = rows.filter(instance=scope.instance)
    ours = {row.stripe_subscription_id or "": row for row in rows}
    theirs = {one.id: one for one in subscriptions_of(scope, customers) if one.customer_id in customers}
    for key in sorted(ours.keys() | theirs.keys()):
        row, one = ours.get(key), theirs.get(key)
        here, there = _standing(row), _standing(one)
        if here != there:
            client = row.instance if row else customers[one.customer_id if one else ""]
            message = (
                f"The subscription {key}: {here or 'unknown'} in the portal, {there or 'unknown'} in Stripe."
            )
            yield Difference(
                kind="subscription",
                subject=f"subscription:{key}",
                message=message,
                instance=client,
                portal=here,
                stripe=there,
                repair=REFETCH if one else "",
                target=key,
            )


def _standing(one: Subscription | StripeSubscription | None) -> str | None:
    return one.status + (", ending" if one.cancel_at_period_end else "") if one is not None else None


def _of_row(row: Row) -> dict[str, int]:
    return {name: getattr(row, f"{name}_cents") for name in _PLAIN}


def _of_stripe(one: StripeInvoice) -> dict[str, int]:
    return {
        "total": one.total,
        "tax": one.tax,
        "due": one.amount_due,
        "paid": one.amount_paid,
        "off_stripe": one.amount_off_stripe,
        "remaining": one.amount_remaining,
        "credited_unpaid": one.credited_unpaid,
        "credited_paid": one.credited_paid,
    }


def _sum(invoices: Iterable[tuple[str, str, dict[str, int]]]) -> dict[str, Owed]:
    """By currency, over what is final and not void."""
    sums: dict[str, Owed] = {}
    for currency, status, plain in invoices:
        if status in _COUNTED:
            sums[currency] = sums.get(currency, Owed()).plus(_totals(status, plain))
    return sums


def _totals(status: str, plain: Mapping[str, int]) -> Owed:
    written_off = plain["remaining"] if status == "uncollectible" else 0
    same = ("tax", "paid", "off_stripe", "credited_unpaid", "credited_paid")
    return Owed(
        invoices=1,
        gross=plain["total"],
        outstanding=plain["remaining"] - written_off,
        written_off=written_off,
        **{name: plain[name] for name in same},
    )
