"""The hash of a plan: over the run and every item's frozen part, read back from the rows each time."""

from __future__ import annotations

import hashlib
from typing import Any

from provider_federation.kit.hash_chain import canonical_json
from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun
from provider_federation.portal.revenue.usage import digest_of

_CHUNK = 100


def hash_plan(run: BillingRun) -> str:
    """`sha256:<hex>` over lines of canonical JSON: the run, then its items by the id of their instance.

    One item is in memory at a time. Anything that decides what is billed is in it: client, currency, lines,
    amounts, and the digest of each reading behind them.
    """
    hasher = hashlib.sha256(canonical_json(_head(run)) + b"\n")
    items = BillingPlanItem.objects.filter(run=run).order_by("instance_id").select_related("instance")
    for item in items.iterator(chunk_size=_CHUNK):
        hasher.update(canonical_json(_frozen(item)) + b"\n")
    return f"sha256:{hasher.hexdigest()}"


def _head(run: BillingRun) -> dict[str, Any]:
    return {
        "run": str(run.pk),
        "period": run.period,
        "start": run.period_start.isoformat(),
        "end": run.period_end.isoformat(),
    }


def _frozen(item: BillingPlanItem) -> dict[str, Any]:
    return {
        "clientOrgId": item.instance.org_id,
        "instance": str(item.instance_id),
        "currency": item.currency,
        "plan": item.plan,
        "usage": {label: digest_of(usage) for label, usage in item.usage.items()},
        "lines": item.lines,
        "totalCents": item.total_cents,
    }
