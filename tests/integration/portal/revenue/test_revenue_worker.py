"""The jobs under the real worker of procrastinate: deferred with the row, taken up, tried again, done."""

from __future__ import annotations

import asyncio

from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.integration.portal.revenue.rig import FEBRUARY, deliver

from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services.jobs import PLACE


def work():
    """One worker that ends when nothing is left to do now."""

    async def once():
        worker = app.with_connector(app.connector.get_worker_connector())
        async with worker.open_async():
            await worker.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    asyncio.run(once())


def test_a_worker_places_the_invoice_and_applies_the_events(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    body = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post("/api/provider/billing/revenue", body, content_type="application/json")
    work()
    row = UsageInvoice.objects.get()
    assert (row.status, row.stripe_invoice_id is not None) == ("open", True)
    books.post(f"invoices/{row.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    for fact in books.events("invoice."):
        deliver(api, fact)
    work()
    row.refresh_from_db()
    assert (row.status, row.paid_cents) == ("paid", 20_000)
    assert not ProcrastinateJob.objects.filter(status="todo").exists()


def test_a_job_whose_transaction_is_rolled_back_never_was(books, grow, api):
    from provider_federation.portal.revenue.periods import month
    from provider_federation.portal.revenue.services import invoice_usage

    usage, ada = grow("ada")
    usage.uses(FEBRUARY, 2)
    with transaction.atomic():
        invoice_usage(ada, month(FEBRUARY), actor="tests")
        transaction.set_rollback(True)
    assert (UsageInvoice.objects.count(), ProcrastinateJob.objects.filter(task_name=PLACE).count()) == (0, 0)


def test_while_stripe_is_down_the_job_waits_and_nothing_is_lost(books, grow, api, settings):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    body = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post("/api/provider/billing/revenue", body, content_type="application/json")
    address, settings.STRIPE_API_BASE = settings.STRIPE_API_BASE, "http://127.0.0.1:9"
    work()
    job = ProcrastinateJob.objects.get(task_name=PLACE)
    assert (job.status, job.attempts, job.scheduled_at is not None) == ("todo", 1, True)
    row = UsageInvoice.objects.get()
    assert row.status == "placing"
    assert "connection_failed" in row.failure
    settings.STRIPE_API_BASE = address
