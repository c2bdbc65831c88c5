"""The portal's pages: every address, the permission that it asks for, and one of each kind of row to fill it with."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from provider_federation.portal.dashboard.urls import urlpatterns
from provider_federation.portal.operators.models import Operator

READ_PAGES = {
    "overview": "billing.read",
    "instances": "instances.read",
    "add-instance": "instances.manage",
    "runs": "fleet.read",
    "new-run": "fleet.act",
    "invoices": "billing.read",
    "invoices-csv": "billing.read",
    "subscriptions": "billing.read",
    "add-subscription": "billing.manage",
    "revenue": "billing.read",
    "usage-invoices": "billing.read",
    "reports": "billing.read",
    "reports-csv": "billing.read",
    "reconciliations": "billing.read",
    "reconciliation": "billing.read",
    "reconciliation-progress": "billing.read",
    "reconciliation-csv": "billing.read",
    "receivables": "billing.read",
    "receivables-csv": "billing.read",
    "receivable": "billing.read",
    "refund-invoice": "billing.manage",
    "correct-invoice": "billing.manage",
    "lead-disputes": "billing.read",
    "lead-dispute": "billing.read",
    "raise-dispute": "billing.manage",
    "statement": "billing.read",
    "statement-file": "billing.read",
    "webhooks": "billing.read",
    "operators": "operators.manage",
    "add-operator": "operators.manage",
    "add-token": "operators.manage",
    "audit": "audit.read",
    "instance": "instances.read",
    "instance-state": "instances.read",
    "edit-instance": "instances.manage",
    "replace-key": "instances.manage",
    "instance-keys": "instances.read",
    "run": "fleet.read",
    "run-progress": "fleet.read",
    "subscription": "billing.read",
    "ai-terms": "billing.read",
    "subscriptions-csv": "billing.read",
    "change-plan": "billing.manage",
    "client-revenue": "billing.read",
    "make-usage-invoice": "billing.manage",
    "usage-invoice": "billing.read",
    "billing-runs": "billing.read",
    "billing-run": "billing.read",
    "billing-run-progress": "billing.read",
    "billing-run-rows": "billing.read",
    "billing-run-csv": "billing.read",
    "billing-item": "billing.read",
    "approve-billing-run": "billing.manage",
    "edit-operator": "operators.manage",
    "set-password": "operators.manage",
}
# These ask the instances, or Stripe for an invoice's lines: not called without them; test_portal_actions and
# test_receivables_after have them. Whoever may not is refused before anybody is asked.
ASKING = {
    "revenue-now": "billing.read",
    "client-revenue-now": "billing.read",
    "credit-invoice": "billing.manage",
}
WRITES = {
    "switch-instance": "instances.manage",
    "enrol-instance": "instances.manage",
    "make-key": "instances.manage",
    "confirm-key": "instances.manage",
    "rotate-key": "instances.manage",
    "revoke-key": "instances.manage",
    "reset-ratchet": "instances.manage",
    "check-instance": "instances.check",
    "cancel-run": "fleet.act",
    "retry-run": "fleet.act",
    "cancel-subscription": "billing.manage",
    "resume-subscription": "billing.manage",
    "withdraw-change": "billing.manage",
    "publish-entitlement": "billing.manage",
    "set-ai-terms": "billing.manage",
    "release-usage-invoice": "billing.manage",
    "plan-billing-run": "billing.manage",
    "approve-billing-plan": "billing.manage",
    "execute-billing-run": "billing.manage",
    "cancel-billing-run": "billing.manage",
    "retry-billing-run": "billing.manage",
    "start-reconciliation": "billing.manage",
    "repair-reconciliation": "billing.manage",
    "sweep-stripe": "billing.manage",
    "retry-webhook": "billing.manage",
    "resolve-alert": "billing.manage",
    "revoke-token": "operators.manage",
}
_PARAMETERS = {pattern.name: list(pattern.pattern.converters) for pattern in urlpatterns}


def path_of(name: str, rows: dict[str, Any] | None = None) -> str:
    """The address of that name, for the rows of `portal_seed.fill`."""
    needed = _PARAMETERS[name]
    values = _values(name, rows) if needed and rows is not None else {}
    return reverse(name, kwargs={one: values[one] for one in needed})


def _values(name: str, rows: dict[str, Any]) -> dict[str, Any]:
    instance, usage = rows["instances"][0], rows["usage"][0]
    return {
        "instance_id": instance.pk,
        "key": instance.keys.first().pk,
        "run_id": rows["billing_run" if "billing-" in name else "run"].pk,
        "item_id": rows["billing_item"].pk,
        "subscription_id": rows["subscriptions"][0].pk,
        "period": usage.period,
        "invoice_id": usage.pk,
        "stripe_invoice_id": usage.stripe_invoice_id,
        "way": "void",
        "ending": "csv",
        "operator_id": Operator.objects.order_by("pk")[0].pk,
        "report_id": rows["reconciliation"].pk,
        "dispute_id": rows["dispute"].pk,
        "charge_id": rows["dispute"].charge.pk,
        "event_id": rows["event"].pk,
        "alert_id": 1,
        "token_id": "00000000-0000-0000-0000-000000000000",
    }
