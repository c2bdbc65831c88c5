"""The JSON of the reports (camelCase; amounts in minor units of the `currency` beside them)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from provider_federation.portal.fleet.wire import CoverageOut, Instant, Wire, coverage_out
from provider_federation.portal.receivables.ledger import Owed
from provider_federation.portal.reports.queries import (
    AiRow,
    AiUsage,
    Covered,
    Kinds,
    KindsRow,
    Movement,
    MovementRow,
    OwedRow,
)
from provider_federation.portal.reports.window import Window


class PeriodOut(Wire):
    start: Instant
    end: Instant
    label: str


class EventsOut(Wire):
    waiting: int
    parked: int
    waiting_since: Instant | None
    last_at: Instant | None


class ReconciledOut(Wire):
    id: str
    period: str
    at: Instant | None
    differences: int
    complete: bool


class CoveredOut(Wire):
    """`complete` when nothing is known to be missing. Invoices that are `held` or `onTheWay` are in no total."""

    complete: bool
    clients: CoverageOut
    events: EventsOut
    held: int
    on_the_way: int
    reconciled: ReconciledOut | None


class OwedOut(Wire):
    invoices: int
    gross_cents: int
    credited_cents: int
    billed_cents: int
    tax_cents: int
    paid_cents: int
    off_stripe_cents: int
    refunded_cents: int
    collected_cents: int
    outstanding_cents: int
    overdue_cents: int
    written_off_cents: int


class OwedRowOut(OwedOut):
    key: str
    label: str
    currency: str


class OwedTotalOut(OwedOut):
    currency: str


class OwedReportOut(Wire):
    ok: Literal[True] = True
    by: str
    period: PeriodOut
    rows: list[OwedRowOut]
    totals: list[OwedTotalOut]
    coverage: CoveredOut


class KindsOut(Wire):
    subscription_cents: int
    leads_cents: int
    ai_cents: int
    tax_cents: int
    credited_cents: int
    total_cents: int
    lead_count: int


class KindsRowOut(KindsOut):
    key: str
    label: str
    currency: str


class KindsTotalOut(KindsOut):
    currency: str


class KindsReportOut(Wire):
    ok: Literal[True] = True
    by: str
    period: PeriodOut
    rows: list[KindsRowOut]
    totals: list[KindsTotalOut]
    coverage: CoveredOut


class MovementRowOut(Wire):
    month: str
    currency: str
    opening_cents: int
    new_cents: int
    expansion_cents: int
    contraction_cents: int
    churn_cents: int
    reactivation_cents: int
    closing_cents: int
    clients: int


class MrrReportOut(Wire):
    ok: Literal[True] = True
    period: PeriodOut
    rows: list[MovementRowOut]
    coverage: CoveredOut


class AiOut(Wire):
    """`cost` is exact, in major units, as a string; `costCents` the same, rounded once."""

    cost: str
    cost_cents: int
    billed_cents: int
    absorbed_cents: int


class AiRowOut(AiOut):
    key: str
    label: str
    currency: str


class AiTotalOut(AiOut):
    currency: str


class AiReportOut(Wire):
    ok: Literal[True] = True
    by: str
    period: PeriodOut
    rows: list[AiRowOut]
    totals: list[AiTotalOut]
    coverage: CoveredOut


def period_out(window: Window) -> PeriodOut:
    return PeriodOut(start=window.start, end=window.end, label=window.label)


def covered_out(found: Covered) -> CoveredOut:
    last = found.reconciled
    return CoveredOut(
        complete=found.complete,
        clients=coverage_out(found.clients),
        events=EventsOut(
            waiting=found.events_waiting,
            parked=found.events_parked,
            waiting_since=found.waiting_since,
            last_at=found.last_event_at,
        ),
        held=found.held,
        on_the_way=found.on_the_way,
        reconciled=ReconciledOut(
            id=str(last.report.pk),
            period=last.report.period,
            at=last.report.finished_at,
            differences=last.differences,
            complete=last.progress.complete,
        )
        if last
        else None,
    )


def owed_out(
    by: str, window: Window, rows: Iterable[OwedRow], totals: Mapping[str, Owed], found: Covered
) -> OwedReportOut:
    return OwedReportOut(
        by=by,
        period=period_out(window),
        rows=[
            OwedRowOut(key=row.key, label=row.label, currency=row.currency, **owed_figures(row.owed))
            for row in rows
        ],
        totals=[OwedTotalOut(currency=code, **owed_figures(one)) for code, one in totals.items()],
        coverage=covered_out(found),
    )


def kinds_out(
    by: str, window: Window, rows: Iterable[KindsRow], totals: Mapping[str, Kinds], found: Covered
) -> KindsReportOut:
    return KindsReportOut(
        by=by,
        period=period_out(window),
        rows=[
            KindsRowOut(key=row.key, label=row.label, currency=row.currency, **kinds_figures(row.kinds))
            for row in rows
        ],
        totals=[KindsTotalOut(currency=code, **kinds_figures(one)) for code, one in totals.items()],
        coverage=covered_out(found),
    )


def mrr_out(window: Window, rows: Iterable[MovementRow], found: Covered) -> MrrReportOut:
    return MrrReportOut(
        period=period_out(window),
        rows=[
            MovementRowOut(month=row.month, currency=row.currency, **movement_figures(row.movement))
            for row in rows
        ],
        coverage=covered_out(found),
    )


def ai_out(
    by: str, window: Window, rows: Iterable[AiRow], totals: Mapping[str, AiUsage], found: Covered
) -> AiReportOut:
    return AiReportOut(
        by=by,
        period=period_out(window),
        rows=[
            AiRowOut(
                key=row.key,
                label=row.label,
                currency=row.currency,
                cost=cost_text(row.usage),
                **ai_figures(row.usage),
            )
            for row in rows
        ],
        totals=[
            AiTotalOut(currency=code, cost=cost_text(one), **ai_figures(one)) for code, one in totals.items()
        ],
        coverage=covered_out(found),
    )


def owed_figures(one: Owed) -> dict[str, int]:
    """The figures of a row by the name they have on the wire and in the CSV, in their order."""
    return {
        "invoices": one.invoices,
        "gross_cents": one.gross,
        "credited_cents": one.credited,
        "billed_cents": one.billed,
        "tax_cents": one.tax,
        "paid_cents": one.paid,
        "off_stripe_cents": one.off_stripe,
        "refunded_cents": one.refunded,
        "collected_cents": one.collected,
        "outstanding_cents": one.outstanding,
        "overdue_cents": one.overdue,
        "written_off_cents": one.written_off,
    }


def kinds_figures(one: Kinds) -> dict[str, int]:
    """As `owed_figures`."""
    return {
        "subscription_cents": one.subscription,
        "leads_cents": one.leads,
        "ai_cents": one.ai,
        "tax_cents": one.tax,
        "credited_cents": one.credited,
        "total_cents": one.total,
        "lead_count": one.lead_count,
    }


def movement_figures(one: Movement) -> dict[str, int]:
    """As `owed_figures`."""
    return {
        "opening_cents": one.opening,
        "new_cents": one.new,
        "expansion_cents": one.expansion,
        "contraction_cents": one.contraction,
        "churn_cents": one.churn,
        "reactivation_cents": one.reactivation,
        "closing_cents": one.closing,
        "clients": one.clients,
    }


def ai_figures(one: AiUsage) -> dict[str, int]:
    """As `owed_figures`."""
    return {"cost_cents": one.cost_cents, "billed_cents": one.billed, "absorbed_cents": one.absorbed}


def cost_text(one: AiUsage) -> str:
    """Exact, without needless zeros and never in powers of ten."""
    text = f"{one.cost:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
