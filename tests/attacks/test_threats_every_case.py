"""Every case of the areas A (protocol), C (webhooks) and D (billing) has a test that carries its number, and every
departure is written down.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "threats.json").read_text())}
NUMBERED = re.compile(r"test_threats?_((?:\d{3}_)+)")
# What docs/security.md says about them is held against the tests here.
DEPARTURES = {
    7,
    14,
    21,
    33,
    39,
    51,
    54,
    58,
    61,
    62,
    71,
    78,
    79,
    81,
    82,
    93,
    94,
    149,
    158,
    165,
    166,
    167,
    169,
    170,
    173,
}


def _numbers() -> set[int]:
    found: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                match := NUMBERED.match(node.name)
            ):
                found.update(int(number) for number in match[1].split("_") if number)
    return found


def test_every_case_has_a_test_that_carries_its_number():
    missing = sorted(set(CASES) - _numbers())
    assert not missing, [f"{number}: {CASES[number]['case']}" for number in missing]


def test_every_departure_is_in_the_table():
    page = (ROOT / "docs" / "security.md").read_text()
    in_table = {int(number) for number in re.findall(r"^\| (\d+): ", page, re.MULTILINE)}
    assert in_table & set(CASES) == DEPARTURES
