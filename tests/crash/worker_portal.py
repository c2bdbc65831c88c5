"""A portal of real processes on a database of its own, with fake instances: what the worker's crash tests walk on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from tests.integration.portal.fleet.fakes import FakeInstance

_START = "from provider_federation.cli import main; main()"


def until(what: Callable[[], Any], seconds: float = 40.0, why: str = "") -> Any:
    """Poll until `what()` is true; its value. These are other processes: there is nothing to wait on but their effects."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {why or what}")


@dataclass
class Portal:
    folder: Path
    server_url: str
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    fakes: list[FakeInstance] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    url: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        name = f"crash_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self.environment = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("PORTAL_", "PROVIDER_", "DJANGO_"))
            },
            "DATABASE_URL": urlsplit(self.server_url)._replace(path=f"/{name}").geturl(),
            "PROVIDER_FEDERATION_ENV": "development",
            "PORTAL_DATA_DIR": str(self.folder),
            "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
            "PORTAL_WORKER_HEARTBEAT_SECONDS": "1",
            "PORTAL_WORKER_DEAD_AFTER_SECONDS": "3",
            "PORTAL_SYNC_SECONDS": "2",
        }

    def start(self) -> None:
        self.cli("migrate")
        self.secrets.append("correct horse battery staple")
        self.cli(
            "user", "add", "ada@example.com", "--role", "admin", "--password-stdin", typed=self.secrets[0]
        )
        self.token = self.cli("token", "make", "tests", "--role", "admin").strip()
        self.secrets.append(self.token)
        server = self.process("serve", "--port", "0")
        self.url = until(lambda: self.line_of(server, "portal on "), why="the portal's address").split(
            "portal on "
        )[1]
        until(self.ready, why="the portal to be ready")

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/health/ready")["ok"]
        except OSError:
            return False

    def cli(self, *arguments: str, typed: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-c", _START, "portal", *arguments],
            env=self.environment,
            input=f"{typed}\n".encode(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def process(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, "portal", *arguments],
                env=self.environment | more,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        process = self.process("worker", "--concurrency", "2")
        until(lambda: self.line_of(process, "worker started"), why="a worker")
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()

    def line_of(self, process: subprocess.Popen[bytes], words: str) -> str:
        return next((line for line in self.log_of(process).splitlines() if words in line), "")

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def grow(self, *names: str) -> list[FakeInstance]:
        new = [FakeInstance(name) for name in names]
        self.fakes.extend(new)
        for fake in new:
            self.secrets.append(fake.secret)
            key = {"id": f"key-{fake.name}", "secret": fake.secret}
            body = {
                "name": fake.name,
                "clientOrgId": f"org_{fake.name}",
                "baseUrl": fake.base_url,
                "key": key,
            }
            assert self.ask("POST", "/api/provider/instances", body)["ok"]
        return new

    def ids(self, fakes: list[FakeInstance]) -> list[str]:
        items = self.ask("GET", "/api/provider/instances?limit=200")["items"]
        by_name = {item["name"]: item["id"] for item in items}
        return [by_name[fake.name] for fake in fakes]

    def run(self, action: str, fakes: list[FakeInstance]) -> str:
        started = self.ask("POST", "/api/provider/fleet", {"action": action, "instanceIds": self.ids(fakes)})
        assert started["ok"], started
        return started["run"]["id"]

    def done(self, run_id: str) -> dict[str, Any]:
        path = f"/api/provider/fleet/{run_id}"
        try:
            return until(
                lambda: (view := self.ask("GET", path))["run"]["status"] == "done" and view, 60, "the run"
            )
        except AssertionError as error:
            logs = "\n".join(self.log_of(process)[-3000:] for process in self.processes[1:])
            raise AssertionError(f"{error}\n{self.ask('GET', path)}\n{logs}") from None

    def stop(self) -> None:
        for fake in self.fakes:
            fake.stop()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(20)

    def end(self, process: subprocess.Popen[bytes]) -> int:
        process.terminate()
        return process.wait(30)
