"""docs/reasons.md names every code that a refusal of ours can carry."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from provider_federation.protocol.refusals import STATUS_BY_CODE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "src" / "provider_federation" / room for room in ("portal", "instance", "kit", "money")]
# Said by the command line or to our own code, never to a caller over HTTP.
INTERNAL = {"bad_method", "bad_target"}


def documented() -> set[str]:
    return set(re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs" / "reasons.md").read_text(), re.MULTILINE))


def said() -> Iterator[str]:
    """The code of every `Problem(status, "code", …)`, and of every class of errors that has one."""
    for path in (path for room in SOURCES for path in room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "Problem"
                and len(node.args) > 1
            ):
                yield from (
                    part.value
                    for part in ast.walk(node.args[1])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )
            if isinstance(node, ast.ClassDef) and path.parent.name == "money":
                yield from _class_code(node)


def _class_code(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if (
            isinstance(line, ast.Assign)
            and getattr(line.targets[0], "id", "") == "code"
            and isinstance(line.value, ast.Constant)
        ):
            yield str(line.value.value)


def test_every_code_is_documented() -> None:
    codes = set(said()) | set(STATUS_BY_CODE) | {"method_not_allowed", "internal_error", "not_ready"}
    assert not codes - INTERNAL - documented()
