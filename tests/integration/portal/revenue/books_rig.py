"""An instance with usage and invoices of its own, and a month that all three books agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.integration.portal.revenue.rig import FEBRUARY, UsageInstance, run_jobs

from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.execution import sync_many
from provider_federation.portal.reconciliation import queries, services
from provider_federation.portal.reconciliation.models import ReconciliationReport
from provider_federation.portal.revenue.periods import month


@dataclass
class BooksInstance(UsageInstance):
    """`invoices` are its own, by id; each change of one is an entry of its feed."""

    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def bills(self, number: int, cents: int, **more: Any) -> None:
        """An invoice to one of its customers, made in February."""
        at = f"2026-02-{number:02}T09:00:00Z"
        self.invoices[str(number)] = {
            "id": str(number),
            "number": f"A-{number}",
            "customer": {"id": "1", "name": "A customer", "email": "c@example.com"},
            "status": "open",
            "subtotalCents": cents,
            "taxCents": 0,
            "totalCents": cents,
            "amountPaidCents": 0,
            "currency": "usd",
            "createdAt": at,
            "updatedAt": at,
            "stripeInvoiceId": f"in_{number}",
            **more,
        }
        self.changes.append(str(number))

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        path = urlsplit(target).path
        if path == "/api/provider/usage":
            return super().answer(target)
        if self.faults:
            return self.faults.pop(0)
        if path == "/api/billing/list":
            items = sorted(self.invoices.values(), key=lambda one: one["createdAt"], reverse=True)
            return 200, {"ok": True, "items": items, "nextCursor": None}
        seqs = enumerate(self.changes, 1)
        items = [{"seq": seq, "type": "invoice.updated", "invoice": self.invoices[key]} for seq, key in seqs]
        return 200, {
            "ok": True,
            "epoch": "e",
            "items": items,
            "nextCursor": f"e:{len(items)}",
            "hasMore": False,
        }


def bill_february(api: Any, *instances: Instance) -> None:
    """The portal bills the month, a worker places it, and the events arrive as by webhook."""
    for instance in instances:
        answer = api.post(
            "/api/provider/billing/revenue",
            {"clientOrgId": instance.org_id, "periodStart": "2026-02-01", "periodEnd": "2026-02-28"},
            content_type="application/json",
        )
        assert answer.status_code == 201, answer.json()
    assert run_jobs() == []
    sync_many([instance.pk for instance in instances])


def reconcile(instance: Instance | None = None, label: str = FEBRUARY) -> ReconciliationReport:
    """Start a report and do a worker's part of it."""
    report, new = services.start_report(month(label), instance, actor="operator:test@example.com")
    assert new
    assert run_jobs() == []
    report.refresh_from_db()
    return report


def classes(report: ReconciliationReport) -> dict[str, int]:
    return queries.view_of(report).counts


def mend(report: ReconciliationReport) -> list[str]:
    """Repair what can be, as a worker would; returns what each repair said."""
    rows = services.repairable(report)
    services.request_repair(report, rows, actor="operator:test@example.com")
    assert run_jobs() == []
    return [row.repair_note for row in report.rows.exclude(repair="").order_by("pk")]
