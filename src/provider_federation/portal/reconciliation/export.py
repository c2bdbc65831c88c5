"""A report's rows as CSV that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from itertools import islice

from django.http import HttpResponse

from provider_federation.portal.fleet.export import MOST_ROWS, safe_cell
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
    """RFC 4180; what is a number stays one. At most MOST_ROWS rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for row in islice(rows, MOST_ROWS):
        writer.writerow(_cells(row))
    return out.getvalue()


def csv_file(text: str, name: str) -> HttpResponse:
    """A download that no browser opens as a page."""
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def _cells(row: ReconciliationRow) -> list[str | int]:
    client = row.instance.org_id if row.instance else ""
    text = (row.kind, client, row.subject, row.message, row.currency.upper())
    repaired = row.repaired_at.isoformat() if row.repaired_at else ""
    return [
        *(safe_cell(one) for one in text),
        *(_says(one) for one in (row.portal, row.instance_says, row.stripe)),
        row.gap_cents,
        row.repair,
        repaired,
        safe_cell(row.repair_note),
    ]


def _says(value: Says) -> str | int:
    return safe_cell(value) if isinstance(value, str) else "" if value is None else value
