"""Subscriptions as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from provider_federation.kit.csv_cells import safe_cell
from provider_federation.portal.subscriptions.models import Subscription

MOST_ROWS = 100_000
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
    """RFC 4180; amounts are whole numbers in minor units. At most MOST_ROWS rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for row in islice(rows, MOST_ROWS):
        writer.writerow(_cells(row))
    return out.getvalue()


def _cells(row: Subscription) -> list[str | int]:
    text = (row.instance.title, row.instance.org_id, row.plan, row.status, row.currency.upper())
    return [
        *(safe_cell(one) for one in text),
        row.fee_cents,
        _when(row.created_at),
        _when(row.current_period_end),
        "yes" if row.cancel_at_period_end and not row.ended else "no",
        _when(row.ended_at),
        safe_cell(row.stripe_subscription_id or ""),
    ]


def _when(at: datetime | None) -> str:
    return at.isoformat().replace("+00:00", "Z") if at else ""
