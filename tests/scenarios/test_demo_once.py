"""`provider-federation demo --once`, as a person would start it: every figure agrees, also when the worker is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LONGEST = 240


@contextmanager
def the_walk(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-c",
        "from provider_federation.cli import main; main()",
        "demo",
        "--once",
        *arguments,
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PORTAL_", "INSTANCE_", "DATABASE_URL"))
    }
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # the demo then stops its own children
            process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


def _read_until(process: subprocess.Popen[str], pattern: str, lines: list[str]) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if found := re.search(pattern, line):
            return found
    pytest.fail(f"{pattern!r} never came:\n{''.join(lines)}")


def test_every_figure_of_the_walk_agrees() -> None:
    lines: list[str] = []
    with the_walk() as process:
        found = _read_until(process, r"(\d+) figures compared, all agree", lines)
        assert int(found[1]) >= 30
        assert process.wait(timeout=LONGEST) == 0


@pytest.mark.parametrize("moment", ["send → Stripe", "approved by another"])
def test_the_walk_survives_a_killed_worker(moment: str) -> None:
    """`kill -9` while invoices are on their way to customers, and while usage is on its way to the clients' bills."""
    lines: list[str] = []
    with the_walk() as process:
        worker = int(_read_until(process, r"worker pid (\d+)", lines)[1])
        _read_until(process, re.escape(moment), lines)
        os.kill(worker, signal.SIGKILL)
        _read_until(process, r"worker \(pid \d+\) ended with -9; starting it again", lines)
        _read_until(process, r"figures compared, all agree", lines)
        assert process.wait(timeout=LONGEST) == 0
