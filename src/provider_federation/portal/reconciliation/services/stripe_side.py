"""What the provider's Stripe account says about a month, read window by window so that a big account fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from provider_federation.kit import clock
from provider_federation.money import Period
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.account import provider_account
from provider_federation.portal.subscriptions.models import BillingCustomer, FormerCustomer
from provider_federation.stripe_account import StripeFailed, StripeInvoice, StripeLine, StripeSubscription

ORDER = "pf_key"
"""Where place_invoice leaves the order's key in Stripe's metadata."""
MOST = 1_000_000
"""Objects in one list at most: more is an error, never a list that is cut."""
_WINDOW = timedelta(days=31)
_EARLY = timedelta(days=2)  # a subscription's invoice is drafted before it is final


@dataclass(frozen=True)
class Scope:
    """What is compared: one billing month, or everything (None); one client, or all of them (None)."""

    period: Period | None = None
    instance: Instance | None = None


def customers_of(scope: Scope) -> dict[str, Instance]:
    """The clients in scope by the id of their customer in Stripe, also of one that was deleted there: its invoices
    stay.
    """
    known = BillingCustomer.objects.exclude(stripe_customer_id=None).select_related("instance")
    former = FormerCustomer.objects.select_related("instance")
    if scope.instance is not None:
        known, former = known.filter(instance=scope.instance), former.filter(instance=scope.instance)
    deleted = {row.stripe_customer_id: row.instance for row in former}
    return deleted | {row.stripe_customer_id or "": row.instance for row in known}


def invoices_of(scope: Scope, customers: Mapping[str, Instance], known: set[str]) -> Iterator[StripeInvoice]:
    """Stripe's invoices in scope: those we know by id, those of an order of the month, and those that were
    made final (or drafted) in it. Raises `StripeFailed`.
    """
    for since, before in _windows(scope.period):
        for customer in list(customers) if scope.instance is not None else [None]:
            found = provider_account().list_invoices(
                customer_id=customer, since=since, before=before, most=MOST
            )
            yield from (one for one in found if one.id in known or _belongs(one, scope.period))


def invoice_now(stripe_invoice_id: str) -> StripeInvoice | None:
    """As it is now; None when Stripe does not know it."""
    try:
        return provider_account().retrieve_invoice(stripe_invoice_id)
    except StripeFailed as failure:
        if failure.code == "resource_missing":
            return None
        raise


def lines_of(invoice: StripeInvoice) -> list[StripeLine]:
    """All of its lines; they are in the answer unless there are many."""
    return provider_account().list_lines(invoice.id) if invoice.has_more_lines else list(invoice.lines)


def subscriptions_of(scope: Scope, customers: Mapping[str, Instance]) -> list[StripeSubscription]:
    """The account's subscriptions in every state, of the clients in scope."""
    if scope.instance is None:
        return provider_account().list_subscriptions(most=MOST)
    return [
        one for customer in customers for one in provider_account().list_subscriptions(customer_id=customer)
    ]


def _windows(period: Period | None) -> Iterator[tuple[datetime | None, datetime | None]]:
    if period is None:
        yield None, None
        return
    since, end = period.start - _EARLY, clock.now() + _EARLY
    while since < end:
        yield since, min(since + _WINDOW, end)
        since += _WINDOW


def _belongs(one: StripeInvoice, period: Period | None) -> bool:
    if period is None:
        return True
    if ORDER in one.metadata and "period" in one.metadata:
        return one.metadata["period"] == period.label
    return period.contains(one.finalized_at or one.created)
