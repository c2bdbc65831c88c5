"""Every request against the SDK's own generated parameter types (`stripe.params`).

A `TypedDict` is compiled once into a checker that turns the form's strings into typed values and refuses
what the type does not know: unknown parameters, wrong types, values outside an enum, missing required ones.
The SDK writes its enums as open unions (`Literal["a", "b"] | str`, so that old SDKs survive new values);
here they are closed.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from stripe import StripeObject
from stripe._request_options import RequestOptions

from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.forms import as_list

Checker = Callable[[Any, str], Any]
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LONGEST_TEXT = 5_000
_LARGEST_METADATA = (50, 40, 500)


class Mismatch(Exception):
    """One alternative of a union refused the value; the message is for the caller if no other takes it."""


class Params(dict[str, Any]):
    """Typed parameters that remember which of them a handler read, so that none is silently ignored."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        super().__init__(values)
        self.path = path
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def plain(self, name: str, default: Any = None) -> Any:
        """The whole value below `name` as plain dicts and lists, all of it marked as read."""
        return _plain(self.get(name, default))

    def name_of(self, name: str) -> str:
        """The parameter's full name as Stripe writes it in errors: `items[0][price]`."""
        return f"{self.path}[{name}]" if self.path else name

    def unread(self) -> list[str]:
        """Full names of the parameters that nobody looked at."""
        names: list[str] = []
        for name, value in self.items():
            if name not in self.read:
                names.append(self.name_of(name))
            else:
                names += _unread_below(value)
        return names


def _unread_below(value: Any) -> list[str]:
    if isinstance(value, Params):
        return value.unread()
    if isinstance(value, list):
        return [name for item in value for name in _unread_below(item)]
    return []


def _plain(value: Any) -> Any:
    if isinstance(value, Params):
        value.read.update(value)
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def check_params(params_type: type | None, values: dict[str, Any]) -> Params:
    """The typed parameters, or a 400 `invalid_request_error` that names the parameter."""
    try:
        typed = _params_checker(params_type)(values, "") if params_type else _no_params(values)
    except Mismatch as mismatch:
        message, name = mismatch.args
        raise invalid(message, name) from None
    assert isinstance(typed, Params)
    return typed


def _no_params(values: dict[str, Any]) -> Params:
    for name in values:
        raise invalid(f"Received unknown parameter: {name}", name, "parameter_unknown")
    return Params({})


@cache
def _params_checker(params_type: type) -> Checker:
    hints = _own_hints(params_type)
    required = sorted(set(getattr(params_type, "__required_keys__", ())) & hints.keys())
    fields: dict[str, Checker] = {}

    def check(value: Any, path: str) -> Params:
        if not isinstance(value, dict):
            raise Mismatch("Invalid object", path)
        typed: dict[str, Any] = {}
        for name, item in value.items():
            full = f"{path}[{name}]" if path else name
            if name not in hints:
                raise invalid(f"Received unknown parameter: {full}", full, "parameter_unknown")
            if name not in fields:
                fields[name] = _compile(hints[name])
            typed[name] = fields[name](item, full)
        for name in required:
            if name not in typed:
                full = f"{path}[{name}]" if path else name
                raise invalid(f"Missing required param: {full}.", full, "parameter_missing")
        return Params(typed, path)

    return check


def _own_hints(params_type: type) -> dict[str, Any]:
    """The parameters without the request's options (key, idempotency key, …), which every one of the SDK's
    types inherits.
    """
    options = RequestOptions.__annotations__
    own = {name: hint for name, hint in params_type.__annotations__.items() if name not in options}
    holder = type(params_type.__name__, (), {"__annotations__": own})
    return get_type_hints(holder, globalns=vars(sys.modules[params_type.__module__]))


def _compile(hint: Any) -> Checker:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _union(get_args(hint))
    if origin is Literal:
        return _literal(get_args(hint))
    if origin is list:
        return _list_of(_compile(get_args(hint)[0]))
    if origin is dict:
        return _dict_of(_compile(get_args(hint)[1]))
    if hint in _SCALARS:
        return _SCALARS[hint]
    if isinstance(hint, type) and hasattr(hint, "__required_keys__"):
        return _params_checker(hint)
    raise TypeError(f"the simulator cannot check the parameter type {hint!r}")


def _union(alternatives: tuple[Any, ...]) -> Checker:
    """Closed enums: `str` beside literals other than '' is only there for values of later versions, and is
    dropped.
    """
    literals = [value for part in alternatives if get_origin(part) is Literal for value in get_args(part)]
    rest = [part for part in alternatives if get_origin(part) is not Literal and not _is_untyped_object(part)]
    if any(value for value in literals):
        rest = [part for part in rest if part is not str]
    checkers = [*([_literal(tuple(literals))] if literals else []), *(_compile(part) for part in rest)]

    def check(value: Any, path: str) -> Any:
        failed: Mismatch | None = None
        for checker in checkers:
            try:
                return checker(value, path)
            except Mismatch as mismatch:
                failed = mismatch
        raise failed or Mismatch("Invalid value", path)

    return check


def _is_untyped_object(part: Any) -> bool:
    origin = get_origin(part) or part
    return isinstance(origin, type) and issubclass(origin, StripeObject)


def _literal(values: tuple[Any, ...]) -> Checker:
    allowed = {str(value).lower() if isinstance(value, bool) else value: value for value in values}
    listed = ", ".join(str(value) for value in values if value != "")

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, str) or value not in allowed:
            last = path.rpartition("[")[2].rstrip("]")
            raise Mismatch(f"Invalid {last}: must be one of {listed[:600] or 'empty'}", path)
        return allowed[value]

    return check


def _list_of(item: Checker) -> Checker:
    def check(value: Any, path: str) -> list[Any]:
        items = as_list(value)
        if items is None:
            raise Mismatch("Invalid array", path)
        return [item(part, f"{path}[{position}]") for position, part in enumerate(items)]

    return check


def _dict_of(item: Checker) -> Checker:
    def check(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Mismatch("Invalid hash", path)
        if item is _text:
            _check_metadata(value, path)
            return dict(value)
        return {name: item(part, f"{path}[{name}]") for name, part in value.items()}

    return check


def _check_metadata(value: dict[str, Any], path: str) -> None:
    most, longest_name, longest_value = _LARGEST_METADATA
    if len(value) > most:
        raise invalid(f"You can have at most {most} metadata keys.", path)
    for name, text in value.items():
        if not isinstance(text, str):
            raise invalid("Metadata values can only be text.", f"{path}[{name}]")
        if len(name) > longest_name or len(text) > longest_value:
            limits = f"{longest_name} characters for a key, {longest_value} for a value"
            raise invalid(f"Metadata is too long: at most {limits}.", f"{path}[{name}]")


def _integer(value: Any, path: str) -> int:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise Mismatch(f"Invalid integer: {_shown(value)}", path)
    return int(value)


def _boolean(value: Any, path: str) -> bool:
    if value not in {"true", "false"}:
        raise Mismatch(f"Invalid boolean: {_shown(value)}", path)
    return bool(value == "true")


def _decimal(value: Any, path: str) -> Decimal:
    try:
        number = Decimal(value) if isinstance(value, str) and value.isascii() and len(value) <= 40 else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise Mismatch(f"Invalid decimal: {_shown(value)}", path)
    return number


def _float(value: Any, path: str) -> float:
    return float(_decimal(value, path))


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"Invalid string: {_shown(value)}", path)
    if not value:
        raise invalid(
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a "
            f"parameter; however '{path}' cannot be unset.",
            path,
            "parameter_invalid_empty",
        )
    if len(value) > _LONGEST_TEXT:
        raise invalid(
            f"Invalid string: at most {_LONGEST_TEXT} characters.", path, "parameter_invalid_string"
        )
    return value


def _shown(value: Any) -> str:
    return value[:60] if isinstance(value, str) else "an object or a list"


_SCALARS: dict[Any, Checker] = {
    int: _integer,
    bool: _boolean,
    float: _float,
    Decimal: _decimal,
    str: _text,
}
