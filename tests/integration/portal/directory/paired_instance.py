"""A real instance in a process of its own, for the portal to pair with."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provider_federation.kit import clock

SECRET = "Hn4sV9qT2wL6yB8dK1fR"


@dataclass
class RealInstance:
    """`run` is a command of its CLI."""

    port: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str) -> str:
        command = [
            sys.executable,
            "-c",
            "from provider_federation.cli import main; main()",
            "instance",
            *arguments,
        ]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def code(self) -> str:
        return self.run("invite")


@contextlib.contextmanager
def real_instance(folder: Path, **more: str) -> Iterator[RealInstance]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATABASE", "DJANGO", "PORTAL"))
    }
    environment = {
        **ours,
        "PROVIDER_FEDERATION_ENV": "development",
        "INSTANCE_DATA_DIR": str(folder),
        "INSTANCE_NAME": "acme",
        "INSTANCE_ORG_ID": "org-acme",
        "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_FEDERATION_SIG_SHA256": "1",
        "PROVIDER_KEYS_JSON": f'{{"key-1": "{SECRET}"}}',
        **more,
    }
    instance = RealInstance(port, environment)
    instance.run("migrate")
    command = [sys.executable, "-c", "from provider_federation.cli import main; main()", "instance", "serve"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        _wait(f"{instance.url}/health/live", process)
        yield instance
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline, pause = clock.monotonic() + 60, threading.Event()
    while clock.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        pause.wait(0.05)
    raise AssertionError(f"{url} did not come up")
