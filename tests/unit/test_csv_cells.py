"""Every file that is downloaded is made by `kit.csv_cells`: nothing in it runs in a spreadsheet, and nothing is lost."""

from __future__ import annotations

import csv
import io
import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import provider_federation
from provider_federation.kit.csv_cells import MOST_ROWS, csv_lines, csv_text, safe_cell

# What a table holds: text without the halves of characters that no file can have.
CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "|cmd", "%0A", "  =1", "\u00a0=1", "\ufeff=1", "\uff1d1", "\u3000\uff0b1"],
)  # fmt: skip
def test_what_begins_like_a_formula_is_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@given(st.lists(st.lists(CELLS | st.integers(), min_size=1, max_size=5), max_size=5))
def test_a_file_reads_back_as_it_was_apart_from_apostrophes(rows: list[list[str | int]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    wanted = [[str(cell) if isinstance(cell, int) else safe_cell(cell) for cell in row] for row in rows]
    assert read == wanted


def test_numbers_stay_numbers() -> None:
    assert csv_text([["amount", "cost"], [-5, Decimal("-0.25")]]) == "amount,cost\r\n-5,-0.25\r\n"


def test_a_file_ends_somewhere() -> None:
    endless = ([number] for number in itertools.count())
    assert sum(1 for _ in csv_lines(endless)) == MOST_ROWS + 1


def test_nobody_writes_csv_by_another_way() -> None:
    root = Path(provider_federation.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "csv.writer" in path.read_text() or '"text/csv' in path.read_text()
    }
    assert found == {"kit/csv_cells.py", "kit/web/downloads.py"}
