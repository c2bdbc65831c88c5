"""The route table: `@route("POST", "/v1/customers", CustomerCreateParams)` above a handler puts it here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.store import Object

Handler = Callable[[Call], Object]


@dataclass(frozen=True)
class Route:
    """One method on one path. `{}` in the pattern stands for one segment, which the handler finds in
    `call.path`.
    """

    method: str
    pattern: str
    params: type | None
    handler: Handler

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.pattern.strip("/").split("/"))


ROUTES: list[Route] = []
_BY_SHAPE: dict[tuple[str, int], list[Route]] = {}


def route(method: str, pattern: str, params: type | None = None) -> Callable[[Handler], Handler]:
    """Register a handler; `params` is the SDK's TypedDict, or None for a request without any."""

    def register(handler: Handler) -> Handler:
        entry = Route(method, pattern, params, handler)
        ROUTES.append(entry)
        _BY_SHAPE.setdefault((method, len(entry.parts)), []).append(entry)
        return handler

    return register


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """The route and the values of its `{}` segments. A literal segment wins over `{}`."""
    parts = tuple(path.strip("/").split("/"))
    best: tuple[Route, tuple[str, ...]] | None = None
    for entry in _BY_SHAPE.get((method, len(parts)), ()):
        if all(mine in {"{}", theirs} for mine, theirs in zip(entry.parts, parts, strict=True)):
            values = tuple(theirs for mine, theirs in zip(entry.parts, parts, strict=True) if mine == "{}")
            if best is None or len(values) < len(best[1]):
                best = (entry, values)
    return best


def known_path(path: str) -> bool:
    """Whether any method is served on this path."""
    return any(find_route(method, path) for method in ("GET", "POST", "DELETE"))
