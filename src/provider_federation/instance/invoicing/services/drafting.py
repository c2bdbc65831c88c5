"""From billable leads to drafts, and back.

Drafting is one queue: whoever drafts holds the row of the number series until the commit. So numbers have no
gaps, and the second of two concurrent calls sees what the first made and reuses it. The primary key of
`LeadReservation` would refuse a lead's second invoice even if that queue failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from django.db import transaction

from provider_federation.instance.invoicing import queries
from provider_federation.instance.invoicing.feed import CREATED, record_change
from provider_federation.instance.invoicing.models import (
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    LeadReservation,
    NumberSeries,
)
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.leads.queries import chargeable_leads
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.money import STRIPE_MAXIMUM, Period
from provider_federation.money.period import days

_MOST_LINES = 5_000


@dataclass(frozen=True)
class Drafted:
    """What a drafting call has to show. `reused`: everything shown was there before. `window` spans what was
    asked. `made` are those that were not there before.
    """

    invoices: Sequence[Invoice]
    reused: bool
    window: Period
    made: Sequence[Invoice] = ()


@dataclass(frozen=True)
class WantedLine:
    """A line that a caller chose from a preview. Amounts and customer are what the preview said: compared,
    never used.
    """

    lead_id: int
    amount_cents: int | None = None
    customer_id: int | None = None


def preview_billable(window: Period) -> list[Lead]:
    """The leads that drafting this window would bill, newest first."""
    return list(queries.billable_leads(window))


def draft_invoices(window: Period) -> Drafted:
    """Draft one invoice per customer and currency for the window's billable leads, or show the drafts that
    hold them already.
    """
    with transaction.atomic():
        series = _lock_series()
        leads = list(queries.billable_leads(window).select_for_update(of=("self",)))
        if not leads:
            return Drafted(queries.drafts_of_window(window), reused=True, window=window)
        made = _draft(series, leads, period=(window.start, window.end))
        return Drafted(made, reused=False, window=window, made=made)


def draft_lines(wanted: Sequence[WantedLine]) -> Drafted:
    """Draft invoices for exactly these leads; those that a draft holds already are shown with it, the rest
    must be billable.

    Problems: 400 `repeated_line`, 404 `not_found`, 409 `lead_not_billable`, `lead_already_billed`,
    `line_changed`. Nothing is drafted unless every line can be.
    """
    if len({line.lead_id for line in wanted}) != len(wanted):
        raise Problem(400, "repeated_line", "A lead stands twice in lines; it can be billed once.")
    with transaction.atomic():
        series = _lock_series()
        leads = _lock_leads(wanted)
        held = _drafts_holding(leads)
        free = _billable_or_problem([lead for lead in leads if lead.pk not in held])
        window = _spanning(leads)
        made = _draft(series, free, period=(window.start, window.end)) if free else []
        return Drafted([*made, *_unique(held.values())], reused=not made, window=window, made=made)


def _lock_series() -> NumberSeries:
    NumberSeries.objects.get_or_create(pk=1)
    return NumberSeries.objects.select_for_update().get(pk=1)


def _lock_leads(wanted: Sequence[WantedLine]) -> list[Lead]:
    ids = [line.lead_id for line in wanted]
    found = {
        lead.pk: lead
        for lead in Lead.objects.select_for_update(of=("self",))
        .select_related("customer")
        .filter(pk__in=ids)
        .order_by("pk")
    }
    for line in wanted:
        lead = found.get(line.lead_id)
        if lead is None:
            raise not_found(f"lead {line.lead_id}")
        changed = line.amount_cents not in {None, lead.price_cents} or line.customer_id not in {
            None,
            lead.customer_id,
        }
        if changed:
            raise Problem(
                409,
                "line_changed",
                f"Lead {lead.public_id} is not what the preview showed any more; preview again.",
            )
    return [found[lead_id] for lead_id in ids]


def _drafts_holding(leads: Iterable[Lead]) -> dict[int, Invoice]:
    """Lead id → the draft that holds it; 409 when a sent invoice does."""
    held: dict[int, Invoice] = {}
    reservations = LeadReservation.objects.filter(lead__in=list(leads)).select_related(
        "lead", "line__invoice__customer"
    )
    for reservation in reservations:
        invoice = reservation.line.invoice
        if invoice.status != InvoiceStatus.DRAFT:
            raise Problem(
                409,
                "lead_already_billed",
                f"Lead {reservation.lead.public_id} was billed with invoice {invoice.number}.",
            )
        held[reservation.lead_id] = invoice
    return held


def _billable_or_problem(leads: list[Lead]) -> list[Lead]:
    chargeable = set(
        chargeable_leads().filter(pk__in=[lead.pk for lead in leads]).values_list("pk", flat=True)
    )
    for lead in leads:
        if lead.pk not in chargeable:
            raise Problem(
                409, "lead_not_billable", f"Lead {lead.public_id} is not billable: {_why_not(lead)}."
            )
    return leads


def _why_not(lead: Lead) -> str:
    reasons = {
        "it has not converted": lead.converted_at is None,
        "it did not come from the system": lead.source != "system",
        "it is not eligible": not lead.eligible,
        "it has no price": lead.price_cents is None,
        "it belongs to no customer": lead.customer_id is None,
    }
    return next((reason for reason, applies in reasons.items() if applies), "it changed")


def _spanning(leads: Iterable[Lead]) -> Period:
    """Whole days around the conversions."""
    moments = [lead.converted_at for lead in leads if lead.converted_at is not None] or [clock.now()]
    return days(min(moments).astimezone(UTC).date(), max(moments).astimezone(UTC).date())


def _unique(invoices: Iterable[Invoice]) -> list[Invoice]:
    return list({invoice.pk: invoice for invoice in invoices}.values())


def _draft(series: NumberSeries, leads: list[Lead], *, period: tuple[datetime, datetime]) -> list[Invoice]:
    def whose(lead: Lead) -> tuple[int, str]:
        assert lead.customer_id is not None
        return lead.customer_id, lead.currency

    ordered = sorted(leads, key=lambda lead: (*whose(lead), lead.converted_at, lead.pk))
    parcels = [parcel for _, group in groupby(ordered, key=whose) for parcel in _parcels(group)]
    made = [_draft_one(series, parcel, period) for parcel in parcels]
    series.save(update_fields=["last_number"])
    record_change(CREATED, *made)
    return made


def _parcels(leads: Iterable[Lead]) -> Iterator[list[Lead]]:
    """As few invoices as Stripe takes: each with a bounded number of lines and a total of at most eight digits."""
    parcel: list[Lead] = []
    total = 0
    for lead in leads:
        price = lead.price_cents or 0
        if parcel and (len(parcel) == _MOST_LINES or total + price > STRIPE_MAXIMUM):
            yield parcel
            parcel, total = [], 0
        parcel.append(lead)
        total += price
    if parcel:
        yield parcel


def _draft_one(series: NumberSeries, leads: list[Lead], period: tuple[datetime, datetime]) -> Invoice:
    series.last_number += 1
    total, now = sum(lead.price_cents or 0 for lead in leads), clock.now()
    assert leads[0].customer is not None
    invoice = Invoice.objects.create(
        number=f"INV-{series.last_number:06}",
        customer=leads[0].customer,
        currency=leads[0].currency,
        period_from=period[0],
        period_to=period[1],
        subtotal_cents=total,
        total_cents=total,
        created_at=now,
        updated_at=now,
    )
    lines = InvoiceLine.objects.bulk_create(
        _line(invoice, position, lead) for position, lead in enumerate(leads, start=1)
    )
    LeadReservation.objects.bulk_create(LeadReservation(lead_id=line.lead_id, line=line) for line in lines)
    return invoice


def _line(invoice: Invoice, position: int, lead: Lead) -> InvoiceLine:
    assert lead.converted_at is not None
    assert lead.price_cents is not None
    return InvoiceLine(
        invoice=invoice,
        position=position,
        lead=lead,
        description=f"Lead {lead.public_id}, converted {lead.converted_at:%Y-%m-%d}",
        converted_at=lead.converted_at,
        unit_price_cents=lead.price_cents,
        amount_cents=lead.price_cents,
    )
