"""What the routes of billing runs take and answer: camelCase, ids as strings, amounts in minor units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun
from provider_federation.portal.billing_runs.queries import ItemPage, Report, RunPage
from provider_federation.portal.fleet.wire import Instant

OrgId = Annotated[str, Field(min_length=1, max_length=128)]


class _In(Strict):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=False)


class PlanIn(_In):
    """Which billing month, `YYYY-MM`. Nothing else: whom and how much follows from the books."""

    period: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}$")


class ApproveIn(_In):
    """The hash of the plan that was looked at."""

    plan_hash: str = Field(min_length=71, max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")


class RetryIn(_In):
    """Whose holds are taken up again (all when empty). `reviewed`: a person looked, so jumps and shrunken
    counters pass.
    """

    client_org_ids: list[OrgId] = Field(default_factory=list, max_length=1000)
    reviewed: bool = False


class Wire(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class BillingRunOut(Wire):
    """`planHash` is empty while it is planned; `approvedHash` is what may be executed."""

    id: str
    period: str
    status: Literal["planning", "planned", "approved", "executing", "done", "cancelled"]
    plan_hash: str
    approved_hash: str
    planned_by: str
    approved_by: str
    executed_by: str
    created_at: Instant
    planned_at: Instant | None
    approved_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None


class SumsOut(Wire):
    currency: str
    planned_cents: int
    billed_cents: int
    last_month_cents: int


class BillingCoverageOut(Wire):
    """`answered` of `of` clients could be read; `disabled` ones are in no run."""

    answered: int
    of: int
    complete: bool
    disabled: int


class BillingReportOut(Wire):
    """`states` and `holds` count clients; `totals` has one entry a currency."""

    states: dict[str, int]
    holds: dict[str, int]
    finished: int
    totals: list[SumsOut]
    coverage: BillingCoverageOut


class OneBillingRunOut(Wire):
    ok: Literal[True] = True
    run: BillingRunOut
    report: BillingReportOut


class BillingRunsOut(Wire):
    ok: Literal[True] = True
    items: list[BillingRunOut]
    next_cursor: str | None


class LineOut(Wire):
    """A frozen line. `lateFor` is the earlier month in which it arose, or empty."""

    kind: str
    description: str
    quantity: int
    unit_price_cents: int | None
    amount_cents: int
    late_for: str
    evidence: dict[str, Any]


class ItemOut(Wire):
    """One client's part of the plan."""

    client_org_id: str
    instance_id: str
    state: str
    currency: str
    plan: str
    total_cents: int
    last_month_cents: int | None
    lines: list[LineOut]
    usage_digest: str
    over_limits: list[str]
    hold_code: str
    hold_reason: str
    invoice_id: str | None
    stripe_invoice_id: str | None
    updated_at: Instant


class ItemsOut(Wire):
    ok: Literal[True] = True
    items: list[ItemOut]
    next_cursor: str | None


def run_out(run: BillingRun) -> BillingRunOut:
    names = ("period", "status", "plan_hash", "approved_hash", "planned_by", "approved_by", "executed_by")
    times = ("created_at", "planned_at", "approved_at", "started_at", "finished_at")
    return BillingRunOut.model_validate(
        {"id": str(run.pk), **{name: getattr(run, name) for name in names + times}}
    )


def one_run_out(report: Report) -> OneBillingRunOut:
    return OneBillingRunOut(run=run_out(report.run), report=report_out(report))


def report_out(report: Report) -> BillingReportOut:
    totals = [
        SumsOut(
            currency=currency,
            planned_cents=sums.planned,
            billed_cents=sums.billed,
            last_month_cents=sums.before,
        )
        for currency, sums in report.totals.items()
    ]
    coverage = BillingCoverageOut(
        answered=report.read,
        of=report.clients,
        complete=report.read == report.clients,
        disabled=report.disabled,
    )
    return BillingReportOut(
        states=report.states,
        holds=report.holds,
        finished=report.finished,
        totals=totals,
        coverage=coverage,
    )


def runs_out(page: RunPage) -> BillingRunsOut:
    return BillingRunsOut(items=[run_out(run) for run in page.items], next_cursor=page.next_cursor)


def items_out(page: ItemPage) -> ItemsOut:
    return ItemsOut(items=[item_out(item) for item in page.items], next_cursor=page.next_cursor)


def item_out(item: BillingPlanItem) -> ItemOut:
    invoice = item.invoice
    return ItemOut(
        client_org_id=item.instance.org_id,
        instance_id=str(item.instance_id),
        state=item.state,
        currency=item.currency,
        plan=item.plan,
        total_cents=item.total_cents,
        last_month_cents=item.previous_cents,
        lines=[LineOut.model_validate(line) for line in item.lines],
        usage_digest=item.usage_digest,
        over_limits=item.over_limits,
        hold_code=item.hold_code,
        hold_reason=item.hold_reason,
        invoice_id=str(invoice.pk) if invoice else None,
        stripe_invoice_id=invoice.stripe_invoice_id if invoice else None,
        updated_at=item.updated_at,
    )
