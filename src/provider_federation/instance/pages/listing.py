"""A list on a page: sorted by a chosen column, cut into pages, its choices kept in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import QueryDict

PAGE_SIZE = 25


@dataclass(frozen=True)
class Listing:
    """One page of rows. `sort` is a column's name, with a minus for descending; `query` is what the address says."""

    page: Page[Any]
    sort: str
    query: QueryDict

    def address(self, **changed: str | int | None) -> str:
        """The list's query string with some parts changed; None takes a part out."""
        kept = {name: value for name, value in self.query.items() if value and name not in changed}
        given = {name: str(value) for name, value in changed.items() if value is not None}
        return "?" + urlencode({**kept, **given})

    @property
    def newer(self) -> str:
        return self.address(page=self.page.previous_page_number())

    @property
    def older(self) -> str:
        return self.address(page=self.page.next_page_number())


def make_listing(
    rows: QuerySet[Any], query: QueryDict, columns: Mapping[str, str], default: str = "-created"
) -> Listing:
    """`columns` maps a name in the address to the field it sorts by. A sort or page that is none of ours is the default."""
    asked = query.get("sort", default)
    sort = asked if asked.removeprefix("-") in columns else default
    sign, field = ("-" if sort.startswith("-") else ""), columns[sort.removeprefix("-")]
    ordered = rows.order_by(f"{sign}{field}", f"{sign}pk")
    return Listing(Paginator(ordered, PAGE_SIZE).get_page(_page_number(query)), sort, query)


def _page_number(query: QueryDict) -> str:
    """Short enough for Python to turn into a number; everything else is page 1."""
    asked = query.get("page", "1")
    return asked if asked.isascii() and asked.isdigit() and len(asked) < 10 else "1"
