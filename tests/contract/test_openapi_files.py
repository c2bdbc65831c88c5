"""The committed OpenAPI files are what the code serves, and say what every route answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("portal", "instance")
METHODS = {"get", "put", "post", "delete", "patch"}


def committed(side: str) -> str:
    return (ROOT / "docs" / "openapi" / f"{side}.json").read_text()


def operations(side: str) -> list[tuple[str, str, dict[str, Any]]]:
    paths = json.loads(committed(side))["paths"]
    return [(method, path, operation) for path, found in paths.items() for method, operation in found.items()]


@pytest.mark.parametrize("side", SIDES)
def test_the_file_is_what_the_code_says(side: str) -> None:
    spec = importlib.util.spec_from_file_location("openapi_tool", ROOT / "tools" / "openapi.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert committed(side) == tool.document(side), "run: python tools/openapi.py"


@pytest.mark.parametrize("side", SIDES)
def test_every_operation_declares_its_refusals(side: str) -> None:
    failure = {"$ref": "#/components/schemas/Failure"}
    for method, path, operation in operations(side):
        assert method in METHODS
        for status in ("4XX", "5XX"):
            assert operation["responses"][status]["content"]["application/json"]["schema"] == failure, path
        assert any(status.startswith("2") for status in operation["responses"]), path


@pytest.mark.parametrize("side", SIDES)
def test_no_request_schema_takes_unknown_fields(side: str) -> None:
    schemas = json.loads(committed(side))["components"]["schemas"]
    for _method, path, operation in operations(side):
        for name in _request_schemas(operation, schemas):
            assert schemas[name].get("additionalProperties") is False, f"{path}: {name}"


def _request_schemas(operation: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """Every object schema that a request body can hold, by name."""
    found: set[str] = set()
    waiting = [operation.get("requestBody", {})]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting.extend(part.values())
    return {name for name in found if schemas[name].get("type") == "object"}
