"""What a client brings the provider in one or more billing months: subscription, leads and AI usage.

Usage that was invoiced is told from the frozen invoice; the rest is pulled from the instance and rated,
without writing anything. The subscription's part is what it billed, or is about to, as Stripe says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.queries import Coverage, Stale
from provider_federation.portal.revenue.models import Kind, UsageInvoice, UsageLine, UsageStatus
from provider_federation.portal.revenue.periods import money_problems
from provider_federation.portal.revenue.planned import ClientPlan, PlannedLine
from provider_federation.portal.revenue.queries import live_usage_invoice
from provider_federation.portal.revenue.services.rating import Read, months_to_read, plan_client
from provider_federation.portal.revenue.usage import Reading, UsageUnavailable, pull_many, pull_usage
from provider_federation.portal.subscriptions.models import ENTITLED, Subscription, SubscriptionInvoice
from provider_federation.portal.subscriptions.queries import billed_invoices, current_subscription

_RANK = ("held", "running", "calculated", "planned", "placing", "open", "uncollectible", "paid")


@dataclass(frozen=True)
class Part:
    """One amount in minor units, and what it is made of."""

    amount: int = 0
    description: str = ""
    count: int = 0

    def plus(self, other: Part) -> Part:
        texts = [text for text in (self.description, other.description) if text]
        return Part(self.amount + other.amount, "; ".join(dict.fromkeys(texts)), self.count + other.count)


@dataclass(frozen=True)
class ClientRevenue:
    """Amounts in minor units of `currency`. `status`: `running` (the month is not over), `calculated` (not
    invoiced yet), `held`, or the usage invoice's; over several months the one that is furthest from paid.
    """

    instance: Instance
    currency: str
    subscription: Part
    usage: Part
    ai: Part
    status: str
    note: str = ""

    @property
    def total(self) -> int:
        return self.subscription.amount + self.usage.amount + self.ai.amount


@dataclass(frozen=True)
class AllRevenue:
    """Every client that answered, and how many did not: a missing one is never a silent zero."""

    clients: tuple[ClientRevenue, ...]
    coverage: Coverage

    def totals(self) -> dict[str, ClientRevenue]:
        """By currency; `instance` is that of the last client summed and means nothing."""
        sums: dict[str, ClientRevenue] = {}
        for client in self.clients:
            sums[client.currency] = (
                _plus(sums[client.currency], client) if client.currency in sums else client
            )
        return sums


def calculate_revenue(instance: Instance, months: list[Period], *, read: Read = pull_usage) -> ClientRevenue:
    """One client's revenue over whole billing months. Raises `UsageUnavailable` when its instance cannot
    be asked, Problem 409 `currency_mismatch` when it was billed in several currencies.
    """
    parts = [_month(instance, month, read) for month in months]
    result = parts[0]
    for part in parts[1:]:
        result = _plus(result, part)
    return result


def calculate_all_revenue(months: list[Period]) -> AllRevenue:
    """All enabled clients, those that do not answer in time in the coverage with the reason."""
    instances = list(Instance.objects.filter(enabled=True).order_by("name"))
    wanted = [
        (one, read)
        for one in instances
        for month in months
        if _needs_reading(one, month)
        for read in months_to_read(one, month)
    ]
    readings = pull_many(wanted)

    def read(instance: Instance, month: Period) -> Reading:
        outcome = readings.get((instance.pk, month.label))
        if outcome is None:  # its invoice was voided since we looked
            return pull_usage(instance, month)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    clients, stale = [], []
    for instance in instances:
        try:
            clients.append(calculate_revenue(instance, months, read=read))
        except Problem as problem:
            stale.append(_stale(instance, problem))
    disabled = Instance.objects.filter(enabled=False).count()
    coverage = Coverage(
        len(clients), len(instances), tuple(stale), clock.now() if clients else None, disabled
    )
    return AllRevenue(tuple(clients), coverage)


def _stale(instance: Instance, problem: Problem) -> Stale:
    code = problem.details.get("outcome", problem.code)
    return Stale(instance, instance.checked_at, str(code), problem.message)


def _needs_reading(instance: Instance, month: Period) -> bool:
    invoice = live_usage_invoice(instance, month.label)
    return invoice is None or not invoice.lines.exists()


def _month(instance: Instance, month: Period, read: Read) -> ClientRevenue:
    subscription = subscription_part(instance, month)
    invoice = live_usage_invoice(instance, month.label)
    billed = invoice is not None and invoice.lines.exists()
    _check_currency(instance, month, invoice.currency if invoice and billed else instance.currency)
    if invoice and billed:
        return _invoiced(instance, subscription, invoice)
    wanted = months_to_read(instance, month)
    readings = [read(instance, one) for one in wanted]
    with money_problems(409):
        plan = plan_client(instance, wanted, readings)
    return _rated(instance, month, subscription, plan)


def _check_currency(instance: Instance, month: Period, currency: str) -> None:
    """Problem 409 `currency_mismatch` for a month whose parts are in several currencies: they have no sum."""
    fees = SubscriptionInvoice.objects.filter(
        instance=instance, billed_at__gte=month.start, billed_at__lt=month.end
    )
    if fees.exclude(status="void").exclude(currency=currency).exists():
        raise _no_sum(instance)


def _no_sum(instance: Instance) -> Problem:
    sentence = f"{instance} was billed in several currencies; they are not added up. See its statement."
    return Problem(409, "currency_mismatch", sentence)


def _invoiced(instance: Instance, subscription: Part, invoice: UsageInvoice) -> ClientRevenue:
    lines = list(invoice.lines.all())
    return ClientRevenue(
        instance=instance,
        currency=invoice.currency,
        subscription=subscription,
        usage=_part(lines, Kind.LEADS),
        ai=_part(lines, Kind.AI),
        status=invoice.status,
        note=invoice.hold_reason,
    )


def _rated(instance: Instance, month: Period, subscription: Part, plan: ClientPlan) -> ClientRevenue:
    held = " ".join(reason.message for reason in plan.held)
    status = "calculated" if month.closed(clock.now()) else "running"
    return ClientRevenue(
        instance=instance,
        currency=instance.currency,
        subscription=subscription,
        usage=_part(plan.lines, Kind.LEADS),
        ai=_part(plan.lines, Kind.AI),
        status=UsageStatus.HELD.value if held else status,
        note=held,
    )


def _part(lines: Iterable[PlannedLine | UsageLine], kind: Kind) -> Part:
    """The lines of one kind, late ones included; leads are counted."""
    mine = [line for line in lines if line.kind == kind]
    count = sum(line.quantity for line in mine) if kind == Kind.LEADS else 0
    text = "; ".join(line.description for line in mine)
    return Part(sum(line.amount_cents for line in mine), text, count)


def subscription_part(instance: Instance, month: Period) -> Part:
    """What the client's subscription billed in the month, and what it is about to bill in it, without tax (as
    the parts of usage are).
    """
    billed = list(billed_invoices(instance, month.start, month.end))
    drafts = SubscriptionInvoice.objects.filter(
        instance=instance, status="draft", billed_at__gte=month.start, billed_at__lt=month.end
    )
    told = billed + list(drafts)
    part = Part(sum(one.total_cents - one.tax_cents for one in told), ", ".join(_named(one) for one in told))
    current = current_subscription(instance)
    return part.plus(_coming(current, month, told)) if current else part


def _named(invoice: SubscriptionInvoice) -> str:
    return f"{invoice.subscription.plan} {invoice.number or 'draft'} ({invoice.status})"


def _coming(current: Subscription, month: Period, told: Iterable[SubscriptionInvoice]) -> Part:
    """The fee that the subscription will charge inside the month, unless an invoice tells of it already."""
    renews_at = current.current_period_end
    if (
        current.status not in ENTITLED
        or current.cancel_at_period_end
        or not current.fee_cents
        or renews_at is None
    ):
        return Part()
    if month.closed(clock.now()) or renews_at >= month.end or _covers(told, renews_at):
        return Part()
    return Part(current.fee_cents, f"{current.plan} renews on {renews_at:%Y-%m-%d}")


def _covers(invoices: Iterable[SubscriptionInvoice], instant: datetime) -> bool:
    return any(invoice.service_start and invoice.service_start >= instant for invoice in invoices)


def _plus(one: ClientRevenue, other: ClientRevenue) -> ClientRevenue:
    if one.currency != other.currency:
        raise _no_sum(other.instance)
    return ClientRevenue(
        instance=other.instance,
        currency=one.currency,
        subscription=one.subscription.plus(other.subscription),
        usage=one.usage.plus(other.usage),
        ai=one.ai.plus(other.ai),
        status=min(one.status, other.status, key=_rank),
        note=" ".join(filter(None, (one.note, other.note))),
    )


def _rank(status: str) -> int:
    return _RANK.index(status) if status in _RANK else 0


__all__ = [
    "AllRevenue",
    "ClientRevenue",
    "Part",
    "UsageUnavailable",
    "calculate_all_revenue",
    "calculate_revenue",
    "subscription_part",
]
