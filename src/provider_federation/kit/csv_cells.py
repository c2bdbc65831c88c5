"""Text in CSV that no spreadsheet takes for a formula."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def safe_cell(text: str) -> str:
    """The text; what begins like a formula gets an apostrophe in front."""
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_FORMULA) else text
