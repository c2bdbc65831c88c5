"""Child processes: started with a log file each, watched, started again when one dies, stopped by their
process id.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provider_federation.kit.clock import monotonic

_STOP_SECONDS = 8.0
_LOOK_EVERY = 0.25


class PortTaken(Exception):
    """Somebody else listens where a part of the demo wants to."""

    def __init__(self, port: int, wanted_by: str) -> None:
        super().__init__(
            f"Port {port} (for {wanted_by}) is taken. Stop what runs there, or choose others: make demo ARGS='--port 9400'."
        )


class DidNotStart(Exception):
    """A child ended, or did not answer in time; the message holds the end of its log."""


@dataclass
class Child:
    """One process. `ready_url` is asked until it answers 200; None means that running is enough."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready_url: str | None = None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command_line(self.arguments),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo, which then stops its children in order
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def tail(self, lines: int = 15) -> str:
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""
        )


def command_line(arguments: Sequence[str]) -> list[str]:
    """`provider-federation …` under the Python that runs this one, so that no PATH has to be right."""
    return [sys.executable, "-c", "from provider_federation.cli import main; main()", *arguments]


def run_to_end(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    typed: str = "",
    timeout: float = 120,
) -> str:
    """Run one command of ours, with `typed` on its standard input, and return what it printed; DidNotStart
    when it fails.
    """
    done = subprocess.run(
        command_line(arguments),
        env={**os.environ, **environment},
        input=typed + "\n",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise DidNotStart(
            f"{name}: `provider-federation {' '.join(arguments)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def require_free(port: int, wanted_by: str) -> None:
    """Raise PortTaken when nobody could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortTaken(port, wanted_by) from None


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody uses at this moment, all different (each is held until all are found)."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass
class Supervisor:
    """Starts children, waits until they answer, keeps them alive, and stops them last first."""

    say: Callable[[str], None]
    children: list[Child] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self, child: Child) -> Child:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        child.start()
        self.children.append(child)
        return child

    def wait_ready(self, *children: Child, timeout: float = 60.0) -> None:
        deadline = monotonic() + timeout
        for child in children:
            while not _answers(child):
                if not child.alive:
                    raise DidNotStart(f"{child.name} ended while starting:\n{child.tail()}")
                if monotonic() > deadline:
                    raise DidNotStart(
                        f"{child.name} did not answer at {child.ready_url} within {timeout:.0f} s:\n{child.tail()}"
                    )
                self._stopping.wait(0.05)

    def keep_alive(self) -> None:
        """From now on, whatever dies is started again, and said so."""
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            for child in self.children:
                if not child.alive and not self._stopping.is_set():
                    assert child.process is not None
                    self.say(
                        f"{child.name} (pid {child.pid}) ended with {child.process.returncode}; starting it again"
                    )
                    child.start()

    def stop(self) -> None:
        """Ask every child to end, last started first; what does not within a few seconds is killed. By
        pid, never by name.
        """
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        running = [child for child in reversed(self.children) if child.alive]
        for child in running:
            os.kill(child.pid, signal.SIGTERM)
        deadline = monotonic() + _STOP_SECONDS
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self.children.clear()


def _answers(child: Child) -> bool:
    if child.ready_url is None:
        return child.alive
    try:
        with urllib.request.urlopen(child.ready_url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
