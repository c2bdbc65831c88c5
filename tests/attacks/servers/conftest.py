"""The servers, each started once for the test run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.servers.wire import Served
from tests.processes import wait_for_port

from provider_federation.demo.processes import free_ports

ROOT = Path(__file__).parents[3]
SERVERS = {
    "h11": ("uvicorn", 0),
    "httptools": ("uvicorn", 1),
    "granian": ("granian", 0),
    "gunicorn": ("gunicorn", 0),
}
ADAPTERS = [
    *((server, app) for server in ("h11", "httptools", "granian") for app in ("asgi", "fastapi", "django")),
    *(("gunicorn", app) for app in ("wsgi", "flask", "django")),
]


@contextmanager
def _running(program: str) -> Iterator[list[int]]:
    ports = free_ports(2 if program == "uvicorn" else 1)
    command = [sys.executable, "-m", "tests.attacks.servers.serve", program, *map(str, ports)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            for port in ports:
                wait_for_port(process, port)
            yield ports
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def _ports() -> Iterator[Callable[[str], int]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        started: dict[str, list[int]] = {}

        def port(server: str) -> int:
            program, place = SERVERS[server]
            if program not in started:
                started[program] = []  # tried once: what does not come up fails every test at once
                started[program] = stack.enter_context(_running(program))
            if not started[program]:
                pytest.fail(f"{program} did not come up")
            return started[program][place]

        yield port


@pytest.fixture
def at(_ports: Callable[[str], int]) -> Callable[[str, str], Served]:
    """One app on one server, fresh."""

    def serve(server: str, app: str) -> Served:
        served = Served(server, app, _ports(server))
        served.control()
        return served

    return serve


@pytest.fixture(params=ADAPTERS, ids="-".join)
def served(request: Any, at: Callable[[str, str], Served]) -> Served:
    """Each adapter on each server."""
    return at(*request.param)
