"""The processes and the rows behind bench/billing.py: a portal with many clients, its workers, and who is beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from bench import billing_stand_ins

_STAND_INS = billing_stand_ins.__file__
_CLI = "from provider_federation.cli import main; main()"
_TICK = os.sysconf("SC_CLK_TCK")
_LONGEST = 600.0


@dataclass(frozen=True)
class Done:
    """One execution: seconds from the click to the end, the workers' processor seconds, calls to Stripe, and by how much
    the worker that grew most grew.
    """

    seconds: float
    processor: float
    calls: int
    grown_mb: float


@dataclass(frozen=True)
class Planned:
    """A run that waits for its approval."""

    number: int
    run: Any


class Processes:
    """Whoever runs beside this process; all of them end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._loops = 0

    def __enter__(self) -> Self:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
            "PROVIDER_FEDERATION_ENV": "development",
            "PORTAL_DATA_DIR": str(self._folder / "portal"),
            "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
            "PORTAL_SYNC_SECONDS": "86400",
            "PROVIDER_STRIPE_SWEEP_SECONDS": "0",
            "PROVIDER_DUNNING_SCHEDULE": "",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }
        from provider_federation.portal.database import embedded_database

        os.environ["DATABASE_URL"] = embedded_database(self._folder / "postgres")
        self.simulator = self._address("-c", _CLI, "stripe-sim", "--port", "0")
        self.instances = self._address(_STAND_INS, "instances")
        os.environ |= {"STRIPE_API_BASE": self.simulator, "PROVIDER_STRIPE_SECRET_KEY": "sk_test_bench"}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        return self

    def __exit__(self, *_error: object) -> None:
        from django.db import connections

        from provider_federation.portal.database import release_embedded_databases

        self._stack.close()
        connections.close_all()
        release_embedded_databases()

    def bare(self, threads: int, clients: int) -> subprocess.Popen[str]:
        """A bare loop whose customers are there."""
        self._loops += 1  # each in an account of its own: nothing that it sends was sent before
        key = f"sk_test_bench_bare_{self._loops}"
        loop = self.start(_STAND_INS, "bare", self.simulator, key, str(threads), str(clients))
        assert loop.stdout is not None
        assert loop.stdout.readline() == "ready\n"
        return loop

    def worker(self, key: str, jobs: int, at_once: int, limit: int) -> subprocess.Popen[str]:
        settings = {
            "PROVIDER_STRIPE_SECRET_KEY": key,
            "PORTAL_BILLING_CALLS_AT_ONCE": str(at_once),
            "PROVIDER_STRIPE_CALLS_PER_SECOND": str(limit),
        }
        return self.start("-c", _CLI, "portal", "worker", "--concurrency", str(jobs), **settings)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        log = (self._folder / "stderr.log").open("a")
        process = subprocess.Popen(
            [sys.executable, *arguments], text=True, env={**os.environ, **settings}, stderr=log, **pipes
        )
        self._stack.callback(stop, process)
        return process

    def _address(self, *arguments: str) -> str:
        process = self.start(*arguments)
        assert process.stdout is not None
        return process.stdout.readline().split(" at ", 1)[1].split()[0]


class Portal:
    """So many clients with their keys; a month each time that somebody plans."""

    def __init__(self, processes: Processes, clients: int) -> None:
        from provider_federation.kit import clock
        from provider_federation.portal.directory.keys import NewKey, seal_key
        from provider_federation.portal.directory.models import Instance, InstanceKey
        from provider_federation.portal.fleet.models import SyncState
        from provider_federation.portal.receivables.models import DisputeReading

        self.processes, self.clients, self._number = processes, clients, 0
        now = clock.now()
        self._instances = Instance.objects.bulk_create(
            Instance(
                name=f"c{n:05d}", title=f"Client {n}", org_id=f"org_{n}", base_url=processes.instances,
                currency="usd", created_at=now, updated_at=now,
            )
            for n in range(clients)
        )  # fmt: skip
        secret = "a bench's secret, thirty-two chars"
        InstanceKey.objects.bulk_create(
            seal_key(one, NewKey(f"key-{one.org_id}", secret)) for one in self._instances
        )
        # The workers have nothing else to do while they are measured: no feed is due.
        later = now + timedelta(days=1)
        for feed in (SyncState, DisputeReading):
            feed.objects.bulk_create(feed(instance=one, due_at=later) for one in self._instances)

    def plan(self, clients: int) -> tuple[float, Planned]:
        """Seconds from readings that are there to a hashed plan over so many clients, and the plan: of a month, and in a
        Stripe account, of its own.
        """
        from provider_federation.portal.billing_runs import services
        from provider_federation.portal.billing_runs.models import BillingPlanItem
        from provider_federation.portal.billing_runs.services.settling import settle_plan
        from provider_federation.portal.directory.models import Instance
        from provider_federation.portal.revenue.periods import month

        self._number += 1
        label = f"{2010 + (self._number - 1) // 2}-{1 + 6 * ((self._number - 1) % 2):02d}"
        Instance.objects.update(enabled=False)
        chosen = self._instances[:clients]
        Instance.objects.filter(pk__in=[one.pk for one in chosen]).update(enabled=True)
        period = month(label)
        run = services.start_plan(label, actor="operator:ada")
        _forget_jobs()  # the readings are here: nobody is asked
        readings = {(one.pk, label): _reading(one.org_id, period) for one in chosen}
        began = time.perf_counter()
        items = BillingPlanItem.objects.filter(run=run).select_related("instance")
        for item in items.iterator(chunk_size=100):
            services.rate_item(item, [period], readings)
        settle_plan(run.pk)
        took = time.perf_counter() - began
        run.refresh_from_db()
        assert run.status == "planned", run.status
        return took, Planned(self._number, run)

    def loop(self, loops: list[subprocess.Popen[str]], clients: int) -> tuple[float, float]:
        """Seconds that the bare loops together took for so many clients, and their processor seconds."""
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write(f"{clients // len(loops)}\n")
            loop.stdin.flush()
        said = [json.loads(loop.stdout.readline()) for loop in loops if loop.stdout is not None]
        return max(one["seconds"] for one in said), sum(one["processor"] for one in said)

    def execute(self, planned: Planned, jobs: int, workers: int, at_once: int, limit: int) -> Done:
        """The plan approved, carried out by real workers that were up before."""
        from provider_federation.portal.billing_runs import services

        key, run = f"sk_test_bench_{planned.number}", planned.run
        self._enrol(key, [one.instance for one in run.items.select_related("instance")])
        services.approve_plan(run.pk, run.plan_hash, actor="operator:bob")
        processes = [self.processes.worker(key, jobs, at_once, limit) for _ in range(workers)]
        _wait(lambda: _workers_up() == workers, "the workers did not come up")
        before = [_used(one.pid) for one in processes]
        calls, began = _calls(self.processes.simulator, key), time.perf_counter()
        services.execute_plan(run.pk, actor="operator:bob")
        _wait(lambda: _finished(run, processes), "the run did not end")
        took = time.perf_counter() - began
        made = _calls(self.processes.simulator, key) - calls
        after = [_used(one.pid) for one in processes]
        for process in processes:
            stop(process)
        left = set(run.items.exclude(state="billed").values_list("state", "hold_code", "hold_reason"))
        assert not left, left
        spent = sum(b[0] - a[0] for a, b in zip(before, after, strict=True))
        grown = max(b[1] - a[1] for a, b in zip(before, after, strict=True))
        return Done(took, spent, made, grown)

    def _enrol(self, key: str, instances: list[Any]) -> None:
        """Each client as a customer of this Stripe account."""
        from provider_federation.kit import clock
        from provider_federation.portal.subscriptions.models import BillingCustomer
        from provider_federation.stripe_account import StripeAccount

        account = StripeAccount(key, api_base=self.processes.simulator)
        BillingCustomer.objects.all().delete()
        BillingCustomer.objects.bulk_create(
            BillingCustomer(
                instance=one,
                name=one.title,
                created_at=clock.now(),
                stripe_customer_id=account.create_customer(
                    name=one.title,
                    email=None,
                    metadata={"pf_customer": str(one.pk)},
                    idempotency_key=f"c/{one.pk}",
                ).id,
            )
            for one in instances
        )


def stop(process: subprocess.Popen[str]) -> None:
    """End it, gently first."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def simulator_is_far(url: str, seconds: float) -> Iterator[None]:
    """As far away as Stripe is; customers are made at full speed."""
    if not seconds:
        yield
        return
    fault = {"kind": "slow", "path": "/v1/invoices*", "method": "POST", "seconds": seconds, "count": 10**6}
    _control(url, "POST", fault)
    try:
        yield
    finally:
        _control(url, "DELETE", {})


def _control(url: str, method: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(f"{url}/_sim/faults", json.dumps(body).encode(), method=method)
    urllib.request.urlopen(request, timeout=10).close()


def _reading(org: str, period: Any) -> Any:
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
        for one in billing_stand_ins.leads(org, period.label)
    )
    usage = Usage(org, period, "usd", leads, Decimal(billing_stand_ins.AI), 1, len(leads))
    return Reading(usage, closed=True)


def _finished(run: Any, workers: list[subprocess.Popen[str]]) -> bool:
    assert all(one.poll() is None for one in workers), "a worker ended"
    run.refresh_from_db()
    return run.status == "done"


def _wait(ready: Any, sentence: str) -> None:
    until = time.monotonic() + _LONGEST
    while not ready():
        assert time.monotonic() < until, sentence
        time.sleep(0.05)


def _workers_up() -> int:
    from procrastinate.contrib.django.models import ProcrastinateWorker

    return ProcrastinateWorker.objects.count()


def _forget_jobs() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE status = 'todo'")


def _calls(url: str, key: str) -> int:
    """How many requests the simulator had with this key."""
    with urllib.request.urlopen(f"{url}/_sim/requests?key={key}", timeout=30) as answer:
        return int(json.load(answer)["count"])


def _used(pid: int) -> tuple[float, float]:
    """Processor seconds so far, and the most memory so far in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    peak = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return (int(fields[11]) + int(fields[12])) / _TICK, int(peak.split()[1]) / 1024
