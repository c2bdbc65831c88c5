"""Lists: newest first, `limit`, `starting_after`, `ending_before`, and Stripe's range filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid, unknown_reference
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.shape import list_of
from provider_federation.testing.stripe_sim.store import Object

_DEFAULT_LIMIT, _LARGEST_LIMIT = 10, 100


def page(call: Call, rows: Iterable[Object], url: str, noun: str) -> Object:
    """The page of `rows` (filtered and in order) that the cursors ask for, as Stripe's list object."""
    limit = call.params.get("limit", _DEFAULT_LIMIT)
    if not 1 <= limit <= _LARGEST_LIMIT:
        raise invalid(
            "This value must be between 1 and 100 (inclusive).", "limit", "parameter_invalid_integer"
        )
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        raise invalid("You can only specify one of starting_after and ending_before.", "ending_before")
    every = list(rows)
    if after:
        every = every[_position(every, after, "starting_after", noun) + 1 :]
    if before:
        every = every[: _position(every, before, "ending_before", noun)]
        chosen, more = every[-limit:], len(every) > limit
    else:
        chosen, more = every[:limit], len(every) > limit
    return list_of([render(call, row) for row in chosen], url, has_more=more)


def _position(rows: list[Object], identity: str, param: str, noun: str) -> int:
    for position, row in enumerate(rows):
        if row["id"] == identity:
            return position
    raise unknown_reference(noun, identity, param)


def matching(rows: Iterable[Object], **wanted: Any) -> Iterable[Object]:
    """The rows whose fields have these values; a wanted None is no condition."""
    conditions = {name: value for name, value in wanted.items() if value is not None}
    return (row for row in rows if all(row.get(name) == value for name, value in conditions.items()))


def in_range(call: Call, rows: Iterable[Object], name: str) -> Iterable[Object]:
    """The rows that fit the range filter `name`: a number, or an object of gt, gte, lt, lte."""
    wanted = call.params.plain(name)
    if wanted is None:
        return rows
    bounds = wanted if isinstance(wanted, dict) else {"gte": wanted, "lte": wanted}
    return (row for row in rows if row.get(name) is not None and _fits(row[name], bounds))


_TESTS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def _fits(value: int, bounds: dict[str, int]) -> bool:
    return all(_TESTS[name](value, bound) for name, bound in bounds.items())
