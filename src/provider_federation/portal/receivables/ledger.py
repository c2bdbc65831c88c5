"""The provider's ledger in sums: billed, paid, collected, outstanding and overdue, each with one meaning (money
rule 14). The ledger's route, the reports and the reconciliation all take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from django.db.models import BigIntegerField, Count, Q, Sum, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import GIVEN_BACK, Refund
from provider_federation.portal.receivables.queries import FINAL
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

Groups: TypeAlias = Any
"""A query set of whichever kind of invoice, or of sums over it."""
SUBSCRIPTION, USAGE = "subscription", "usage"
KINDS: Mapping[str, type[Any]] = {SUBSCRIPTION: SubscriptionInvoice, USAGE: UsageInvoice}
_ABOUT = {SUBSCRIPTION: "fee_invoice__", USAGE: "usage_invoice__"}


@dataclass(frozen=True)
class Owed:
    """Sums in minor units of one currency, over invoices that are final and not void.

    `billed = gross - credited`; `paid` is what Stripe calls paid, `collected` the part of it that came through
    the account and did not go back; `outstanding` is open and unpaid, `overdue` the part of it past its due
    date; `written_off` is what uncollectible invoices still ask for; `over_balance` went over the clients'
    balances (a total below the minimum charge): what of `gross` is none of the others.
    """

    invoices: int = 0
    gross: int = 0
    credited_unpaid: int = 0
    credited_paid: int = 0
    tax: int = 0
    paid: int = 0
    off_stripe: int = 0
    refunded: int = 0
    outstanding: int = 0
    overdue: int = 0
    written_off: int = 0

    @property
    def credited(self) -> int:
        return self.credited_unpaid + self.credited_paid

    @property
    def billed(self) -> int:
        return self.gross - self.credited

    @property
    def collected(self) -> int:
        return self.paid - self.off_stripe - self.refunded

    @property
    def over_balance(self) -> int:
        return self.gross - self.credited_unpaid - self.paid - self.outstanding - self.written_off

    def plus(self, other: Owed) -> Owed:
        """Field by field."""
        return Owed(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Owed)})


def ledger_totals(client: Instance | None = None) -> dict[str, Owed]:
    """The whole ledger by currency, of one client or of all. Four grouped queries, however many invoices."""
    sums: dict[str, Owed] = {}
    for kind in KINDS:
        refunded = refunds_of(kind, client).values("currency").annotate(refunded=Sum("amount_cents"))
        for group in [*summed(finalised(kind, client).values("currency")), *refunded]:
            sums[group["currency"]] = sums.get(group["currency"], Owed()).plus(owed_of(group))
    return dict(sorted(sums.items()))


def finalised(kind: str, client: Instance | None = None) -> Groups:
    """The invoices of this kind that are final and not void, of one client or of all."""
    rows = KINDS[kind].objects.filter(status__in=FINAL).order_by()
    return rows if client is None else rows.filter(instance=client)


def refunds_of(kind: str, client: Instance | None = None, **invoice: Any) -> Groups:
    """What went back, or is about to, of the invoices in `finalised`; `invoice` narrows by their columns."""
    narrowed = {f"{_ABOUT[kind]}{name}": value for name, value in {"status__in": FINAL, **invoice}.items()}
    rows = Refund.objects.filter(state__in=GIVEN_BACK, **narrowed).order_by()
    return rows if client is None else rows.filter(instance=client)


def refunded_invoice(kind: str, column: str) -> str:
    """How a refund names a column of its invoice."""
    return f"{_ABOUT[kind]}{column}"


def summed(groups: Groups) -> Groups:
    """The columns of `Owed`, refunds aside, of each group."""
    is_open, lost = Q(status="open"), Q(status="uncollectible")
    columns = ("credited_unpaid", "credited_paid", "tax", "paid", "off_stripe")
    return groups.annotate(
        invoices=Count("pk"),
        gross=total("total_cents"),
        **{name: total(f"{name}_cents") for name in columns},
        outstanding=total("remaining_cents", is_open),
        overdue=total("remaining_cents", is_open & overdue()),
        written_off=total("remaining_cents", lost),
    )


def owed_of(group: Mapping[str, Any]) -> Owed:
    """One group of `summed`, or of refunds."""
    return Owed(**{one.name: group[one.name] for one in fields(Owed) if one.name in group})


def overdue() -> Q:
    """Past the due date; what is charged automatically is due when it is final."""
    return Q(LessThan(Coalesce("due_at", "finalized_at"), clock.now()))


def total(column: Any, condition: Q | None = None) -> Coalesce:
    """A sum that is 0 when there is nothing to add."""
    return Coalesce(Sum(column, filter=condition), Value(0), output_field=BigIntegerField())
