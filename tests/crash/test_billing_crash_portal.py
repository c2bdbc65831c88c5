"""A billing run whose worker is killed before and after every call to Stripe and every commit, fights another one, or
meets a Stripe that fails: afterwards each client has exactly one invoice with the right lines, and the ledger says so.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from tests.crash.billing_forks import ForkServer
from tests.integration.portal.revenue.usage_instance import UsageInstance

from provider_federation.kit import clock
from provider_federation.testing.stripe_sim.server import start_in_thread

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = "sk_test_billing_crash"
LEADS, AI, TOTAL = 2, "3.456", 20_346


@dataclass
class World:
    """One portal's database, two clients with their instances, and a Stripe simulator, in this process."""

    folder: Path
    forks: ForkServer
    sim: str
    database: str
    clients: dict[str, UsageInstance] = field(default_factory=dict)
    year: int = 1971
    month: int = 0

    def grow(self, name: str) -> str:
        self.clients[name] = UsageInstance(f"org_{name}", page=50)
        self.forks.call("enrol", name=name, org=f"org_{name}", url=self.clients[name].url)
        return name

    def months(self, count: int, *names: str) -> list[str]:
        """So many months that nobody was billed for, with usage for each of these clients."""
        labels = []
        for _ in range(count):
            self.month += 1
            labels.append(f"{self.year + (self.month - 1) // 12}-{(self.month - 1) % 12 + 1:02d}")
        for name in names:
            for label in labels:
                self.clients[name].uses(label, LEADS, AI)
        return labels

    def plan(self, count: int, *names: str) -> dict[str, str]:
        labels = self.months(count, *names)
        self.forks.call("only", names=list(names))
        return self.forks.call("plan", months=labels)["result"]

    def put_aside(self) -> None:
        """What a dead worker's run left in the queue waits until its successors come."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(
                "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 day' WHERE status = 'todo'"
            )

    def take_over(self, runs: list[str]) -> None:
        self.forks.call("click_again", runs=runs)
        self.forks.call("take_over")

    def control(self, lever: str, **body: object) -> None:
        answer = requests.post(f"{self.sim}/_sim{lever}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text

    def later(self, hours: int) -> None:
        clock.set_clock(self.folder / "clock.json", at=clock.now() + timedelta(hours=hours))

    def invoices(self) -> list[dict]:
        found, after = [], ""
        while True:
            query = f"?limit=100{after}"
            page = requests.get(
                f"{self.sim}/v1/invoices{query}", headers={"Authorization": f"Bearer {KEY}"}, timeout=20
            ).json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = f"&starting_after={page['data'][-1]['id']}"

    def check(self, runs: list[str], *names: str) -> None:
        """Exactly one invoice each, with the right lines, open and sent; the ledger agrees; nothing in between."""
        there = self.invoices()
        by_order = Counter(one["metadata"]["pf_key"] for one in there)
        by_id = {one["id"]: one for one in there}
        rows = self.forks.call("state", runs=runs)["result"]
        assert len(rows) == len(runs) * len(names)
        for row in rows:
            assert (row["status"], row["state"], row["invoice"]) == ("done", "billed", "open"), row
            assert (row["total"], row["leads"], row["rows"]) == (TOTAL, LEADS, 1), row
            assert by_order[row["order"]] == 1, (row, by_order[row["order"]])
            invoice = by_id[row["stripe"]]
            assert (invoice["status"], invoice["total"]) == ("open", TOTAL), (row, invoice)
            assert sorted(line["amount"] for line in invoice["lines"]["data"]) == [346, 20_000], row
        assert not [one for one in there if one["status"] == "draft"], "a draft is left over"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = Path(tmp_path_factory.mktemp("billing"))
    os.environ[clock.CLOCK_VARIABLE] = str(folder / "clock.json")
    clock.set_clock(folder / "clock.json", at=START)
    name = f"billing_{uuid.uuid4().hex[:12]}"
    server = os.environ["TEST_POSTGRES_URL"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    sim = start_in_thread()
    environment = {
        **{
            k: v for k, v in os.environ.items() if not k.startswith(("PORTAL_", "PROVIDER_STRIPE", "DJANGO_"))
        },
        "PYTHONWARNINGS": "default",
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
        "DATABASE_URL": urlsplit(server)._replace(path=f"/{name}").geturl(),
        "PROVIDER_FEDERATION_ENV": "development",
        "PORTAL_DATA_DIR": str(folder / "portal"),
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PORTAL_BILLING_LATE_MONTHS": "0",
        "PROVIDER_STRIPE_SECRET_KEY": KEY,
        "STRIPE_API_BASE": sim.url,
    }
    forks = ForkServer("tests.crash.billing_portal_work", environment, folder)
    made = World(folder, forks, sim.url, environment["DATABASE_URL"])
    try:
        forks.call("migrate")
        for client in ("ada", "bea"):
            made.grow(client)
        [first] = made.plan(1, "ada", "bea").values()
        forks.call("execute", run=first)  # from here on both are customers of the Stripe account
        made.check([first], "ada", "bea")
        yield made
    finally:
        forks.close()
        sim.stop()
        for usage in made.clients.values():
            usage.stop()
        del os.environ[clock.CLOCK_VARIABLE]


def points_of_a_run(world: World, *names: str) -> int:
    [run] = world.plan(1, *names).values()
    return len(world.forks.call("execute", run=run)["points"])


def killed_at(world: World, run: str, point: int) -> None:
    child = world.forks.start("execute", run=run, fuse=point)
    status = world.forks.wait(child)
    assert status == -signal.SIGKILL, (point, status, world.forks.log())
    world.put_aside()


def test_killed_at_every_point_of_a_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    count = points_of_a_run(world, "ada", "bea")
    runs = list(world.plan(count, "ada", "bea").values())
    odd, even = runs[::2], runs[1::2]
    for point, run in zip(range(1, count + 1, 2), odd, strict=True):
        killed_at(world, run, point)
    world.take_over(odd)
    world.check(odd, "ada", "bea")
    for point, run in zip(range(2, count + 1, 2), even, strict=True):
        killed_at(world, run, point)
    world.later(25)
    world.control("/faults", kind="forget_idempotency", key=KEY)
    world.take_over(even)
    world.check(even, "ada", "bea")
    with capsys.disabled():
        print(f"\nbilling run of two clients: killed at {count} points, half of them taken over a day later")
    assert count > 30


def test_a_client_that_is_no_customer_yet(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its customer is looked for and made first; from the first point until the invoice exists."""
    [run] = world.plan(1, world.grow("new0")).values()
    points = world.forks.call("execute", run=run)["points"]
    first = next(number for number, name in enumerate(points) if name == "before Stripe call") + 2
    last = [number for number, name in enumerate(points) if name == "after Stripe call"][
        3
    ]  # two lists, two makes
    names = [world.grow(f"new{point}") for point in range(first, last + 2)]
    months = dict(zip(names, world.months(len(names), *names), strict=True))
    runs = world.forks.call("plan_each", months=months)["result"]
    for point, run in zip(range(first, last + 2), runs, strict=True):
        killed_at(world, run, point)
    world.take_over(runs)
    world.check(runs, "a client of each")
    with capsys.disabled():
        print(f"\nfirst invoice of a client: killed at {len(runs)} points more")


@pytest.mark.parametrize("kind", ["rate_limit", "error_before", "error_after", "drop_before", "drop_after"])
def test_stripe_fails_at_each_call(world: World, kind: str) -> None:
    """Once each, and so long that the job has to come back."""
    paths = ("/v1/invoices", "/v1/invoices/*/add_lines", "/v1/invoices/*/finalize", "/v1/invoices/*/send")
    runs = list(world.plan(len(paths), "ada", "bea").values())
    for number, (run, path) in enumerate(zip(runs, paths, strict=True)):
        count = 1 if number % 2 or kind == "rate_limit" else 5
        world.control("/faults", kind=kind, path=path, method="POST", key=KEY, count=count)
        world.forks.call("execute", run=run)
        world.forks.call("take_over")
        requests.delete(f"{world.sim}/_sim/faults", timeout=10)
    world.check(runs, "ada", "bea")


def test_two_workers_fight(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One is frozen at some point, another takes its jobs over and finishes, then the first wakes up and goes on."""
    count = points_of_a_run(world, "ada", "bea")
    chosen = list(range(8, count, 7))
    runs = list(world.plan(len(chosen), "ada", "bea").values())
    for point, run in zip(chosen, runs, strict=True):
        frozen = world.forks.start("execute", run=run, fuse=point, stop=True)
        assert world.forks.wait(frozen, stopped=True) == 0
        world.forks.call("take_over")
        os.kill(frozen, signal.SIGCONT)
        assert world.forks.wait(frozen) == 0, (point, world.forks.log())
    world.forks.call("take_over")
    world.check(runs, "ada", "bea")
    with capsys.disabled():
        print(f"\ntwo workers on one run: fought at {len(chosen)} points")


def test_threat_162_two_workers_at_once_and_one_is_killed(world: World) -> None:
    """Both awake, on all the jobs of several runs, and one of them is killed on its way."""
    runs = list(world.plan(6, "ada", "bea").values())
    world.forks.call("click_again", runs=runs)
    first = world.forks.start("work")
    second = world.forks.start("work", fuse=40)
    assert world.forks.wait(first) == 0
    world.forks.wait(second)
    world.forks.call("take_over")
    world.check(runs, "ada", "bea")
