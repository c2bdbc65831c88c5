"""Figures for the overview's charts. Chart.js wants plain numbers: amounts become major units here, last."""

from __future__ import annotations

import json
from calendar import month_abbr
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provider_federation.money import Period, to_decimal
from provider_federation.portal.dashboard.billed import MonthSum
from provider_federation.portal.fleet.queries import Totals
from provider_federation.portal.revenue.periods import latest_months

MONTHS = 12


@dataclass(frozen=True)
class Series:
    """One row of bars: minor units by month label."""

    label: str
    color: str
    cents: Mapping[str, int]


@dataclass(frozen=True)
class Chart:
    """`data` and `options` are JSON for Unfold's script; `series` is the legend, `currency` in capitals."""

    data: str
    options: str
    series: Sequence[Series]
    currency: str
    others: Sequence[str]


def clients_chart(totals: Totals) -> Chart | None:
    """What clients billed and were paid, by the month of the invoice; in the currency that billed most."""
    currencies = sorted({row.currency for row in totals.rows}, key=lambda code: -_weight(totals, code))
    if not currencies:
        return None
    rows = [row for row in totals.rows if row.currency == currencies[0]]
    series = (
        Series("Billed", "var(--color-primary-600)", {row.key: row.billed_cents for row in rows}),
        Series("Paid", "var(--color-primary-300)", {row.key: row.paid_cents for row in rows}),
    )
    return _chart(series, currencies[0], currencies[1:], stacked=False)


def provider_chart(billed: Sequence[MonthSum]) -> Chart | None:
    """What the provider billed its clients, by month: subscriptions and usage, one upon the other."""
    weights: dict[str, int] = {}
    for one in billed:
        weights[one.currency] = weights.get(one.currency, 0) + one.cents
    if not weights:
        return None
    currency, *others = sorted(weights, key=lambda code: -weights[code])

    def months_of(kind: str) -> dict[str, int]:
        return {one.month: one.cents for one in billed if (one.kind, one.currency) == (kind, currency)}

    series = (
        Series("Subscriptions", "var(--color-primary-700)", months_of("subscription")),
        Series("Leads and AI usage", "var(--color-primary-400)", months_of("usage")),
    )
    return _chart(series, currency, others, stacked=True)


def charted_months() -> list[Period]:
    """The last twelve billing months, the running one last."""
    return latest_months(MONTHS)[::-1]


def months_chart(
    months: Sequence[Period],
    series: Sequence[Series],
    currency: str,
    others: Sequence[str],
    *,
    stacked: bool,
) -> Chart:
    """Bars by month, in one currency; `others` are named and not drawn."""
    labels = [month.label for month in months]
    datasets = [
        {
            "label": one.label,
            "backgroundColor": one.color,
            # A drawing, not an amount: the table beside it holds the exact figures.
            "data": [float(to_decimal(one.cents.get(label, 0), currency)) for label in labels],
        }
        for one in series
    ]
    return Chart(
        json.dumps({"labels": _ticks(months), "datasets": datasets}),
        json.dumps(_options(stacked=stacked)),
        series,
        currency.upper(),
        [code.upper() for code in others],
    )


def _weight(totals: Totals, currency: str) -> int:
    return sum(row.billed_cents for row in totals.rows if row.currency == currency)


def _chart(series: Sequence[Series], currency: str, others: Sequence[str], *, stacked: bool) -> Chart:
    return months_chart(charted_months(), series, currency, others, stacked=stacked)


def _ticks(months: Sequence[Period]) -> list[list[str]]:
    """Short names that fit on a phone; the year under the first month and every January."""
    names = [(month_abbr[int(month.label[5:])], month.label[:4]) for month in months]
    return [
        [name, year] if at == 0 or name == month_abbr[1] else [name] for at, (name, year) in enumerate(names)
    ]


def _options(*, stacked: bool) -> dict[str, Any]:
    axis = {"stacked": stacked, "border": {"display": False}, "ticks": {"color": "#94a3b8"}}
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "index", "intersect": False},
        "datasets": {"bar": {"borderRadius": 4, "maxBarThickness": 26, "categoryPercentage": 0.7}},
        "plugins": {"legend": {"display": False}},
        "scales": {
            "x": {**axis, "grid": {"display": False}, "ticks": {"color": "#94a3b8", "maxRotation": 0}},
            "y": {**axis, "beginAtZero": True, "grid": {"color": "rgba(148,163,184,.18)"}},
        },
    }
