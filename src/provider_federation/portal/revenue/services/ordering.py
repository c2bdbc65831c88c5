"""A plan becomes a row of the ledger with frozen lines: the one place where leads are charged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from provider_federation.kit import clock
from provider_federation.money import HeldReason, Period
from provider_federation.portal.bulk import insert_all
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import (
    LeadCharge,
    UsageInvoice,
    UsageLine,
    UsageSnapshot,
    UsageStatus,
)
from provider_federation.portal.revenue.planned import ClientPlan, PlannedLead, PlannedLine
from provider_federation.portal.revenue.usage import digest_of
from provider_federation.portal.subscriptions.models import PlanCode
from provider_federation.portal.subscriptions.queries import plan_in_force, plans_in_force


def order_invoice(
    row: UsageInvoice, plan: ClientPlan, *, held: Iterable[HeldReason] = (), billing_run: UUID | None = None
) -> None:
    """Hold the row with its reasons; or freeze its lines, charge its leads and settle its months.

    In the caller's transaction, with the client's row locked. IntegrityError when a lead was charged
    meanwhile.
    """
    _fill(row, plan, list(held), billing_run)
    row.save()
    if row.status == UsageStatus.PLANNED:
        _freeze_lines([(row, plan.lines)])
        settle_months(row.instance, plan.usage)


Ordered = tuple[UsageInvoice, list[UsageLine]]
"""A row of the ledger with its frozen lines."""


def order_together(pairs: Sequence[tuple[UsageInvoice, ClientPlan]], *, billing_run: UUID) -> list[Ordered]:
    """The same for new rows of many clients, on their way at once: whoever orders them places them now.

    In the caller's transaction, with the clients' rows locked. IntegrityError when a lead of any was charged
    meanwhile.
    """
    for row, plan in pairs:
        _fill(row, plan, [], billing_run)
        row.status, row.attempts = UsageStatus.PLACING, 1
    insert_all([row for row, _ in pairs])
    lines = _freeze_lines([(row, plan.lines) for row, plan in pairs])
    _settle([(row.instance, plan.usage) for row, plan in pairs])
    every = iter(lines)
    return [(row, list(islice(every, len(plan.lines)))) for row, plan in pairs]


def _fill(row: UsageInvoice, plan: ClientPlan, reasons: list[HeldReason], billing_run: UUID | None) -> None:
    row.usage, row.usage_digest = dict(plan.usage[row.period]), plan.digest
    row.hold_code = reasons[0].code if reasons else ""
    row.hold_reason = " ".join(reason.message for reason in reasons)[:500]
    row.status = UsageStatus.HELD if reasons else UsageStatus.PLANNED
    # A row that was held may be older than the client's currency; it is rated in the one of now.
    row.total_cents, row.currency = 0 if reasons else plan.total_cents, row.instance.currency
    row.billing_run = billing_run
    row.updated_at = clock.now()


def new_invoice(instance: Instance, period: Period, actor: str) -> UsageInvoice:
    """An unsaved row under the next order key of the client's month."""
    earlier = UsageInvoice.objects.filter(instance=instance, period=period.label).count()
    return _unsaved(instance, period, actor, number=earlier + 1, plan=plan_in_force(instance, period.start))


def first_invoices(instances: Collection[Instance], period: Period, actor: str) -> list[UsageInvoice]:
    """Unsaved rows for those of these clients that never had one for the month."""
    had = set(
        UsageInvoice.objects.filter(instance__in=instances, period=period.label).values_list(
            "instance_id", flat=True
        )
    )
    plans = plans_in_force([one.pk for one in instances], period.start)
    return [
        _unsaved(one, period, actor, number=1, plan=plans.get(one.pk, PlanCode.BASE))
        for one in instances
        if one.pk not in had
    ]


def _unsaved(instance: Instance, period: Period, actor: str, *, number: int, plan: str) -> UsageInvoice:
    now = clock.now()
    return UsageInvoice(
        id=uuid4(),
        instance=instance,
        order_key=f"usage:{instance.pk}:{period.label}:{number}",
        period=period.label,
        period_start=period.start,
        period_end=period.end,
        currency=instance.currency,
        plan=plan,
        asked_by=actor,
        created_at=now,
    )


def settle_months(instance: Instance, usage: Mapping[str, dict[str, Any]]) -> None:
    """From now on these readings, by month, are what later ones are measured against."""
    _settle([(instance, usage)])


def _settle(readings: Sequence[tuple[Instance, Mapping[str, dict[str, Any]]]]) -> None:
    now = clock.now()
    rows = [
        UsageSnapshot(instance=instance, period=label, usage=frozen, digest=digest_of(frozen), seen_at=now)
        for instance, usage in readings
        for label, frozen in sorted(usage.items())
    ]
    insert_all(rows, replace=("usage", "digest", "seen_at"), unique=("instance", "period"))


def _freeze_lines(orders: Sequence[tuple[UsageInvoice, Iterable[PlannedLine]]]) -> list[UsageLine]:
    pairs = [
        (_line(row, position, line), line)
        for row, planned in orders
        for position, line in enumerate(planned, start=1)
    ]
    lines = [line for line, _ in pairs]
    insert_all(lines)
    charges = [_charge(line.invoice, line, lead) for line, plan in pairs for lead in plan.leads]
    insert_all(charges)
    return lines


def _line(row: UsageInvoice, position: int, line: PlannedLine) -> UsageLine:
    return UsageLine(
        invoice=row,
        position=position,
        kind=line.kind,
        description=line.description,
        quantity=line.quantity,
        unit_price_cents=line.unit_price_cents,
        amount_cents=line.amount_cents,
        late_for=line.late_for,
        evidence=dict(line.evidence),
    )


def _charge(row: UsageInvoice, line: UsageLine, lead: PlannedLead) -> LeadCharge:
    return LeadCharge(
        instance=row.instance,
        lead_id=lead.lead_id,
        lead_public_id=lead.public_id,
        converted_at=datetime.fromisoformat(lead.converted_at),
        evidence=lead.evidence,
        line=line,
        amount_cents=line.unit_price_cents or 0,
    )
