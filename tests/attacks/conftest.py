"""Real servers for the tests of bad input, started once for each worker of the test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.attacks.bad_input_world import Service, running


@pytest.fixture(scope="session")
def _services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as stack:
        started: dict[str, Service | None] = {}

        def get(name: str) -> Service:
            if name not in started:
                started[name] = None  # tried once: what does not come up fails every other test at once
                folder = tmp_path_factory.mktemp(name)
                started[name] = stack.enter_context(running(name, folder, os.environ["TEST_POSTGRES_URL"]))
            return started[name] or pytest.fail(f"{name} did not come up")

        yield get


@pytest.fixture
def service(request: pytest.FixtureRequest, _services: Any) -> Service:
    """The running side that the test's parameter names: portal, instance or instance-postgres."""
    found: Service = _services(request.param)
    return found
