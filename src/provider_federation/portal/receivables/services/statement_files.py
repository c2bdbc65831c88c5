"""A statement as CSV that a spreadsheet runs nothing of, and as PDF that is the same bytes each time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpResponse
from fpdf import FPDF
from fpdf.enums import XPos, YPos

from provider_federation.kit.csv_cells import csv_text
from provider_federation.kit.web.downloads import csv_download, download
from provider_federation.money import format_amount
from provider_federation.money.period import month_name
from provider_federation.portal.receivables.services.statements import CurrencyStatement, Entry, Statement

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table of every font
_FONTS = Path(__file__).resolve().parent.parent / "fonts"
_HEADER = (
    "currency",
    "date (UTC)",
    "kind",
    "invoice",
    "text",
    "amount (minor units)",
    "balance (minor units)",
)
_WIDTHS = (28, 38, 74, 25, 25)
_LONGEST_TEXT = 60


def statement_csv(statement: Statement) -> str:
    """Amounts are whole numbers in minor units; the balance starts with what was owed before."""
    return csv_text(_rows(statement))


def _rows(statement: Statement) -> Iterator[Sequence[str | int]]:
    yield _HEADER
    start, end = statement.month.start.isoformat(), statement.month.end.isoformat()
    for one in statement.currencies:
        currency, balance = one.currency.upper(), one.opening
        yield [currency, start, "opening", "", "", "", balance]
        for entry in one.entries:
            balance += entry.amount
            words = (entry.kind, entry.name, entry.text)
            yield [currency, entry.at.isoformat(), *words, entry.amount, balance]
        yield [currency, end, "closing", "", "", "", one.closing]


def statement_pdf(statement: Statement) -> bytes:
    """One table a currency. The same statement is the same bytes; letters that the font lacks show a box."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(statement.month.end)
    for style, name in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        pdf.add_font("body", style, _FONTS / name)
    pdf.set_title(_plain(f"Statement {month_name(statement.month.label)}"))
    pdf.set_author(_plain(settings.PROVIDER_NAME))
    pdf.set_auto_page_break(auto=True, margin=18)
    pdf.add_page()
    _head(pdf, statement)
    for one in statement.currencies:
        _table(pdf, one)
    if not statement.currencies:
        _line(pdf, "Nothing was billed, and nothing is owed.")
    return bytes(pdf.output())


def as_csv(statement: Statement) -> HttpResponse:
    """To be downloaded."""
    return csv_download(statement_csv(statement), _file_name(statement, "csv"))


def as_pdf(statement: Statement) -> HttpResponse:
    """To be downloaded."""
    return download(statement_pdf(statement), "application/pdf", _file_name(statement, "pdf"))


def _file_name(statement: Statement, ending: str) -> str:
    return f"statement-{statement.instance.name}-{statement.month.label}.{ending}"


def _head(pdf: FPDF, statement: Statement) -> None:
    pdf.set_font("body", "B", 18)
    _line(pdf, f"Statement {month_name(statement.month.label)}", height=11)
    pdf.set_font("body", "", 11)
    _line(pdf, f"From {settings.PROVIDER_NAME}")
    _line(pdf, f"To {statement.instance.title or statement.instance.name}")
    pdf.set_font("body", "", 8.5)
    pdf.set_text_color(110)
    zone = settings.PROVIDER_TIME_ZONE
    until = _day(statement.month.end)
    _line(
        pdf,
        f"{_day(statement.month.start)} up to, not including, {until} ({zone}); {statement.instance.org_id}",
    )
    pdf.set_text_color(0)
    pdf.ln(4)


def _table(pdf: FPDF, one: CurrencyStatement) -> None:
    pdf.set_font("body", "B", 11)
    _line(pdf, one.currency.upper(), height=8)
    pdf.set_font("body", "", 8.5)
    balance = one.opening
    rows = [("", "", "Owed before", "", _money(balance, one.currency))]
    for entry in one.entries:
        balance += entry.amount
        rows.append(_row(entry, balance))
    rows.append(("", "", "Owed after", "", _money(one.closing, one.currency)))
    aligned = ("LEFT", "LEFT", "LEFT", "RIGHT", "RIGHT")
    with pdf.table(
        col_widths=_WIDTHS,
        text_align=aligned,
        borders_layout="HORIZONTAL_LINES",
        line_height=5.5,
        padding=0.8,
    ) as table:
        table.row(("Date", "Invoice", "What", "Amount", "Balance"))
        for row in rows:
            table.row(tuple(_plain(cell) for cell in row))
    pdf.ln(2)
    if one.tax:
        _line(pdf, f"Tax in these amounts: {_money(one.tax, one.currency)}")
    pdf.ln(5)


def _row(entry: Entry, balance: int) -> tuple[str, str, str, str, str]:
    currency = entry.currency
    text = entry.text[:_LONGEST_TEXT]
    return (_day(entry.at), entry.name, text, _money(entry.amount, currency), _money(balance, currency))


def _line(pdf: FPDF, text: str, height: float = 6) -> None:
    pdf.multi_cell(0, height, _plain(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _money(cents: int, currency: str) -> str:
    return format_amount(cents, currency)


def _day(at: datetime) -> str:
    local = at.astimezone(ZoneInfo(settings.PROVIDER_TIME_ZONE))
    return f"{local:%Y-%m-%d}"


def _plain(text: str) -> str:
    """One line that can be written: no control characters, no halves of a character."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable.encode("utf-8", "replace").decode()
