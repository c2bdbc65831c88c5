"""Every answer against the SDK's classes, and an SDK client that checks all it receives."""

from __future__ import annotations

import importlib
import json
import re
from decimal import Decimal, InvalidOperation
from types import NoneType, UnionType
from typing import Any, ClassVar, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe._http_client import RequestsClient
from stripe._object_classes import OBJECT_CLASSES

from provider_federation.testing.stripe_sim.routes import find_route

_SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float)}


def complaints(value: Any, where: str = "$") -> list[str]:
    """What the SDK's class for this object would miss in it, or would not know."""
    if isinstance(value, list):
        return [line for number, item in enumerate(value) for line in complaints(item, f"{where}[{number}]")]
    if not isinstance(value, dict):
        return []
    kind = value.get("object")
    if value.get("deleted") is True or kind == "list":
        rows = value.get("data", []) if kind == "list" else []
        lacking = (
            []
            if kind != "list"
            else [f"{where}: no {name}" for name in ("has_more", "url") if name not in value]
        )
        return lacking + complaints(rows, f"{where}.data")
    if kind not in OBJECT_CLASSES:
        return [f"{where}: no SDK class for object={kind!r}"]
    module, name = OBJECT_CLASSES[kind]
    return against(getattr(importlib.import_module(module), name), value, where)


def against(shape: type, value: dict[str, Any], where: str) -> list[str]:
    hints = {name: hint for name, hint in shape.__annotations__.items() if get_origin(hint) is not ClassVar}
    found = [f"{where}: {name} is not a field of {shape.__name__}" for name in value if name not in hints]
    for name, hint in hints.items():
        optional = get_origin(hint) in {Union, UnionType} and NoneType in get_args(hint)
        if name not in value:
            found += [] if optional else [f"{where}: lacks {name}"]
        elif value[name] is None:
            found += [] if optional else [f"{where}.{name} is null"]
        else:
            found += _fits(hint, value[name], f"{where}.{name}", shape)
    return found


def _fits(hint: Any, value: Any, where: str, shape: type) -> list[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, ForwardRef | str):
        return complaints(value, where) if isinstance(value, dict) else [f"{where}: {value!r} is no object"]
    if origin in {Union, UnionType}:
        return _any_of(arguments, value, where, shape)
    if origin is Literal:
        return [] if value in arguments else [f"{where}: {value!r} is not one of {arguments}"[:200]]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [
            line for n, item in enumerate(value) for line in _fits(arguments[0], item, f"{where}[{n}]", shape)
        ]
    if isinstance(origin, type) and origin.__name__ == "ListObject":
        return (
            complaints(value, where)
            if isinstance(value, dict) and value.get("object") == "list"
            else [f"{where}: no list object"]
        )
    if isinstance(origin, type) and origin.__name__ == "UntypedStripeObject":
        known = isinstance(value, dict) and value.get("object") in OBJECT_CLASSES  # what an event carries
        return (
            complaints(value, where)
            if known
            else []
            if isinstance(value, dict)
            else [f"{where}: {value!r} is no object"]
        )
    if hint is bool:
        return [] if isinstance(value, bool) else [f"{where}: {value!r} is no bool"]
    if hint is Decimal:
        return _decimal(value, where)
    if hint in _SCALARS:
        good = isinstance(value, _SCALARS[hint]) and not isinstance(value, bool)
        return [] if good else [f"{where}: {value!r} is no {hint.__name__}"]
    if isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        return (
            complaints(value, where) if isinstance(value.get("object"), str) else against(hint, value, where)
        )
    return [f"{where}: cannot judge {hint!r}"]


def _any_of(alternatives: tuple[Any, ...], value: Any, where: str, shape: type) -> list[str]:
    # the SDK's enums are open (`Literal[…] | str`); ours may only say what this version knows
    literals = [part for part in alternatives if get_origin(part) is Literal]
    parts = [part for part in alternatives if part is not NoneType and not (literals and part is str)]
    results = [_fits(part, value, where, shape) for part in parts]
    return [] if any(not result for result in results) else min(results, key=len)


def _decimal(value: Any, where: str) -> list[str]:
    try:
        assert isinstance(value, str)
        Decimal(value)
    except (AssertionError, InvalidOperation):
        return [f"{where}: {value!r} is no decimal"]
    return []


class CheckingClient(RequestsClient):
    """The SDK's own transport; each answer is held against the SDK's classes, each route that was driven is noted."""

    driven: set[tuple[str, str]] = set()

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        content, status, answered = super().request(method, url, headers, post_data)
        path = re.sub(r"^https?://[^/]+", "", url).partition("?")[0]
        route = find_route(method.upper(), path)
        if status == 200 and route:
            self.driven.add((route[0].method, route[0].pattern))
            wrong = complaints(json.loads(content))
            assert not wrong, f"{method} {path}: " + "; ".join(wrong[:10])
        assert answered["request-id"].startswith("req_")
        return content, status, answered


def client(url: str, key: str, **more: Any) -> stripe.StripeClient:
    """The official client, pointed at a simulator."""
    return stripe.StripeClient(key, base_addresses={"api": url}, http_client=CheckingClient(), **more)
