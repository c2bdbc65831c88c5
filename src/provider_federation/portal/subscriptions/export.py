"""Subscriptions as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain

from provider_federation.kit.csv_cells import csv_text
from provider_federation.portal.subscriptions.models import Subscription

_HEADER = [
    "client",
    "client org id",
    "plan",
    "status",
    "currency",
    "fee a month (minor units)",
    "since",
    "paid until",
    "ends with the period",
    "ended",
    "stripe subscription",
]


def subscriptions_csv(rows: Iterable[Subscription]) -> str:
    """A row a subscription; amounts are whole numbers in minor units."""
    return csv_text(chain([_HEADER], map(_cells, rows)))


def _cells(row: Subscription) -> list[str | int]:
    return [
        row.instance.title,
        row.instance.org_id,
        row.plan,
        row.status,
        row.currency.upper(),
        row.fee_cents,
        _when(row.created_at),
        _when(row.current_period_end),
        "yes" if row.cancel_at_period_end and not row.ended else "no",
        _when(row.ended_at),
        row.stripe_subscription_id or "",
    ]


def _when(at: datetime | None) -> str:
    return at.isoformat().replace("+00:00", "Z") if at else ""
