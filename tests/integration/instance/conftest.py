"""The instance under test: its database in this process, and one real server process on that same database."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn
from django.conf import settings
from django.db import connection

from provider_federation.instance.federation.keyring import PAIR
from provider_federation.instance.federation.replay import replay_store
from provider_federation.instance.leads.models import Customer, Lead
from provider_federation.instance.leads.services import add_customer, add_lead, convert_lead
from provider_federation.kit import clock
from provider_federation.protocol import Key, Request, sign
from provider_federation.stripe_account import StripeAccount
from provider_federation.testing.stripe_sim.app import StripeSim
from provider_federation.testing.stripe_sim.simulator import Hook, Simulator

_SPREAD = itertools.count()
WEBHOOK_SECRET = "whsec_" + "instance0tests0" * 2
STRIPE_KEY = "sk_test_instance"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    deadline = clock.monotonic() + seconds
    pause = threading.Event()
    while clock.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pause.wait(0.05)
    raise AssertionError(f"{url} did not come up:\n{log.read_text()}")


def database_url() -> str:
    """The test's own database, as another process names it."""
    chosen = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{chosen['NAME']}"
    query = {name: value for name, value in (("host", chosen["HOST"]), ("port", chosen["PORT"])) if value}
    return f"postgresql://{chosen['USER']}@/{chosen['NAME']}?{urlencode(query)}"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from provider_federation.cli import main; main()", *arguments]


@dataclass
class Server:
    """A served instance, and signed calls to it."""

    port: int
    keys: dict[str, Key]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command("instance", "serve", "--port", str(self.port)),
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        wait_for(f"{self.url}/health/live", self.process, self.log)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.client.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def headers(
        self,
        method: str,
        target: str,
        body: bytes,
        *,
        key: str = "portal",
        org: str | None = None,
        scope: str | None = None,
    ) -> dict[str, str]:
        chosen = self.keys[key]
        request = Request(method, target, f"127.0.0.1:{self.port}", [], body)
        # The legacy scheme tells two equal writes apart by their millisecond only.
        now = clock.timestamp() + next(_SPREAD) % 100_000 / 1000
        return dict(sign(request, chosen, now=now, scope=scope or chosen.scope, instance="acme", org=org))

    def call(
        self,
        method: str,
        target: str,
        json_body: Any = None,
        *,
        raw: bytes | None = None,
        key: str = "portal",
        headers: dict[str, str] | None = None,
        org: str | None = None,
    ) -> httpx.Response:
        """A signed call."""
        body = raw if raw is not None else b"" if json_body is None else json.dumps(json_body).encode()
        sent = {**({"Content-Type": "application/json"} if body else {}), **(headers or {})}
        signed = self.headers(method, target, body, key=key, org=org)
        return self.client.request(method, self.url + target, content=body, headers={**sent, **signed})

    def get(self, target: str, **more: Any) -> httpx.Response:
        return self.call("GET", target, **more)

    def post(self, target: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.call("POST", target, body, **more)

    def anonymous(self, method: str, target: str, **more: Any) -> httpx.Response:
        return self.client.request(method, self.url + target, **more)


def make_server(folder: Path, **environment: str) -> Server:
    """A server on this test process's database; not yet started."""
    keys = {
        "portal": Key("portal", "sha256", secret=secrets.token_urlsafe(32).encode()),
        "reader": Key("reader", "sha256", secret=secrets.token_urlsafe(32).encode(), scope="read"),
    }
    told = {
        name: {"secret": key.secret.decode(), "algorithm": "sha256", "scope": key.scope}
        for name, key in keys.items()
    }
    full = {
        **os.environ,
        "PROVIDER_FEDERATION_ENV": "development",
        "DATABASE_URL": database_url(),
        "INSTANCE_DATA_DIR": str(settings.DATA_DIR),
        "INSTANCE_NAME": "acme",
        "INSTANCE_ORG_ID": "org_acme",
        "INSTANCE_TITLE": "Acme",
        "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_FEDERATION_SIG_SHA256": "1",
        "PROVIDER_KEYS_JSON": json.dumps(told),
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_API_BASE": "http://127.0.0.1:9",  # nobody there, unless a test says otherwise
        "PYTHONWARNINGS": "default",
        **environment,
    }
    return Server(free_port(), keys, folder / "server.log", full)


class StripeDouble:
    """The simulator in a thread; `kill_at(number, before=…)` kills a process around the n-th write from then on."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._app = StripeSim(Simulator(base_url=self.url))
        config = uvicorn.Config(
            self, port=self.port, log_level="warning", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._writes, self._kill_at, self._before, self.victim = 0, 0, False, 0

    def start(self) -> None:
        self._thread.start()
        deadline = clock.monotonic() + 60
        while not self._server.started:
            assert clock.monotonic() < deadline
            threading.Event().wait(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def kill_at(self, number: int, *, before: bool) -> None:
        self._writes, self._kill_at, self._before = 0, number, before

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: the simulator, with death in front of or behind a write."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        self._writes += 1
        due = self._writes == self._kill_at
        if due and self._before:
            os.kill(self.victim, signal.SIGKILL)
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_unless_dead(message: Any) -> None:
            if due and message["type"] == "http.response.start":
                os.kill(self.victim, signal.SIGKILL)  # Stripe has done it, and nobody is there to hear
            await send(message)

        await self._app(scope, receive, send_unless_dead)

    def control(self, lever: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.url}/_sim{lever}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wire(self, url: str, secret: str) -> None:
        """From now on, an empty account whose events go to `url`."""
        self._app.simulator.hooks = (Hook(STRIPE_KEY, url, secret),)
        self.control("/reset", key=STRIPE_KEY)

    def unwire(self) -> None:
        self._app.simulator.hooks = ()
        self.control("/reset", key=STRIPE_KEY)

    def clear_faults(self) -> None:
        httpx.delete(f"{self.url}/_sim/faults", timeout=30)

    @property
    def account(self) -> StripeAccount:
        return StripeAccount(STRIPE_KEY, self.url)


@pytest.fixture(scope="session", autouse=True)
def _own_places(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """This process and its server share a replay store and a ratchet, and with no other test process."""
    folder = tmp_path_factory.mktemp("instance-data")
    for file in Path(settings.DATA_DIR).glob("*"):
        if file.is_file() and not file.name.startswith("replay"):
            shutil.copy(file, folder)
    settings.DATA_DIR = folder
    if connection.vendor == "postgresql":
        settings.DATABASE_URL = database_url()


@pytest.fixture(scope="session")
def _stripe() -> Iterator[StripeDouble]:
    double = StripeDouble()
    double.start()
    try:
        yield double
    finally:
        double.stop()


@pytest.fixture
def stripe(_stripe: StripeDouble, settings: Any) -> Iterator[StripeDouble]:
    """The client's Stripe account: this process's settings lead to it as the server's do."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = STRIPE_KEY, _stripe.url
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    _stripe.kill_at(0, before=False)
    yield _stripe
    _stripe.clear_faults()


@pytest.fixture(scope="session")
def _server(
    _own_places: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
    _stripe: StripeDouble,
) -> Iterator[Server]:
    with django_db_blocker.unblock():
        server = make_server(tmp_path_factory.mktemp("instance"), STRIPE_API_BASE=_stripe.url)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(_server: Server, transactional_db: None) -> Server:
    """The served instance, its database empty, and no portal that has spoken v2: the replay store outlives the tests'
    database.
    """
    replay_store().reset(PAIR)
    return _server


@pytest.fixture
def customer(db: None) -> Customer:
    return add_customer("Harbor Works", "billing@harbor.example")


MakeLead = Callable[..., Lead]


@pytest.fixture
def make_lead(customer: Customer) -> MakeLead:
    """A converted, billable lead, unless told otherwise."""

    def make(
        *,
        days_ago: float = 1,
        price_cents: int | None = 10_000,
        to: Customer | None = customer,
        at: datetime | None = None,
        converted: bool = True,
        **more: Any,
    ) -> Lead:
        moment = at or clock.now() - timedelta(days=days_ago)
        lead = add_lead("Ada Abbott", to, price_cents=price_cents, at=moment - timedelta(hours=1), **more)
        return convert_lead(lead.pk, at=moment) if converted else lead

    return make


@pytest.fixture
def clock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Stand this process's clock still: `clock_file(datetime(...))`."""
    path = tmp_path / "clock.json"

    def stand(at: datetime) -> None:
        clock.set_clock(path, at=at)

    stand(datetime(2026, 3, 10, 12, tzinfo=UTC))
    monkeypatch.setenv(clock.CLOCK_VARIABLE, str(path))
    return stand
