"""What every page shares: who may see it, the frame around it, paging, sorting, telling what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from provider_federation.kit.problem import Problem
from provider_federation.portal.operators.models import Operator
from provider_federation.portal.operators.services import actor_of, allowed

View = Callable[..., HttpResponse]
Crumbs = Sequence[tuple[str, str]]

_STANDARD_PAGE = 25


def requires(permission: str) -> Callable[[View], View]:
    """For signed-in operators whose role has `permission`; strangers go to the sign-in, others get a 403."""

    def decorate(view: View) -> View:
        allowed(None, permission)  # a misspelt permission stops the process at import

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not allowed(request.user, permission):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def may(request: HttpRequest, permission: str) -> bool:
    """For templates: should the button be there at all? The view behind it checks again."""
    return allowed(request.user, permission)


def actor(request: HttpRequest) -> str:
    """`operator:<email>` of the signed-in operator."""
    assert isinstance(request.user, Operator)
    return actor_of(request.user)


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor: Unfold's names, colours, sidebar, and what the operator may do (`can.act` …)."""
    if request.path_info.startswith("/api/"):
        return {}
    user = getattr(request, "user", None)
    can = {
        "act": allowed(user, "fleet.act"),
        "bill": allowed(user, "billing.manage"),
        "check": allowed(user, "instances.check"),
        "manage": allowed(user, "instances.manage"),
        "read_runs": allowed(user, "fleet.read"),
    }
    return {**admin.site.each_context(request), "title": "Provider Portal", "can": can}


def page(
    request: HttpRequest, template: str, *, title: str, crumbs: Crumbs = (), **context: Any
) -> HttpResponse:
    """Render `portal/<template>.html` in our frame; `crumbs` are (words, address) of the pages above."""
    return render(request, f"portal/{template}.html", {"title": title, "crumbs": crumbs, **context})


def say(request: HttpRequest, problem: Problem) -> None:
    """Show a problem's sentence on the next page."""
    messages.error(request, problem.message)


def tell_form(form: BaseForm, problem: Problem) -> None:
    """Put a service's problem at the field it is about, or on top of the form."""
    field = str(problem.details.get("field", ""))
    form.add_error(field if field in form.fields else None, problem.message)


@contextmanager
def problems_said(request: HttpRequest) -> Iterator[None]:
    """A problem ends the block, and its sentence is shown on the next page."""
    try:
        yield
    except Problem as problem:
        say(request, problem)


@contextmanager
def problems_at(form: BaseForm) -> Iterator[None]:
    """A problem ends the block, and its sentence stands in the form."""
    try:
        yield
    except Problem as problem:
        tell_form(form, problem)


@dataclass(frozen=True)
class Column:
    """One column of a list: `key` is what the address says, `order` the field (empty: not sortable)."""

    key: str
    label: str
    order: str = ""
    right: bool = False


@dataclass(frozen=True)
class Heading:
    """A column as the template shows it: where a click on it leads, and how the list is sorted now."""

    label: str
    href: str
    sorted: str
    right: bool


class Listing:
    """A sorted page of a query set, by the address's `sort` and `page`; anything unknown is the default.

    `sort` is a column's key, with a minus for the other way round: the keys are an allow-list, so that no
    field name from an address reaches the database.
    """

    def __init__(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        columns: Sequence[Column],
        *,
        size: int = _STANDARD_PAGE,
        default: str = "",
    ) -> None:
        self._query = request.GET
        self._columns = columns
        self._sort = self._known(request.GET.get("sort", "")) or default
        self.rows = self._sorted(rows)
        self.page: Page[Model] = Paginator(self.rows, size).get_page(request.GET.get("page"))

    def _known(self, sort: str) -> str:
        keys = {column.key for column in self._columns if column.order}
        return sort if sort.removeprefix("-") in keys else ""

    def _sorted(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        key = self._sort.removeprefix("-")
        order = next((column.order for column in self._columns if column.key == key), "")
        if not order:
            return rows
        back = "-" if self._sort.startswith("-") else ""
        return rows.order_by(f"{back}{order}", f"{back}pk")

    @property
    def here(self) -> str:
        """`?…` of this very page of the list."""
        return self._address(page=self.page.number)

    @property
    def headings(self) -> list[Heading]:
        return [self._heading(column) for column in self._columns]

    def _heading(self, column: Column) -> Heading:
        if not column.order:
            return Heading(column.label, "", "", column.right)
        direction = {column.key: "ascending", f"-{column.key}": "descending"}.get(self._sort, "")
        following = f"-{column.key}" if direction == "ascending" else column.key
        return Heading(column.label, self._address(sort=following), direction, column.right)

    @property
    def previous(self) -> str:
        return self._address(page=self.page.previous_page_number()) if self.page.has_previous() else ""

    @property
    def following(self) -> str:
        return self._address(page=self.page.next_page_number()) if self.page.has_next() else ""

    def _address(self, **changes: object) -> str:
        return address(self._query, **changes)


def address(query: Any, **changes: object) -> str:
    """`?…` with the present parameters and `changes`; a new sort or filter starts on the first page again."""
    values = query.copy()
    if "page" not in changes:
        values.pop("page", None)
    for name, value in changes.items():
        values[name] = str(value)
    return f"?{values.urlencode()}"


def chosen(query: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """The value of a filter when it is one we offer, else the empty string (everything)."""
    value = query.get(name, "")
    return value if value in known else ""


def words(query: Mapping[str, str], name: str, longest: int = 200) -> str:
    """What was typed into a search field, without what PostgreSQL cannot take (NUL, lone surrogates)."""
    value = query.get(name, "").replace("\x00", "").strip()[:longest]
    return value.encode("utf-8", "ignore").decode()


def seen_version(request: HttpRequest) -> int:
    """The version of what the operator saw when they pressed the button; 0 is nobody's."""
    text = request.POST.get("version", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def a_uuid(text: str) -> UUID | None:
    """The UUID that the text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None
