"""Making the provider's usage invoice of one client for one month: once, from what was calculated and
nothing else.

The usage is pulled first; then lines, charges and the job that places the invoice commit together. What
looks wrong becomes a held row that a person sees, and nothing goes to Stripe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import HeldReason, Period, RatedLine, Rating, UsageLead, format_amount
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import Kind, LeadCharge, UsageInvoice, UsageLine, UsageStatus
from provider_federation.portal.revenue.periods import money_problems, month
from provider_federation.portal.revenue.queries import live_usage_invoice
from provider_federation.portal.revenue.services.jobs import defer_placing
from provider_federation.portal.revenue.services.rating import rate_reading
from provider_federation.portal.revenue.usage import Reading, pull_usage, usage_to_json
from provider_federation.portal.subscriptions.queries import plan_in_force

PERIOD_OPEN = "period_open"
_BATCH = 1000


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
    return _plan(instance, period, pull_usage(instance, period), actor=actor, reviewed=False)


def release_usage_invoice(held: UsageInvoice, *, actor: str) -> Invoiced:
    """A person looked at a held invoice: usage is pulled again and billed, unless it is impossible.
    Problem 409 `not_held` when it is not held (any more), or `in_stripe` when Stripe has it already: there
    it is repaired by hand.
    """
    if held.status != UsageStatus.HELD:
        raise Problem(409, "not_held", f"This invoice is {held.status}; only a held one can be released.")
    period = month(held.period)
    return _plan(held.instance, period, pull_usage(held.instance, period), actor=actor, reviewed=True)


def _plan(instance: Instance, period: Period, reading: Reading, *, actor: str, reviewed: bool) -> Invoiced:
    with transaction.atomic():
        # One planner of a client at a time; the unique keys would catch a second one, this answers it.
        locked = Instance.objects.select_for_update(no_key=True).get(pk=instance.pk)
        existing = live_usage_invoice(locked, period.label)
        if existing is not None and existing.status != UsageStatus.HELD:
            return Invoiced(existing, reused=True, message=_sentence(existing))
        if existing is not None and existing.lines.exists():
            return _resume(existing, actor=actor, reviewed=reviewed)
        with money_problems(409):
            rating = rate_reading(locked, period, reading, reviewed=reviewed)
        if not rating.held_reasons and not rating.lines:
            if existing is not None:
                existing.delete()  # it was held for figures that are gone; there never was an invoice
            return Invoiced(None, reused=False, message=f"Nothing to bill for {period.label}.")
        reasons = rating.held_reasons or _too_early(period, reading)
        row = existing or _new_row(locked, period, actor)
        _freeze(row, reading, rating, reasons)
        _record(row, actor, reviewed=reviewed)
    return Invoiced(row, reused=existing is not None, message=_sentence(row))


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


def _too_early(period: Period, reading: Reading) -> tuple[HeldReason, ...]:
    if period.closed(clock.now()) and reading.closed:
        return ()
    sentence = f"{period.label} is not over; ask again after {period.end:%Y-%m-%d %H:%M} UTC."
    return (HeldReason(PERIOD_OPEN, sentence),)


def _new_row(instance: Instance, period: Period, actor: str) -> UsageInvoice:
    voided = UsageInvoice.objects.filter(instance=instance, period=period.label).count()
    now = clock.now()
    return UsageInvoice(
        id=uuid4(),
        instance=instance,
        order_key=f"usage:{instance.pk}:{period.label}:{voided + 1}",
        period=period.label,
        period_start=period.start,
        period_end=period.end,
        currency=instance.currency,
        plan=plan_in_force(instance, period.start),
        asked_by=actor,
        created_at=now,
    )


def _freeze(row: UsageInvoice, reading: Reading, rating: Rating, reasons: Iterable[HeldReason]) -> None:
    """Hold the row with its reasons; or freeze its lines and queue the placing in the same transaction."""
    held = list(reasons)
    row.usage, row.usage_digest = usage_to_json(reading.usage), reading.digest
    row.hold_code = held[0].code if held else ""
    row.hold_reason = " ".join(reason.message for reason in held)[:500]
    row.status = UsageStatus.HELD if held else UsageStatus.PLANNED
    row.total_cents = 0 if held else rating.subtotal
    row.updated_at = clock.now()
    row.save()
    if not held:
        _freeze_lines(row, reading, rating)
        defer_placing(row)


def _freeze_lines(row: UsageInvoice, reading: Reading, rating: Rating) -> None:
    leads = [line for line in rating.lines if line.kind == "lead"]
    position = 1
    if leads:
        _charge(row, _lead_line(row, leads), leads, {lead.lead_id: lead for lead in reading.usage.leads})
        position = 2
    for line in (line for line in rating.lines if line.kind != "lead"):
        UsageLine.objects.create(
            invoice=row,
            position=position,
            kind=Kind.AI,
            description=line.description,
            quantity=1,
            amount_cents=line.amount_cents,
        )
        position += 1


def _lead_line(row: UsageInvoice, leads: list[RatedLine]) -> UsageLine:
    price = leads[0].amount_cents
    assert all(lead.amount_cents == price for lead in leads)
    count = f"{len(leads)} converted lead{'s' if len(leads) != 1 else ''}"
    return UsageLine.objects.create(
        invoice=row,
        position=1,
        kind=Kind.LEADS,
        description=f"{count} in {row.period}, {format_amount(price, row.currency)} each",
        quantity=len(leads),
        unit_price_cents=price,
        amount_cents=price * len(leads),
    )


def _charge(row: UsageInvoice, line: UsageLine, leads: list[RatedLine], seen: dict[str, UsageLead]) -> None:
    charges = [
        LeadCharge(
            instance=row.instance,
            lead_id=lead.lead_id or "",
            lead_public_id=seen[lead.lead_id or ""].public_id,
            converted_at=seen[lead.lead_id or ""].converted_at,
            evidence=lead.evidence or "",
            line=line,
            amount_cents=lead.amount_cents,
        )
        for lead in leads
    ]
    LeadCharge.objects.bulk_create(charges, batch_size=_BATCH)


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
