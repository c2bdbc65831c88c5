"""What the provider earns and is owed: four reports over the same months, drawn and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.downloads import csv_download
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.dashboard.charts import Chart, Series, months_chart
from provider_federation.portal.dashboard.pages import actor, address, chosen, page, requires, say, words
from provider_federation.portal.receivables.ledger import Owed
from provider_federation.portal.reports import queries
from provider_federation.portal.reports.export import NAMES, report_csv
from provider_federation.portal.reports.queries.ai_usage import totals as ai_totals
from provider_federation.portal.reports.queries.kinds import totals as kinds_totals
from provider_federation.portal.reports.queries.owed import totals as owed_totals
from provider_federation.portal.reports.window import Window, window_asked

_TITLES = {"owed": "Billed and owed", "revenue": "Revenue by kind", "mrr": "MRR", "ai": "AI usage"}
_GROUPINGS = {
    "owed": ("month", "client", "kind"),
    "revenue": ("month", "client"),
    "mrr": ("month",),
    "ai": ("month", "client"),
}
_MOST_ROWS = 500


@dataclass(frozen=True)
class Table:
    """`rows` are (label, currency, figures); each figure is minor units, or a plain number where `counts` says
    so.
    """

    headings: Sequence[str]
    rows: list[tuple[str, str, list[int]]]
    sums: list[tuple[str, list[int]]]
    counts: frozenset[int] = frozenset()
    charts: Sequence[tuple[str, str, str]] = field(default=())


@require_GET
@requires("billing.read")
def reports(request: HttpRequest) -> HttpResponse:
    name = chosen(request.GET, "report", NAMES) or "owed"
    by = chosen(request.GET, "by", _GROUPINGS[name]) or "month"
    window = _window(request)
    table = _TABLES[name](window, by)
    currencies = sorted({code for _, code, _ in table.rows})
    currency = chosen(request.GET, "currency", currencies)
    rows = [row for row in table.rows if not currency or row[1] == currency]
    return page(
        request,
        "reports",
        title="Reports",
        subtitle="What the provider bills, is paid and is owed. Currencies stand side by side.",
        name=name,
        names=_TITLES.items(),
        by=by,
        groupings=_GROUPINGS[name],
        window=window,
        currency=currency,
        currencies=currencies,
        table=table,
        rows=rows[:_MOST_ROWS],
        hidden=max(0, len(rows) - _MOST_ROWS),
        sums=[one for one in table.sums if not currency or one[0] == currency],
        chart=_chart(table, window, by, currency or _largest(table)),
        covered=queries.covered(),
        export_query=address(request.GET),
    )


@require_GET
@requires("billing.read")
def reports_csv(request: HttpRequest) -> HttpResponse:
    """The report of the address as CSV, its coverage below it."""
    name = chosen(request.GET, "report", NAMES) or "owed"
    by: Any = chosen(request.GET, "by", _GROUPINGS[name]) or "month"
    window = _window(request)
    return _csv(request, name, by, window)


def _csv(request: HttpRequest, name: str, by: Any, window: Window) -> HttpResponse:
    text = report_csv(name, by, window)
    record(Kind.EXPORTED, actor(request), f"report:{name}", by=by, months=window.label)
    return csv_download(text, f"{name}-{window.months[0].label}-{window.months[-1].label}.csv")


def _window(request: HttpRequest) -> Window:
    """The months of the address; the last twelve, with a word, when it cannot be read."""
    try:
        return window_asked(words(request.GET, "from", 7) or None, words(request.GET, "to", 7) or None)
    except Problem as problem:
        say(request, problem)
        return window_asked(None, None)


def _largest(table: Table) -> str:
    """The currency that is drawn when none is chosen."""
    return max(table.sums, key=lambda one: one[1][0], default=("", []))[0]


def _chart(table: Table, window: Window, by: str, currency: str) -> Chart | None:
    if by != "month" or not currency:
        return None
    at = {heading: number for number, heading in enumerate(table.headings)}
    series = [
        Series(
            heading,
            color,
            {label: figures[at[heading]] for label, code, figures in table.rows if code == currency},
        )
        for heading, color, _ in table.charts
    ]
    others = sorted({code for _, code, _ in table.rows} - {currency})
    stacked = any(stack for _, _, stack in table.charts)
    return months_chart(window.months, series, currency, others, stacked=stacked)


def _owed_figures(one: Owed) -> list[int]:
    return [one.billed, one.paid, one.collected, one.outstanding, one.overdue, one.invoices]


def _owed(window: Window, by: Any) -> Table:
    found = queries.owed(window, by)
    return Table(
        headings=("Billed", "Paid", "Collected", "Outstanding", "Overdue", "Invoices"),
        rows=[(row.label, row.currency, _owed_figures(row.owed)) for row in found],
        sums=[(code, _owed_figures(one)) for code, one in owed_totals(found).items()],
        counts=frozenset({5}),
        charts=(
            ("Billed", "var(--color-primary-600)", ""),
            ("Collected", "var(--color-primary-300)", ""),
            ("Outstanding", "#f59e0b", ""),
        ),
    )


def _revenue_figures(one: queries.Kinds) -> list[int]:
    return [one.total, one.subscription, one.leads, one.ai, one.tax, -one.credited, one.lead_count]


def _revenue(window: Window, by: Any) -> Table:
    found = queries.revenue_by_kind(window, by)
    return Table(
        headings=("Total", "Subscriptions", "Leads", "AI usage", "Tax", "Credited", "Lead count"),
        rows=[(row.label, row.currency, _revenue_figures(row.kinds)) for row in found],
        sums=[(code, _revenue_figures(one)) for code, one in kinds_totals(found).items()],
        counts=frozenset({6}),
        charts=(
            ("Subscriptions", "var(--color-primary-700)", "up"),
            ("Leads", "var(--color-primary-500)", "up"),
            ("AI usage", "var(--color-primary-300)", "up"),
        ),
    )


def _mrr_figures(one: queries.Movement) -> list[int]:
    return [
        one.closing,
        one.opening,
        one.new,
        one.expansion,
        one.contraction,
        one.churn,
        one.reactivation,
        one.clients,
    ]


def _mrr(window: Window, _by: Any) -> Table:
    found = queries.mrr(window)
    last = window.months[-1].label
    return Table(
        headings=("MRR", "Opening", "New", "Expansion", "Contraction", "Churn", "Reactivation", "Clients"),
        rows=[(row.month, row.currency, _mrr_figures(row.movement)) for row in found],
        sums=[(row.currency, _mrr_figures(row.movement)) for row in found if row.month == last],
        counts=frozenset({7}),
        charts=(
            ("New", "var(--color-primary-600)", "up"),
            ("Expansion", "var(--color-primary-400)", "up"),
            ("Reactivation", "var(--color-primary-200)", "up"),
            ("Contraction", "#f59e0b", "down"),
            ("Churn", "#dc2626", "down"),
        ),
    )


def _ai_figures(one: queries.AiUsage) -> list[int]:
    return [one.cost_cents, one.billed, one.absorbed]


def _ai(window: Window, by: Any) -> Table:
    found = queries.ai_usage(window, by)
    return Table(
        headings=("Cost", "Billed", "Left with the provider"),
        rows=[(row.label, row.currency, _ai_figures(row.usage)) for row in found],
        sums=[(code, _ai_figures(one)) for code, one in ai_totals(found).items()],
        charts=(("Cost", "#f59e0b", ""), ("Billed", "var(--color-primary-600)", "")),
    )


_TABLES: dict[str, Callable[[Window, Any], Table]] = {
    "owed": _owed,
    "revenue": _revenue,
    "mrr": _mrr,
    "ai": _ai,
}
