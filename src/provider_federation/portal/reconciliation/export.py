"""A report's rows as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from provider_federation.kit.csv_cells import csv_text
from provider_federation.portal.reconciliation.differences import Says
from provider_federation.portal.reconciliation.models import ReconciliationRow

_HEADER = [
    "class",
    "client",
    "subject",
    "message",
    "currency",
    "portal",
    "instance",
    "stripe",
    "gap (minor units)",
    "repair",
    "repaired at",
    "note",
]


def rows_csv(rows: Iterable[ReconciliationRow]) -> str:
    """A row a difference; what is a number stays one."""
    return csv_text(chain([_HEADER], map(_cells, rows)))


def _cells(row: ReconciliationRow) -> list[str | int]:
    client = row.instance.org_id if row.instance else ""
    text = (row.kind, client, row.subject, row.message, row.currency.upper())
    repaired = row.repaired_at.isoformat() if row.repaired_at else ""
    return [
        *text,
        *(_says(one) for one in (row.portal, row.instance_says, row.stripe)),
        row.gap_cents,
        row.repair,
        repaired,
        row.repair_note,
    ]


def _says(value: Says) -> str | int:
    return "" if value is None else value
