"""What was billed for a month's usage against what the instance says now: each lead with its evidence, and the
AI cost.

A lead belongs to the month in which it converted, whichever invoice billed it: one that was billed late is
found by its charge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import F, Q, Sum

from provider_federation.kit import clock
from provider_federation.money import Period, Usage, UsageLead, ai_amount
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import CreditNoteLine
from provider_federation.portal.receivables.queries import HOLDING
from provider_federation.portal.reconciliation.differences import Difference
from provider_federation.portal.revenue import queries
from provider_federation.portal.revenue.models import Kind, LeadCharge, UsageSnapshot
from provider_federation.portal.revenue.usage import Reading
from provider_federation.portal.subscriptions.queries import ai_terms_for


@dataclass(frozen=True)
class _Billed:
    """What the portal holds of one client's month: `charges` that were not credited, what AI usage was billed and
    how much of that was credited. `settled`: it was invoiced, or found to cost nothing.
    """

    charges: dict[str, LeadCharge]
    ever: set[str]
    ai_cents: int
    ai_credited: int
    settled: bool
    held: bool


def compare_usage(instance: Instance, period: Period, reading: Reading) -> Iterator[Difference]:
    """Both ways: what was billed and cannot be shown, and what can be shown and was not billed."""
    billed = _billed(instance, period, reading)
    known = {lead.lead_id: lead for lead in reading.usage.leads}
    for lead_id, charge in sorted(billed.charges.items()):
        yield from _charged(instance, charge, known.get(lead_id))
    if not period.closed(clock.now()) or billed.held:
        return  # not due yet, or told of as held
    unbilled = [lead for lead_id, lead in sorted(known.items()) if lead_id not in billed.ever]
    due = _ai_due(instance, period, reading.usage)
    if not billed.settled:
        yield from _whole_month(instance, period, len(unbilled), max(due - billed.ai_cents, 0))
        return
    for lead in unbilled:
        yield _lead(
            instance, lead.lead_id, "lead_unbilled", "converted and was not billed", None, lead.evidence
        )
    yield from _ai(instance, period, billed, due)


def _billed(instance: Instance, period: Period, reading: Reading) -> _Billed:
    converted = LeadCharge.objects.filter(
        instance=instance, converted_at__gte=period.start, converted_at__lt=period.end, released_at=None
    )
    live = queries.live_usage_invoice(instance, period.label)
    snapshot = UsageSnapshot.objects.filter(instance=instance, period=period.label).exists()
    held = live is not None and live.status == "held"
    return _Billed(
        charges={charge.lead_id: charge for charge in converted.exclude(_credited())},
        ever=queries.charged_leads(instance, [one.lead_id for one in reading.usage.leads], ever=True),
        ai_cents=queries.ai_billed(instance, period.label),
        ai_credited=_ai_credited(instance, period),
        settled=(live is not None and not held) or (snapshot and not _voided(instance, period)),
        held=held,
    )


def _credited() -> Q:
    """Charges that a credit note gave back: a single one, or with its whole line."""
    notes = CreditNoteLine.objects.filter(credit_note__state__in=HOLDING)
    whole = notes.filter(charge=None, amount_cents=F("usage_line__amount_cents"))
    singles = notes.exclude(charge=None).values("charge")
    return Q(pk__in=singles) | Q(line__in=whole.values("usage_line"))


def _ai_credited(instance: Instance, period: Period) -> int:
    lines = CreditNoteLine.objects.filter(
        credit_note__state__in=HOLDING, usage_line__invoice__instance=instance, usage_line__kind=Kind.AI
    )
    own = Q(usage_line__late_for="", usage_line__invoice__period=period.label)
    mine = lines.filter(own | Q(usage_line__late_for=period.label))
    return int(mine.aggregate(sum=Sum("amount_cents"))["sum"] or 0)


def _voided(instance: Instance, period: Period) -> bool:
    return instance.usage_invoices.filter(period=period.label, status="void").exists()


def _charged(instance: Instance, charge: LeadCharge, lead: UsageLead | None) -> Iterator[Difference]:
    if lead is None or not charge.evidence:
        words = (
            "was billed, and the instance does not know it" if lead is None else "was billed without evidence"
        )
        now = lead.evidence if lead else None
        yield _lead(instance, charge.lead_id, "lead_without_evidence", words, charge.evidence or None, now)
    elif lead.evidence != charge.evidence:
        words = "has other evidence now than when it was billed"
        yield _lead(instance, charge.lead_id, "evidence_changed", words, charge.evidence, lead.evidence)


def _whole_month(instance: Instance, period: Period, leads: int, ai_cents: int) -> Iterator[Difference]:
    if leads or ai_cents:
        message = f"{period.label} of {instance} is over and not billed: {leads} leads and AI usage."
        yield Difference(
            "not_billed", f"month:{instance.pk}:{period.label}", message, instance, instance_says=leads
        )


def _ai(instance: Instance, period: Period, held: _Billed, due: int) -> Iterator[Difference]:
    """A credit mends what was billed too much; it makes nothing billed too little."""
    net = held.ai_cents - held.ai_credited
    if held.ai_cents < due or net > due:
        kind, billed = ("ai_overbilled", net) if net > due else ("ai_unbilled", held.ai_cents)
        message = f"AI usage of {period.label} of {instance}: {billed} billed, {due} by what it counts now."
        yield Difference(
            kind=kind,
            subject=f"ai:{instance.pk}:{period.label}",
            message=message,
            instance=instance,
            currency=instance.currency,
            portal=billed,
            instance_says=due,
        )


def _ai_due(instance: Instance, period: Period, usage: Usage) -> int:
    cap, markup = ai_terms_for(instance, period.start, period.end)
    return ai_amount(usage.ai_cost, cap=cap, markup=markup, currency=instance.currency)


def _lead(
    instance: Instance, lead_id: str, kind: str, words: str, here: str | None, there: str | None
) -> Difference:
    return Difference(
        kind=kind,
        subject=f"lead:{instance.pk}:{lead_id}",
        message=f"The lead {lead_id} of {instance} {words}."[:500],
        instance=instance,
        portal=here,
        instance_says=there,
    )
