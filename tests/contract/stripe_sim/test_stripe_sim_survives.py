"""`kill -9` at any moment: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.conformance import client
from tests.contract.stripe_sim.sim_tools import control, http, raw, until

KEY = "sk_test_survivor"
_COMMAND = "import sys; from pathlib import Path; from provider_federation.cli.stripe_sim import stripe_sim; stripe_sim(port=int(sys.argv[1]), data=Path(sys.argv[2]))"


class Process:
    """The simulator as its own process; `url` from the line that it prints."""

    def __init__(self, data: Path) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "0", str(data)], stdout=subprocess.PIPE, text=True
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line.startswith("Stripe simulator at http://127.0.0.1:"), line
        self.url = line.split()[-1]

    def kill(self) -> None:
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait(10)
        assert self.child.stdout is not None
        self.child.stdout.close()


def test_everything_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    data, acknowledged = tmp_path / "sim.sqlite", {}
    first = Process(data)
    api = client(first.url, KEY)
    customer = flows.customer(api, card="pm_card_visa")
    api.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    page = flows.opened(api, customer.id, 5000)

    def hammer(worker: int) -> None:
        mine = client(first.url, KEY)
        for number in range(10_000):
            order = f"{worker}-{number}"
            try:
                made = flows.draft(mine, customer.id, 100 + number, metadata={"order": order})
                acknowledged[order] = made.id
            except stripe.APIConnectionError:
                return

    workers = [threading.Thread(target=hammer, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    until(lambda: len(acknowledged) >= 40, 60)
    first.kill()
    for worker in workers:
        worker.join(20)
    second = Process(data)
    try:
        _everything_is_there(second.url, acknowledged)
        token = str(page.hosted_invoice_url).rpartition("/")[2]
        assert http("POST", f"{second.url}/i/{token}", b"card=4242424242424242")[0] == 303
        assert client(second.url, KEY).v1.invoices.retrieve(page.id).status == "paid"
    finally:
        second.kill()


def _everything_is_there(url: str, acknowledged: dict[str, str]) -> None:
    api = client(url, KEY)
    found = {row.id: row for row in api.v1.invoices.list({"limit": 100}).auto_paging_iter()}
    for order, identity in acknowledged.items():
        assert found[identity].metadata["order"] == order
        assert found[identity].total == sum(line.amount for line in found[identity].lines.data) > 0
    created = {
        event.data.object["id"]
        for event in api.v1.events.list({"type": "invoice.created", "limit": 100}).auto_paging_iter()
    }
    assert created == set(found)
    assert control(url, "/_sim/state", "GET")["pending_webhooks"] > len(acknowledged)


def test_idempotency_keys_and_the_clock_survive(tmp_path: Path) -> None:
    data = tmp_path / "sim.sqlite"
    first = Process(data)
    control(first.url, "/_sim/clock/advance", seconds=86_400 * 30)
    control(first.url, "/_sim/account", key=KEY, name="Acme Ltd")
    before = raw(first.url, KEY, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]
    now = control(first.url, "/_sim/clock", "GET")["now"]
    first.kill()
    second = Process(data)
    try:
        again = raw(second.url, KEY, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")
        assert again[2] == before
        assert again[1]["idempotent-replayed"] == "true"
        assert control(second.url, "/_sim/clock", "GET")["now"] >= now
        assert client(second.url, KEY).v1.accounts.retrieve_current().business_profile.name == "Acme Ltd"
    finally:
        second.kill()


def test_no_key_is_written_down(tmp_path: Path) -> None:
    data = tmp_path / "sim.sqlite"
    process = Process(data)
    flows.customer(client(process.url, KEY))
    process.kill()
    with sqlite3.connect(data) as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert "cus_" in dump
    assert KEY not in dump


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    process = Process(tmp_path / "a.sqlite")
    try:
        port = process.url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-c", _COMMAND, port, str(tmp_path / "b.sqlite")],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert f"Port {port} cannot be used" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        process.kill()
