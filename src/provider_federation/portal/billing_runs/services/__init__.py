"""Billing runs: plan a month over all clients, approve it by its hash, execute exactly that, and report."""

from provider_federation.portal.billing_runs.services.approving import approve_plan
from provider_federation.portal.billing_runs.services.executing import (
    execute_items,
    execute_plan,
    place_item,
    prepare_execution,
)
from provider_federation.portal.billing_runs.services.hashing import hash_plan
from provider_federation.portal.billing_runs.services.jobs import wake_forgotten
from provider_federation.portal.billing_runs.services.planning import plan_items, rate_item, start_plan
from provider_federation.portal.billing_runs.services.settling import settle_run
from provider_federation.portal.billing_runs.services.stopping import cancel_run, retry_held

__all__ = [
    "approve_plan",
    "cancel_run",
    "execute_items",
    "execute_plan",
    "hash_plan",
    "place_item",
    "plan_items",
    "prepare_execution",
    "rate_item",
    "retry_held",
    "settle_run",
    "start_plan",
    "wake_forgotten",
]
