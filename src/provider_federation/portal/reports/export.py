"""Reports as CSV: RFC 4180, numbers as numbers, text that a spreadsheet would run defused. The coverage goes with
them as lines below the figures: a sum without it could pass for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from provider_federation.kit.csv_cells import MOST_ROWS, csv_text
from provider_federation.portal.reports import queries
from provider_federation.portal.reports.schemas import (
    ai_figures,
    cost_text,
    kinds_figures,
    movement_figures,
    owed_figures,
)
from provider_federation.portal.reports.window import Window

By: TypeAlias = Literal["month", "client", "kind"]
NAMES = ("owed", "revenue", "mrr", "ai")

_Line: TypeAlias = tuple[str, str, str, Mapping[str, int | str]]


def report_csv(name: str, by: By, window: Window) -> str:
    """The rows of the report of that name (one of NAMES). A report that has no such grouping is grouped by month."""
    lines = list(_LINES[name](by, window))
    head = ["key", "label", "currency", *(_title(one) for one in (lines[0][3] if lines else ()))]
    below = [[words] for words in coverage_lines(queries.covered())]
    figures = [
        [key, label, currency.upper(), *values.values()]
        for key, label, currency, values in lines[: MOST_ROWS - len(below)]
    ]
    return csv_text([head, *figures, *below])


def coverage_lines(found: queries.Covered) -> list[str]:
    """What a reader of the figures has to know, as sentences."""
    last = found.reconciled
    compared = (
        f"last compared for {last.report.period}: {last.differences} differences"
        if last
        else "never compared"
    )
    return [
        f"Coverage: {'complete' if found.complete else 'not complete'}",
        f"Clients synced: {found.clients}",
        f"Stripe events not applied yet: {found.events_waiting}; parked: {found.events_parked}",
        f"Usage invoices held: {found.held}; on the way: {found.on_the_way}; in no total",
        f"Books: {compared}",
    ]


def _owed(by: By, window: Window) -> Iterable[_Line]:
    for row in queries.owed(window, by):
        yield row.key, row.label, row.currency, owed_figures(row.owed)


def _revenue(by: By, window: Window) -> Iterable[_Line]:
    for row in queries.revenue_by_kind(window, "client" if by == "client" else "month"):
        yield row.key, row.label, row.currency, kinds_figures(row.kinds)


def _mrr(_by: By, window: Window) -> Iterable[_Line]:
    for row in queries.mrr(window):
        yield row.month, row.month, row.currency, movement_figures(row.movement)


def _ai(by: By, window: Window) -> Iterable[_Line]:
    for row in queries.ai_usage(window, "client" if by == "client" else "month"):
        yield row.key, row.label, row.currency, {"cost": cost_text(row.usage), **ai_figures(row.usage)}


_LINES: dict[str, Callable[[By, Window], Iterable[_Line]]] = {
    "owed": _owed,
    "revenue": _revenue,
    "mrr": _mrr,
    "ai": _ai,
}


def _title(name: str) -> str:
    return name.replace("_cents", " (minor units)").replace("_", " ")
