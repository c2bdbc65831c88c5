"""Stripe's form encoding: `items[0][price]=x&expand[]=y` to nested dicts and lists of strings."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from provider_federation.testing.stripe_sim.errors import invalid

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_DEEPEST = 12
_MOST_FIELDS = 20_000


def decode_form(encoded: str) -> dict[str, Any]:
    """Nested dicts of strings; a list comes out as a dict of its positions (`as_list` turns it). 400 on bad
    grammar.
    """
    try:
        pairs = parse_qsl(
            encoded,
            keep_blank_values=True,
            strict_parsing=bool(encoded),
            max_num_fields=_MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise invalid("The request's body or query could not be read as a form.") from None
    tree: dict[str, Any] = {}
    for name, value in pairs:
        _put(tree, _path(name), value, name)
    return tree


def _path(name: str) -> list[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {name[:100]}", name[:100], "parameter_unknown")
    path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
    if len(path) > _DEEPEST:
        raise invalid("A parameter is nested too deeply.", name[:100])
    return path


def _put(tree: dict[str, Any], path: list[str], value: str, name: str) -> None:
    for part in path[:-1]:
        step = part or str(len(tree))
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise invalid(
                f"Invalid parameter: {name[:100]} is given both as a value and as an object.", name[:100]
            )
    last = path[-1] or str(len(tree))
    if last in tree:
        raise invalid(f"Invalid parameter: {name[:100]} is given twice.", name[:100])
    tree[last] = value


def as_list(value: Any) -> list[Any] | None:
    """The list that a decoded dict of positions stands for; None when it is not one."""
    if not isinstance(value, dict) or not all(key.isascii() and key.isdigit() for key in value):
        return None
    return [value[key] for key in sorted(value, key=int)]
