"""A run taken through its phases as a worker and two people would."""

from __future__ import annotations

from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs

from provider_federation.portal.billing_runs import services
from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun


def planned(month: str = FEBRUARY, actor: str = "operator:ada@example.com") -> BillingRun:
    run = services.start_plan(month, actor=actor)
    assert run_jobs() == []
    run.refresh_from_db()
    return run


def approved(run: BillingRun, actor: str = "operator:bob@example.com") -> BillingRun:
    return services.approve_plan(run.pk, run.plan_hash, actor=actor)


def executed(run: BillingRun) -> BillingRun:
    services.execute_plan(run.pk, actor="operator:bob@example.com")
    assert run_jobs() == []
    run.refresh_from_db()
    return run


def billed(month: str = FEBRUARY) -> BillingRun:
    return executed(approved(planned(month)))


def item(run: BillingRun, name: str) -> BillingPlanItem:
    return BillingPlanItem.objects.select_related("invoice").get(run=run, instance__name=name)


def states(run: BillingRun) -> dict[str, str]:
    rows = BillingPlanItem.objects.filter(run=run)
    return dict(rows.values_list("instance__name", "state"))
