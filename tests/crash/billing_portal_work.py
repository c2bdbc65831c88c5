"""What a child of the fork server does in the portal: see tests/crash/test_billing_crash_portal.py."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from procrastinate.contrib.django import app
from tests.integration.portal.revenue.rig import NOW  # noqa: F401  importing it warms the parent up

from provider_federation.kit import clock
from provider_federation.portal import urls  # noqa: F401  the whole portal, before anybody is forked
from provider_federation.portal.billing_runs import services
from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun
from provider_federation.portal.directory.keys import NewKey, seal_key
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.reaper import requeue_lost_jobs
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice
from provider_federation.portal.revenue.services import defer_forgotten
from provider_federation.portal.worker import _worker_app


def migrate() -> None:
    call_command("migrate", verbosity=0)
    call_command("createcachetable")


def enrol(name: str, org: str, url: str) -> str:
    now = clock.now()
    instance = Instance.objects.create(
        name=name, title=name, org_id=org, base_url=url, created_at=now, updated_at=now, currency="usd"
    )
    seal_key(instance, NewKey(f"key-{name}", "a secret of thirty-two characters!!")).save()
    return str(instance.pk)


def only(names: list[str]) -> None:
    """Which clients are enabled, and so billed."""
    Instance.objects.update(enabled=False)
    Instance.objects.filter(name__in=names).update(enabled=True)


def plan(months: list[str]) -> dict[str, str]:
    """An approved run for each month; its id."""
    runs = {}
    for month in months:
        run = services.start_plan(month, actor="operator:ada@example.com")
        _drain()
        run.refresh_from_db()
        services.approve_plan(run.pk, run.plan_hash, actor="operator:bob@example.com")
        runs[month] = str(run.pk)
    return runs


def plan_each(months: dict[str, str]) -> list[str]:
    """For each client alone an approved run of its own month."""
    runs: list[str] = []
    for name, month in months.items():
        only([name])
        runs += plan([month]).values()
    return runs


def execute(run: str) -> None:
    """What the operator's click does, and then a worker's life."""
    services.execute_plan(UUID(run), actor="operator:bob@example.com")
    work()


def work() -> None:
    """A worker's life: until nothing is to be done any more."""
    asyncio.run(_life())


def take_over() -> None:
    """A worker that comes after others died: their jobs go back to the queue, waiting ones are due."""
    _sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 day'")
    while True:
        _sql("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")
        lost = requeue_lost_jobs()
        woken = defer_forgotten() + services.wake_forgotten()
        work()
        if not (lost or woken or _waiting()):
            return


def click_again(runs: list[str]) -> None:
    """Where not even the operator's click was kept, the operator clicks once more."""
    for run in BillingRun.objects.filter(pk__in=runs, status="approved"):
        services.execute_plan(run.pk, actor="operator:bob@example.com")


def state(runs: list[str]) -> list[dict[str, Any]]:
    """Each client's part of these runs, as the ledger has it."""
    items = BillingPlanItem.objects.filter(run__in=runs).select_related("run", "instance", "invoice")
    return [
        {
            "run": str(item.run_id),
            "month": item.run.period,
            "status": item.run.status,
            "client": item.instance.name,
            "state": item.state,
            "hold": item.hold_code,
            "order": item.invoice.order_key if item.invoice else "",
            "invoice": item.invoice.status if item.invoice else "",
            "stripe": item.invoice.stripe_invoice_id if item.invoice else "",
            "total": item.invoice.total_cents if item.invoice else 0,
            "rows": UsageInvoice.objects.filter(instance=item.instance, period=item.run.period).count(),
            "leads": LeadCharge.objects.filter(line__invoice=item.invoice_id, released_at=None).count(),
        }
        for item in items
    ]


async def _life() -> None:
    worker = _worker_app()
    async with worker.open_async():
        await worker.run_worker_async(
            wait=False,
            concurrency=1,
            install_signal_handlers=False,
            listen_notify=False,
            delete_jobs="successful",
            shutdown_graceful_timeout=10,
        )


def _drain() -> None:
    """The jobs of planning, done here and now."""
    from tests.integration.portal.revenue.rig import run_jobs

    assert run_jobs() == []
    assert app.tasks


def _waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")
        return int(cursor.fetchone()[0])


def _sql(query: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query)
