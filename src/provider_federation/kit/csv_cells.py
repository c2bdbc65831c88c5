"""CSV (RFC 4180) that a spreadsheet opens without running anything in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

MOST_ROWS = 100_000
"""What one file holds at most."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def csv_lines(rows: Iterable[Sequence[str | int | Decimal]]) -> Iterator[str]:
    """A line a row, the heading first; what is a number stays one, every text is defused. At most MOST_ROWS rows
    below the heading.
    """
    for row in islice(rows, MOST_ROWS + 1):
        out = io.StringIO()
        cells = [safe_cell(cell) if isinstance(cell, str) else cell for cell in row]
        csv.writer(out, lineterminator="\r\n").writerow(cells)
        yield out.getvalue()


def csv_text(rows: Iterable[Sequence[str | int | Decimal]]) -> str:
    """`csv_lines` in one."""
    return "".join(csv_lines(rows))


def safe_cell(text: str) -> str:
    """The text; what begins like a formula, also behind blanks and in full-width letters, gets an apostrophe in
    front.
    """
    first = text.lstrip(" \u00a0\u3000\ufeff")[:1]
    narrow = chr(ord(first) - 0xFEE0) if "\uff01" <= first <= "\uff5e" else first
    return f"'{text}" if narrow.startswith(_FORMULA) else text
