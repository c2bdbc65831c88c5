"""How long a billing run takes: planning from frozen usage, and executing against a bare loop of the same calls.

`make bench-billing` (ARGS=--clients=200 for a quick look). Everything runs on this machine: an embedded PostgreSQL, the
Stripe simulator in a process of its own, one process that answers for all instances, and the worker's threads here.

Two rounds, each with its own database and simulator. `bare`: the simulator answers as fast as it can, so that the
portal's own work, the simulator's and the database's share this machine's cores; four calls at once. `far`: each call
takes as long as one to Stripe does, and as many are under way as a worker as it is set up by default makes. The bare
loop makes the same four calls through the same StripeAccount with as many at once; it keeps no journal, asks no
instance and writes no ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from provider_federation.kit import clock

MONTH, JOBS, LEADS, AI = "2026-02", 4, 3, "7.5"
FAR_SECONDS, FAR_AT_ONCE = 0.15, 4
PLAN_SECONDS, RATIO = 30.0, 0.80
_ORG = "org_{}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument(
        "--latency", type=float, default=None, help="one round only: seconds that a call to Stripe takes"
    )
    parser.add_argument("--at-once", type=int, default=1, help="calls under way at once in each of four jobs")
    parser.add_argument("--answer-for-instances", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.answer_for_instances:
        answer_for_instances()
        return 0
    if chosen.latency is None:
        return rounds(chosen.clients)
    with tempfile.TemporaryDirectory(prefix="pf-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        return measure(chosen.clients, Path(folder), chosen.latency, chosen.at_once)


def rounds(clients: int) -> int:
    """Each in a process of its own; the worst exit code."""
    bare = ["--latency=0", "--at-once=1"]
    far = [f"--latency={FAR_SECONDS}", f"--at-once={FAR_AT_ONCE}"]
    command = [sys.executable, __file__, f"--clients={clients}"]
    return max([subprocess.run([*command, *one], check=False).returncode for one in (bare, far)])


def measure(clients: int, folder: Path, latency: float, at_once: int) -> int:
    simulator, sim_url = _process(
        "from provider_federation.cli import main; main()", "stripe-sim", "--port", "0"
    )
    usage, usage_url = _process(f"import runpy, sys; sys.argv[0] = {__file__!r}; runpy.run_path({__file__!r}, run_name='__main__')", "--answer-for-instances")  # fmt: skip
    try:
        _set_up(folder, sim_url, at_once)
        print(
            f"\n{clients} clients, {JOBS} jobs, {at_once} calls at once in each, {latency:g} s a call",
            flush=True,
        )
        bench = Bench(clients, usage_url, at_once)
        if latency:
            _slow_down(sim_url, latency)
        results = {
            "clients": clients,
            "plan seconds": bench.plan(),
            "bare loop, clients a second": bench.bare_loop(),
            "execution, clients a second": bench.execute(),
        }
        return _tell(results, bench)
    finally:
        for process in (simulator, usage):
            process.terminate()
            process.wait(10)


class Bench:
    """The rows and accounts of one run; each method is one measurement."""

    def __init__(self, clients: int, usage_url: str, at_once: int) -> None:
        from provider_federation.portal.directory.keys import NewKey, seal_key
        from provider_federation.portal.directory.models import Instance

        now = clock.now()
        self.instances = Instance.objects.bulk_create(
            Instance(
                name=f"c{n:05d}", title=f"Client {n}", org_id=_ORG.format(n), base_url=usage_url, currency="usd",
                created_at=now, updated_at=now,
            )
            for n in range(clients)
        )  # fmt: skip
        for instance in self.instances:
            seal_key(instance, NewKey(f"key-{instance.org_id}", "a bench's secret, thirty-two chars")).save()
        self.grown = 0.0
        self.at_once = at_once

    def plan(self) -> float:
        """Seconds from readings that are there to a hashed plan."""
        from provider_federation.portal.billing_runs import services
        from provider_federation.portal.billing_runs.models import BillingPlanItem
        from provider_federation.portal.billing_runs.services.settling import settle_plan
        from provider_federation.portal.revenue.periods import month
        from provider_federation.portal.revenue.services.rating import months_to_read

        self.run = services.start_plan(MONTH, actor="operator:ada")
        period = month(MONTH)
        readings = {(one.pk, MONTH): _reading(one.org_id, period) for one in self.instances}
        began = time.perf_counter()
        items = BillingPlanItem.objects.filter(run=self.run).select_related("instance")
        for item in items.iterator(chunk_size=100):
            services.rate_item(item, months_to_read(item.instance, period), readings)
        settle_plan(self.run.pk)
        took = time.perf_counter() - began
        self.run.refresh_from_db()
        assert self.run.status == "planned", self.run.status
        return took

    def bare_loop(self) -> float:
        """The same four calls and nothing else, on an account of its own."""
        from django.conf import settings

        from provider_federation.portal.subscriptions.account import _account

        account = _account("sk_test_bench_bare", settings.STRIPE_API_BASE)
        customers = list(self._customers(account))

        def bill(customer: str) -> None:
            made = account.create_invoice(
                customer_id=customer, currency="usd", metadata={"pf_key": customer, "period": MONTH},
                idempotency_key=f"{customer}/1", description=f"Usage in {MONTH}",
            )  # fmt: skip
            account.add_lines(made.id, _LINES, idempotency_key=f"{customer}/2")
            account.finalize_invoice(made.id, idempotency_key=f"{customer}/3")
            account.send_invoice(made.id, idempotency_key=f"{customer}/4")

        return self._in_threads(bill, customers, JOBS * self.at_once)

    def execute(self) -> float:
        """Plan approved, shards worked on with as many calls at once as the bare loop had."""
        from django.db import close_old_connections

        from provider_federation.portal.billing_runs import services
        from provider_federation.portal.billing_runs.models import BillingPlanItem
        from provider_federation.portal.billing_runs.services.jobs import SHARD
        from provider_federation.portal.subscriptions.account import provider_account
        from provider_federation.portal.subscriptions.models import BillingCustomer

        now = clock.now()
        rows = zip(self.instances, self._customers(provider_account()), strict=True)
        BillingCustomer.objects.bulk_create(
            BillingCustomer(instance=one, stripe_customer_id=made, name=one.title, created_at=now)
            for one, made in rows
        )
        services.approve_plan(self.run.pk, self.run.plan_hash, actor="operator:bob")
        services.execute_plan(self.run.pk, actor="operator:bob")
        services.prepare_execution(self.run.pk)
        ids = iter(BillingPlanItem.objects.filter(run=self.run).order_by("pk").values_list("pk", flat=True))
        shards = []
        while shard := list(islice(ids, SHARD)):
            shards.append(shard)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def work(shard: list[int]) -> None:
            services.execute_items(self.run.pk, shard)
            close_old_connections()

        rate = self._in_threads(work, shards, JOBS)
        self.grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        self.run.refresh_from_db()
        assert self.run.status == "done", self.run.status
        assert not self.run.items.exclude(state="billed").exists()
        return rate

    def _customers(self, account: Any) -> Any:
        def make(one: Any) -> str:
            return account.create_customer(
                name=one.title,
                email=None,
                metadata={"pf_customer": str(one.pk)},
                idempotency_key=f"c/{one.pk}",
            ).id

        with ThreadPoolExecutor(JOBS) as pool:
            yield from pool.map(make, self.instances)

    def _in_threads(self, work: Any, things: list[Any], threads: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, things))
        return len(self.instances) / (time.perf_counter() - began)


_LINES = [
    {"amount": amount, "description": text, "discountable": False, "metadata": {"pf_line": text}}
    for amount, text in ((LEADS * 10_000, f"{LEADS} converted leads"), (750, f"AI usage, {MONTH}"))
]


def _leads(org: str) -> list[dict[str, str]]:
    from provider_federation.kit.hash_chain import digest

    start = datetime(2026, 2, 1, tzinfo=UTC)
    leads = [
        {
            "leadId": f"{org}-{n}",
            "leadPublicId": f"L-{n}",
            "convertedAt": (start + timedelta(days=n)).isoformat(),
        }
        for n in range(LEADS)
    ]
    return [{**one, "evidence": digest({**one, "source": "system"})} for one in leads]


def _reading(org: str, period: Any) -> Any:
    from decimal import Decimal

    from provider_federation.money import Usage, UsageLead
    from provider_federation.portal.revenue.usage import Reading

    leads = tuple(
        UsageLead(
            one["leadId"],
            one["leadPublicId"],
            datetime.fromisoformat(one["convertedAt"]),
            one["evidence"],
            one["convertedAt"],
        )
        for one in _leads(org)
    )
    return Reading(Usage(org, period, "usd", leads, Decimal(AI), 1, LEADS), closed=True)


def answer_for_instances() -> None:
    """One process that answers `GET /api/provider/usage` for whichever client the key id names."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            org = self.headers["X-Provider-KeyId"].removeprefix("key-")
            content = _content(org)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"instances at http://127.0.0.1:{server.server_port} ", flush=True)
    server.serve_forever()


def _content(org: str) -> bytes:
    items = _leads(org)
    return json.dumps(
        {
            "ok": True, "clientOrgId": org, "currency": "usd",
            "period": {"label": MONTH, "start": "2026-02-01T00:00:00Z", "end": "2026-03-01T00:00:00Z", "closed": True},
            "leads": {"count": len(items), "items": items, "nextCursor": None},
            "ai": {"cost": AI, "currency": "usd", "calls": 1, "capCents": 5000},
        }
    ).encode()  # fmt: skip


def _process(code: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split(" at ", 1)[1].split()[0]


def _slow_down(sim_url: str, seconds: float) -> None:
    """As far away as Stripe is; customers are made at full speed."""
    fault = {"kind": "slow", "path": "/v1/invoices*", "method": "POST", "seconds": seconds, "count": 10**6}
    request = urllib.request.Request(f"{sim_url}/_sim/faults", json.dumps(fault).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def _set_up(folder: Path, sim_url: str, at_once: int) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
        "PROVIDER_FEDERATION_ENV": "development",
        "PORTAL_DATA_DIR": str(folder),
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PORTAL_DB_POOL": str(JOBS + 4),
        "PORTAL_BILLING_CALLS_AT_ONCE": str(at_once),
        "PROVIDER_STRIPE_SECRET_KEY": "sk_test_bench_run",
        "STRIPE_API_BASE": sim_url,
        "DATABASE_URL": "",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _tell(results: dict[str, float], bench: Bench) -> int:
    ratio = results["execution, clients a second"] / results["bare loop, clients a second"]
    for name, value in results.items():
        print(f"{name:32} {value:8.1f}")
    print(f"{'execution / bare loop':32} {ratio:8.2f}   (at least {RATIO})")
    print(f"{'plan seconds / limit':32} {results['plan seconds'] / PLAN_SECONDS:8.2f}   (under 1)")
    print(f"{'memory grown while executing, MB':32} {bench.grown:8.1f}")
    return 0 if ratio >= RATIO and results["plan seconds"] < PLAN_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
