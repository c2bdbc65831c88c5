"""An instance's hosted invoice whose process is killed before and after every call to Stripe and every commit: the
customer gets exactly one invoice with the right lines, and the instance knows it.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from tests.crash.billing_forks import ForkServer

from provider_federation.testing.stripe_sim.server import start_in_thread

KEY = "sk_test_instance_crash"


@dataclass
class World:
    forks: ForkServer
    sim: str

    def points(self) -> int:
        [invoice] = self.forks.call("draft", count=1)["result"]
        return len(self.forks.call("send", invoice=invoice)["points"])

    def ask(self, path: str) -> list[dict]:
        headers = {"Authorization": f"Bearer {KEY}"}
        found: list[dict] = []
        while True:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            page = requests.get(f"{self.sim}/v1/{path}?limit=100{after}", headers=headers, timeout=20).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def control(self, **body: object) -> None:
        assert requests.post(f"{self.sim}/_sim/faults", json=body, timeout=10).status_code == 200

    def check(self, invoices: list[int]) -> None:
        there = self.ask("invoices")
        orders = Counter(one["metadata"]["pf_key"] for one in there)
        by_id = {one["id"]: one for one in there}
        for row in self.forks.call("state", invoices=invoices)["result"]:
            assert (row["status"], row["total_cents"]) == ("open", "8642"), row
            assert row["sent_at"] != "None", row
            assert orders[row["reference"]] == 1, row
            invoice = by_id[row["stripe_invoice_id"]]
            assert (invoice["status"], invoice["total"]) == ("open", 8642)
            assert [line["amount"] for line in invoice["lines"]["data"]] == [4321, 4321]
        customers = Counter(one["email"] for one in self.ask("customers"))
        assert set(customers.values()) == {1}
        assert {one["status"] for one in there} == {"open"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = Path(tmp_path_factory.mktemp("instance"))
    sim = start_in_thread()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("INSTANCE_", "STRIPE_"))},
        "PYTHONWARNINGS": "default",
        "DJANGO_SETTINGS_MODULE": "provider_federation.instance.settings",
        "DATABASE_URL": "",
        "PROVIDER_FEDERATION_ENV": "development",
        "INSTANCE_DATA_DIR": str(folder),
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_WEBHOOK_SECRET": "whsec_instance_crash",
        "STRIPE_API_BASE": sim.url,
    }
    forks = ForkServer("tests.crash.billing_instance_work", environment, folder)
    try:
        forks.call("migrate")
        yield World(forks, sim.url)
    finally:
        forks.close()
        sim.stop()


def test_killed_at_every_point_of_a_hosted_invoice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    count = world.points()
    invoices = world.forks.call("draft", count=count)["result"]
    for point, invoice in enumerate(invoices, start=1):
        child = world.forks.start("send", invoice=invoice, fuse=point)
        assert world.forks.wait(child) == -signal.SIGKILL, (point, world.forks.log())
        if point == count // 2:
            world.control(kind="forget_idempotency", key=KEY)
    world.forks.call("send_all", invoices=invoices)
    world.check(invoices)
    with capsys.disabled():
        print(f"\nhosted invoice of an instance: killed at {count} points")
    assert count > 30


@pytest.mark.parametrize("kind", ["rate_limit", "error_before", "error_after", "drop_before", "drop_after"])
def test_stripe_fails_at_each_call_of_a_hosted_invoice(world: World, kind: str) -> None:
    paths = ("/v1/customers", "/v1/invoices", "*/add_lines", "*/finalize", "*/send")
    invoices = world.forks.call("draft", count=len(paths))["result"]
    for invoice, path in zip(invoices, paths, strict=True):
        world.control(kind=kind, path=path, method="POST", key=KEY, count=1)
        world.forks.call("send", invoice=invoice)
    world.check(invoices)


def test_two_processes_send_one_hosted_invoice(world: World) -> None:
    invoices = world.forks.call("draft", count=4)["result"]
    for number, invoice in enumerate(invoices):
        first = world.forks.start("send", invoice=invoice)
        second = world.forks.start("send", invoice=invoice, fuse=12 + 5 * number)
        world.forks.wait(first)
        world.forks.wait(second)
    world.forks.call("send_all", invoices=invoices)
    world.check(invoices)
