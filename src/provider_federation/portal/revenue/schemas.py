"""What the revenue routes take and answer. Amounts are integers in the currency's minor unit, beside the
currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ninja import Field
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.money import PRICE_CURRENCY, Period
from provider_federation.portal.fleet.queries import Coverage
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.periods import label_of
from provider_federation.portal.revenue.services import AllRevenue, ClientRevenue, Invoiced


class InvoiceUsageIn(Strict):
    """Whom and which billing month. There is no field for an amount: amounts are calculated."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=False, str_strip_whitespace=True
    )

    client_org_id: str = Field(min_length=1, max_length=128)
    period_start: str = Field(
        min_length=1, max_length=40, description="the month's first day, or its first instant"
    )
    period_end: str = Field(
        min_length=1, max_length=40, description="the month's last day, or the instant after it"
    )


def client_revenue_out(revenue: ClientRevenue, months: list[Period]) -> dict[str, Any]:
    """The contract's shape (section 4) for one client."""
    return {
        "ok": True,
        "revenue": {**_amounts(revenue), "clientOrgId": revenue.instance.org_id, **_billing_period(months)},
        "breakdown": _breakdown(revenue),
        "period": _period(months),
        "note": revenue.note,
    }


def all_revenue_out(revenue: AllRevenue, months: list[Period]) -> dict[str, Any]:
    """The same over all clients. `revenue` is in the price list's currency; `totals` has one entry a
    currency.
    """
    totals = revenue.totals()
    main = totals.get(PRICE_CURRENCY.lower())
    return {
        "ok": True,
        "revenue": {
            **(_amounts(main) if main else _nothing(PRICE_CURRENCY.lower())),
            "clientOrgId": None,
            "status": "complete" if revenue.coverage.complete else "partial",
            **_billing_period(months),
        },
        "breakdown": _breakdown(main) if main else None,
        "period": _period(months),
        "totals": [_amounts(one) | {"status": None} for _, one in sorted(totals.items())],
        "clients": [
            {**_amounts(one), "clientOrgId": one.instance.org_id, "note": one.note} for one in revenue.clients
        ],
        "coverage": coverage_out(revenue.coverage),
    }


def coverage_out(coverage: Coverage) -> dict[str, Any]:
    """How many of how many answered, and why the others did not."""
    return {
        "answered": coverage.answered,
        "of": coverage.of,
        "complete": coverage.complete,
        "asOf": _when(coverage.as_of),
        "disabled": coverage.disabled,
        "stale": [
            {
                "clientOrgId": one.instance.org_id,
                "name": one.instance.name,
                "since": _when(one.since),
                "reason": one.code,
                "error": one.sentence,
            }
            for one in coverage.stale
        ],
    }


def invoiced_out(result: Invoiced) -> dict[str, Any]:
    """`invoice` is null when there is nothing to bill; `message` says what happened."""
    invoice = usage_invoice_out(result.invoice, lines=True) if result.invoice else None
    return {"ok": True, "reused": result.reused, "invoice": invoice, "message": result.message}


def usage_invoice_out(row: UsageInvoice, *, lines: bool = False) -> dict[str, Any]:
    """One usage invoice, with its frozen lines where asked."""
    answer: dict[str, Any] = {
        "id": str(row.pk),
        "clientOrgId": row.instance.org_id,
        "period": row.period,
        "billingPeriodStart": _when(row.period_start),
        "billingPeriodEnd": _when(row.period_end),
        "status": row.status,
        "plan": row.plan,
        "currency": row.currency,
        "totalCents": row.total_cents,
        "amountPaidCents": row.paid_cents,
        "amountRemainingCents": row.remaining_cents,
        "number": row.number or None,
        "stripeInvoiceId": row.stripe_invoice_id,
        "hostedInvoiceUrl": row.hosted_invoice_url or None,
        "holdCode": row.hold_code or None,
        "holdReason": row.hold_reason or None,
        "failure": row.failure or None,
        "createdAt": _when(row.created_at),
        "paidAt": _when(row.paid_at),
    }
    if lines:
        answer["lines"] = [_line(line) for line in row.lines.order_by("position")]
    return answer


def _line(line: Any) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "description": line.description,
        "quantity": line.quantity,
        "unitPriceCents": line.unit_price_cents,
        "amountCents": line.amount_cents,
    }


def _amounts(revenue: ClientRevenue) -> dict[str, Any]:
    return {
        "subscriptionRevenue": revenue.subscription.amount,
        "usageRevenue": revenue.usage.amount,
        "aiUsageRevenue": revenue.ai.amount,
        "totalRevenue": revenue.total,
        "currency": revenue.currency,
        "status": revenue.status,
    }


def _nothing(currency: str) -> dict[str, Any]:
    names: Iterable[str] = ("subscriptionRevenue", "usageRevenue", "aiUsageRevenue", "totalRevenue")
    return {**dict.fromkeys(names, 0), "currency": currency}


def _breakdown(revenue: ClientRevenue) -> dict[str, Any]:
    return {
        "subscription": {
            "amount": revenue.subscription.amount,
            "description": revenue.subscription.description,
        },
        "usage": {
            "amount": revenue.usage.amount,
            "description": revenue.usage.description,
            "leadCount": revenue.usage.count,
        },
        "aiUsage": {"amount": revenue.ai.amount, "description": revenue.ai.description},
    }


def _billing_period(months: list[Period]) -> dict[str, Any]:
    return {"billingPeriodStart": _when(months[0].start), "billingPeriodEnd": _when(months[-1].end)}


def _period(months: list[Period]) -> dict[str, Any]:
    return {"start": _when(months[0].start), "end": _when(months[-1].end), "label": label_of(months)}


def _when(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
