"""Making the provider's usage invoice of one client for one month: once, from what was calculated and
nothing else.

The usage is pulled first; then lines, charges and the job that places the invoice commit together. What
looks wrong becomes a held row that a person sees, and nothing goes to Stripe.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import HeldReason, Period, format_amount
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import UsageInvoice, UsageStatus
from provider_federation.portal.revenue.periods import money_problems, month
from provider_federation.portal.revenue.planned import ClientPlan
from provider_federation.portal.revenue.queries import live_usage_invoice
from provider_federation.portal.revenue.services.abandoning import abandon_order
from provider_federation.portal.revenue.services.jobs import defer_placing
from provider_federation.portal.revenue.services.ordering import new_invoice, order_invoice, settle_months
from provider_federation.portal.revenue.services.rating import months_to_read, plan_client
from provider_federation.portal.revenue.usage import Reading, pull_usage

PERIOD_OPEN = "period_open"


@dataclass(frozen=True)
class Invoiced:
    """`invoice` is None when there is nothing to bill; `reused` when it was there already."""

    invoice: UsageInvoice | None
    reused: bool
    message: str


def invoice_usage(instance: Instance, period: Period, *, actor: str) -> Invoiced:
    """The client's usage invoice of the month. Asking again answers the same one; a held one is looked at
    anew.

    A month that is not over is held as `period_open` and shown; asking once it is over bills it. Raises
    `UsageUnavailable` (502, 503) when the instance cannot be asked: then nothing is written.
    """
    existing = live_usage_invoice(instance, period.label)
    if existing is not None and existing.status != UsageStatus.HELD:
        return Invoiced(existing, reused=True, message=_sentence(existing))
    return _plan(instance, period, actor=actor, reviewed=False)


def release_usage_invoice(held: UsageInvoice, *, actor: str) -> Invoiced:
    """A person looked at a held invoice: usage is pulled again and billed, unless it is impossible; what was
    on its way to Stripe goes on, or is planned anew when Stripe lost it (`abandon_order`).

    Problem 409 `not_held` when it is not held (any more).
    """
    if held.status != UsageStatus.HELD:
        raise Problem(409, "not_held", f"This invoice is {held.status}; only a held one can be released.")
    abandon_order(held, actor=actor)
    return _plan(held.instance, month(held.period), actor=actor, reviewed=True)


def _plan(instance: Instance, period: Period, *, actor: str, reviewed: bool) -> Invoiced:
    months = months_to_read(instance, period)
    readings = [pull_usage(instance, one) for one in months]
    with transaction.atomic():
        # One planner of a client at a time; the unique keys would catch a second one, this answers it.
        locked = Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        existing = live_usage_invoice(locked, period.label)
        if existing is not None and existing.status != UsageStatus.HELD:
            return Invoiced(existing, reused=True, message=_sentence(existing))
        if existing is not None and existing.lines.exists():
            return _resume(existing, actor=actor, reviewed=reviewed)
        with money_problems(409):
            plan = plan_client(locked, months, readings, reviewed=reviewed)
        early = too_early(period, readings[0])
        if not plan.held and not plan.lines:
            return _nothing(locked, period, plan, existing, over=not early)
        row = existing or new_invoice(locked, period, actor)
        order_invoice(row, plan, held=plan.held or early)
        if row.status == UsageStatus.PLANNED:
            defer_placing(row)
        _record(row, actor, reviewed=reviewed)
    return Invoiced(row, reused=existing is not None, message=_sentence(row))


def _nothing(
    instance: Instance, period: Period, plan: ClientPlan, existing: UsageInvoice | None, *, over: bool
) -> Invoiced:
    if existing is not None:
        existing.delete()  # it was held for figures that are gone; there never was an invoice
    if over:
        settle_months(instance, plan.usage)
    return Invoiced(None, reused=False, message=f"Nothing to bill for {period.label}.")


def _resume(held: UsageInvoice, *, actor: str, reviewed: bool) -> Invoiced:
    """Held on its way to Stripe: its lines are frozen already, so a person's word starts the placing
    again.
    """
    if reviewed:
        held.status, held.hold_code, held.hold_reason, held.updated_at = (
            UsageStatus.PLANNED,
            "",
            "",
            clock.now(),
        )
        held.save(update_fields=["status", "hold_code", "hold_reason", "updated_at"])
        defer_placing(held)
        _record(held, actor, reviewed=True)
    return Invoiced(held, reused=True, message=_sentence(held))


def too_early(period: Period, reading: Reading) -> tuple[HeldReason, ...]:
    """Why a month is not billed yet, by our clock or the instance's word; empty when it is over."""
    if period.closed(clock.now()) and reading.closed:
        return ()
    sentence = f"{period.label} is not over; ask again after {period.end:%Y-%m-%d %H:%M} UTC."
    return (HeldReason(PERIOD_OPEN, sentence),)


def _record(row: UsageInvoice, actor: str, *, reviewed: bool) -> None:
    if row.status == UsageStatus.HELD:
        record(Event.USAGE_HELD, actor, f"usage_invoice:{row.pk}", period=row.period, code=row.hold_code)
        return
    kind = Event.USAGE_RELEASED if reviewed else Event.USAGE_INVOICED
    facts = {"period": row.period, "total_cents": row.total_cents, "currency": row.currency}
    record(kind, actor, f"usage_invoice:{row.pk}", client=row.instance.org_id, **facts)


def _sentence(row: UsageInvoice) -> str:
    amount = format_amount(row.total_cents, row.currency)
    if row.status == UsageStatus.HELD:
        return f"Held, nothing was sent: {row.hold_reason}"
    if row.status in {UsageStatus.PLANNED, UsageStatus.PLACING}:
        return f"{amount} for {row.period} is on its way to Stripe."
    return f"{amount} for {row.period} is {row.status}."
