"""The portal's ledger against the provider's Stripe account, invoice by invoice (money rule 15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.queries import LedgerEntry, LedgerTotals, ledger_entries
from provider_federation.portal.subscriptions.account import provider_account, stripe_problems
from provider_federation.portal.subscriptions.models import BillingCustomer
from provider_federation.stripe_account import StripeInvoice

_COUNTED = {"open", "paid", "uncollectible"}
_ORDER = "pf_key"


@dataclass(frozen=True)
class Difference:
    """One thing on which the books disagree. `kind`: `missing_in_portal missing_in_stripe status_differs
    amount_differs paid_differs currency_differs unknown_customer billed_twice not_placed`.
    """

    kind: str
    message: str
    client_org_id: str | None = None
    stripe_invoice_id: str | None = None
    portal: str | int | None = None
    stripe: str | int | None = None


@dataclass(frozen=True)
class Comparison:
    """Both books by currency, and every difference. They agree when there is none."""

    at: datetime
    differences: tuple[Difference, ...]
    portal: dict[str, LedgerTotals] = field(default_factory=dict)
    stripe: dict[str, LedgerTotals] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return not self.differences and self.portal == self.stripe


def compare_provider_account(instance: Instance | None = None) -> Comparison:
    """Read Stripe's invoices (of one client, or all) and hold them against our rows. Problem 503 without
    Stripe.

    A change that happens while both are read shows as a difference that the next comparison no longer has.
    """
    customers = _customers(instance)
    theirs = _read_stripe(instance, customers)
    ours = {entry.stripe_invoice_id: entry for entry in ledger_entries(instance)}
    counted = {one.id: one for one in theirs if one.status in _COUNTED}
    known = {invoice_id: one for invoice_id, one in counted.items() if one.customer_id in customers}
    differences = [
        *_strangers(counted.values(), customers),
        *_twice(known.values()),
        *_missing(ours, known, {one.id: one for one in theirs}, customers),
        *(
            found
            for shared in sorted(ours.keys() & known.keys())
            for found in _unequal(ours[shared], known[shared])
        ),
        *_not_placed(instance),
    ]
    return Comparison(
        at=clock.now(),
        differences=tuple(differences),
        portal=_sum((entry.currency, entry.totals) for entry in ours.values()),
        stripe=_sum((one.currency.lower(), _stripe_totals(one)) for one in known.values()),
    )


def _customers(instance: Instance | None) -> dict[str, Instance]:
    rows = BillingCustomer.objects.exclude(stripe_customer_id=None).select_related("instance")
    if instance is not None:
        rows = rows.filter(instance=instance)
    return {row.stripe_customer_id or "": row.instance for row in rows}


def _read_stripe(instance: Instance | None, customers: dict[str, Instance]) -> list[StripeInvoice]:
    with stripe_problems():
        if instance is None:
            return provider_account().list_invoices()
        return [
            one for customer in customers for one in provider_account().list_invoices(customer_id=customer)
        ]


def _strangers(theirs: Iterable[StripeInvoice], customers: dict[str, Instance]) -> Iterator[Difference]:
    for one in theirs:
        if one.customer_id not in customers:
            message = f"Stripe's invoice {one.id} is on {one.customer_id}, who is no client of ours."
            yield Difference("unknown_customer", message, None, one.id, None, one.total)


def _twice(theirs: Iterable[StripeInvoice]) -> Iterator[Difference]:
    orders = Counter(one.metadata[_ORDER] for one in theirs if one.metadata.get(_ORDER))
    for order, times in sorted(orders.items()):
        if times > 1:
            yield Difference(
                "billed_twice", f"Stripe has {times} living invoices of the order {order}.", stripe=times
            )


def _missing(
    ours: dict[str, LedgerEntry],
    known: dict[str, StripeInvoice],
    everything: dict[str, StripeInvoice],
    customers: dict[str, Instance],
) -> Iterator[Difference]:
    for invoice_id in sorted(known.keys() - ours.keys()):
        client = customers[known[invoice_id].customer_id or ""].org_id
        message = f"Stripe's invoice {invoice_id} is not in the portal's ledger."
        yield Difference("missing_in_portal", message, client, invoice_id, None, known[invoice_id].total)
    for invoice_id in sorted(ours.keys() - known.keys()):
        entry, there = ours[invoice_id], everything.get(invoice_id)
        if there is not None:
            message = f"{invoice_id} is {entry.status} here and {there.status} in Stripe."
            yield Difference(
                "status_differs", message, entry.client_org_id, invoice_id, entry.status, there.status
            )
        else:
            message = f"The portal's invoice {invoice_id} is not in Stripe."
            yield Difference(
                "missing_in_stripe", message, entry.client_org_id, invoice_id, entry.totals.billed, None
            )


def _unequal(ours: LedgerEntry, theirs: StripeInvoice) -> Iterator[Difference]:
    there = _stripe_totals(theirs)
    pairs = (
        ("currency_differs", ours.currency, theirs.currency.lower()),
        ("status_differs", ours.status, theirs.status),
        ("amount_differs", ours.totals.billed, there.billed),
        ("paid_differs", ours.totals.paid, there.paid),
        ("paid_differs", ours.totals.collected, there.collected),
    )
    for kind, here, other in pairs:
        if here != other:
            message = f"{theirs.id}: {here} in the portal, {other} in Stripe."
            yield Difference(kind, message, ours.client_org_id, theirs.id, here, other)
            if kind == "paid_differs":
                return


def _not_placed(instance: Instance | None) -> Iterator[Difference]:
    rows = UsageInvoice.objects.filter(status__in=(UsageStatus.PLANNED, UsageStatus.PLACING)).select_related(
        "instance"
    )
    for row in rows.filter(instance=instance) if instance is not None else rows:
        message = f"The invoice of {row.period} is {row.status} and not in Stripe yet."
        yield Difference(
            "not_placed", message, row.instance.org_id, row.stripe_invoice_id, row.total_cents, None
        )


def _stripe_totals(one: StripeInvoice) -> LedgerTotals:
    written_off = one.status == "uncollectible"
    return LedgerTotals(
        invoices=1,
        billed=one.total,
        paid=one.amount_paid,
        collected=one.amount_paid - one.amount_off_stripe,
        off_stripe=one.amount_off_stripe,
        over_balance=one.total - one.credited_unpaid - one.amount_due,
        outstanding=0 if written_off else one.amount_remaining,
        written_off=one.amount_remaining if written_off else 0,
        credited_unpaid=one.credited_unpaid,
        credited_paid=one.credited_paid,
    )


def _sum(pairs: Iterable[tuple[str, LedgerTotals]]) -> dict[str, LedgerTotals]:
    sums: dict[str, LedgerTotals] = {}
    for currency, totals in pairs:
        sums[currency] = sums.get(currency, LedgerTotals()).plus(totals)
    return sums
