"""Which tests stay together in one of pytest-xdist's processes, and which of these groups begin first.

A file's tests stay together, so that what its fixtures start is started once. (`--dist loadgroup` of pytest-xdist 3.8
does nothing: it writes the group where pytest 9.2 does not read it.)
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

# What these files use is started once for all of them.
_SHARED = ("tests/attacks/servers/", "tests/browser/test_portal")
_SERVICES = re.compile(
    r"tests/attacks/test_(?:bad_input|schemathesis)_\w+\.py::.*?[\[-](portal|instance-postgres|instance)[ \]]"
)
# Each test of these starts what it needs by itself.
_ALONE = (
    "tests/scenarios/test_demo_once.py::",
    "tests/crash/test_billing_crash_portal.py::test_killed_at_every_point_of_a_run",
)
# Longest first: what begins last should be over soon.
_FIRST = (
    "services of portal",
    "tests/crash/test_billing_crash_portal.py::test_killed_at_every_point_of_a_run",
    "tests/scenarios/test_fourteen_months.py",
    "tests/scenarios/test_demo_once.py",
    "tests/crash/test_billing_crash_portal.py",
    "tests/browser/test_portal",
    "tests/crash/test_worker_crash.py",
    "services of instance",
    "tests/attacks/servers/",
    "tests/crash",
    "tests/browser",
    "tests/integration/portal/pages/test_portal_pages.py",
    "tests/integration/portal/revenue/test_month_of_events.py",
    "tests/integration/portal/revenue",
    "tests/integration/portal/subscriptions",
)


def group_of(nodeid: str) -> str:
    """The group whose tests one process runs, one after another."""
    if found := _SERVICES.match(nodeid):
        return f"services of {found[1]}"
    if nodeid.startswith(_ALONE):
        return nodeid
    path = nodeid.partition("::")[0]
    return next((start for start in _SHARED if path.startswith(start)), path)


def rank(nodeid: str) -> int:
    """Groups of a lower rank begin earlier."""
    group = group_of(nodeid)
    return next((at for at, start in enumerate(_FIRST) if group.startswith(start)), len(_FIRST))


class Grouped(LoadScopeScheduling):
    """pytest-xdist's scheduler of scopes, with these groups as its scopes, in the order of collection."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by their number of tests, that would be

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
