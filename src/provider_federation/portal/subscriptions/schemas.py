"""What the subscription routes take and answer. Amounts are integers in the currency's minor unit."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.portal.subscriptions.models import Subscription
from provider_federation.portal.subscriptions.queries import Page, Summary

_STRICT = ConfigDict(
    extra="forbid", alias_generator=to_camel, populate_by_name=False, str_strip_whitespace=True
)


class BillingDetailsIn(Strict):
    """How the client is named on the provider's invoices."""

    model_config = _STRICT

    name: str = Field("", max_length=200)
    email: str = Field("", max_length=254, pattern=r"^([^@\s]+@[^@\s]+)?$")


class SubscribeIn(Strict):
    """Which client to which plan. There is no field for a price: the plan has it."""

    model_config = _STRICT

    client_org_id: str = Field(min_length=1, max_length=128)
    plan_id: Literal["BASE", "PRO", "ELITE"]
    payment_method_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_]{1,128}$")
    billing_details: BillingDetailsIn | None = None


def subscription_out(row: Subscription) -> dict[str, Any]:
    """One subscription. `hostedInvoiceUrl` is where an unpaid one is paid."""
    return {
        "id": str(row.pk),
        "clientOrgId": row.instance.org_id,
        "planId": row.plan,
        "status": row.status,
        "feeCents": row.fee_cents,
        "currency": row.currency,
        "currentPeriodStart": _when(row.current_period_start),
        "currentPeriodEnd": _when(row.current_period_end),
        "cancelAtPeriodEnd": row.cancel_at_period_end,
        "cancelledAt": _when(row.cancelled_at),
        "endedAt": _when(row.ended_at),
        "stripeSubscriptionId": row.stripe_subscription_id,
        "hostedInvoiceUrl": row.hosted_invoice_url or None,
        "failure": row.failure or None,
        "createdAt": _when(row.created_at),
    }


def page_out(page: Page, summary: Summary) -> dict[str, Any]:
    """A page, and the sums over every subscription there is."""
    return {
        "ok": True,
        "items": [subscription_out(row) for row in page.items],
        "nextCursor": page.next_cursor,
        "summary": {
            "total": summary.total,
            "byPlan": summary.by_plan,
            "byStatus": summary.by_status,
            "cancelling": summary.cancelling,
            "mrr": [
                {"currency": currency, "amountCents": cents} for currency, cents in summary.mrr_cents.items()
            ],
        },
    }


def _when(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
