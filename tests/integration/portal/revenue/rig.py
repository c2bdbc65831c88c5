"""The real Stripe simulator as a process, a usage instance over real HTTP, and hands to do what a worker would do."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.integration.portal.revenue.usage_instance import UsageInstance, proven

from provider_federation.kit import clock
from provider_federation.portal.directory.keys import NewKey, seal_key
from provider_federation.portal.directory.models import Instance

__all__ = ["UsageInstance", "proven"]  # they stand by themselves for tests without Django
WEBHOOK_SECRET = "whsec_portal_tests_0123456789"
JANUARY = "2026-01"
FEBRUARY = "2026-02"
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Simulator:
    """`provider-federation stripe-sim` on a free port."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [
            sys.executable,
            "-c",
            "from provider_federation.cli import main; main()",
            "stripe-sim",
            "--port",
            "0",
        ]
        environment = {**os.environ, **environment, "PYTHONWARNINGS": "default"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.split(" at ", 1)[1].split()[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def control(self, lever: str, /, **wanted: Any) -> Any:
        return self.ask("POST", f"/_sim/{lever}", json.dumps(wanted).encode())

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "") -> Any:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())


@dataclass
class Books:
    """One Stripe account of the simulator, by its key."""

    simulator: Simulator
    key: str

    def get(self, path: str) -> Any:
        return self.simulator.ask("GET", f"/v1/{path}", key=self.key)

    def post(self, path: str, **form: Any) -> Any:
        body = "&".join(f"{name}={value}" for name, value in form.items()).encode()
        return self.simulator.ask("POST", f"/v1/{path}", body, key=self.key)

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Oldest first."""
        found = self.get("events?limit=100")["data"]
        return [event for event in reversed(found) if event["type"].startswith(kind)]

    def invoices(self) -> list[dict[str, Any]]:
        return self.get("invoices?limit=100")["data"]

    def fault(self, kind: str, path: str, **more: Any) -> None:
        self.simulator.control("faults", kind=kind, path=path, key=self.key, **more)

    def writes(self, path: str) -> int:
        """POSTs to a path that were not replays."""
        from provider_federation.testing.stripe_sim.store import account_id

        rows = self.simulator.ask(
            "GET", f"/_sim/requests?method=POST&path={path}&account={account_id(self.key)}"
        )["requests"]
        return len([row for row in rows if not row["replayed"] and row["status"] == 200])


def enrol(usage: UsageInstance, name: str, **more: Any) -> Instance:
    now = clock.now()
    instance = Instance.objects.create(
        name=name,
        title=f"{name.title()} Ltd",
        org_id=usage.org,
        base_url=usage.url,
        billing_email=f"{name}@example.com",
        created_at=now,
        updated_at=now,
        **more,
    )
    seal_key(instance, NewKey(f"key-{name}", secrets.token_urlsafe(32))).save()
    return instance


def signed(
    event: dict[str, Any] | bytes, *, secret: str = WEBHOOK_SECRET, at: float | None = None
) -> tuple[bytes, str]:
    """The body and its Stripe-Signature."""
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    stamp = str(int(clock.timestamp() if at is None else at))
    made = hmac.new(secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
    return raw, f"t={stamp},v1={made}"


def deliver(client: Any, event: dict[str, Any] | bytes, **more: Any) -> Any:
    raw, header = signed(event, **{name: more.pop(name) for name in ("secret", "at") if name in more})
    headers = {"Stripe-Signature": header, **more.pop("headers", {})}
    return client.post("/api/webhooks/provider-stripe", raw, content_type="application/json", headers=headers)


def run_jobs(most: int = 50, queue: str = "money") -> list[tuple[str, Exception]]:
    """Do what a worker would do with the jobs that wait, once each; returns what failed."""
    failed: list[tuple[str, Exception]] = []
    for _ in range(most):
        job = ProcrastinateJob.objects.filter(status="todo", queue_name=queue).order_by("pk").first()
        if job is None:
            return failed
        _finish(job.pk)
        try:
            app.tasks[job.task_name].func(**job.args)
        except Exception as error:  # noqa: BLE001  the test looks at it
            failed.append((job.task_name, error))
    raise AssertionError("jobs without end")


def _finish(job: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE id = %s", [job])


def forget_jobs() -> None:
    """The jobs' tables are not Django's, so its flush between tests leaves them."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")


def jobs(task: str) -> int:
    return ProcrastinateJob.objects.filter(task_name=task, status="todo").count()
