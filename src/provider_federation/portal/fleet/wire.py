"""The JSON that fleet answers with (docs/architecture.md: camelCase, ids as strings, cents as integers)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from provider_federation.portal.fleet.models import ClientInvoice, FleetCall
from provider_federation.portal.fleet.queries import Coverage, RunView, Totals, TotalsRow


def iso(at: datetime) -> str:
    """`2026-02-03T04:05:06.789Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]


class Wire(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class StaleOut(Wire):
    instance_id: str
    name: str
    title: str
    since: Instant | None
    reason: str
    error: str


class CoverageOut(Wire):
    """`answered` of `of` enabled instances are in the figures as of `asOf`; `stale` names the others."""

    answered: int
    of: int
    complete: bool
    as_of: Instant | None
    disabled: int
    stale: list[StaleOut]


class TotalsRowOut(Wire):
    key: str
    label: str
    currency: str
    count: int
    total_cents: int
    draft_cents: int
    billed_cents: int
    paid_cents: int
    outstanding_cents: int


class TotalsOut(Wire):
    ok: Literal[True] = True
    by: str
    rows: list[TotalsRowOut]
    sums: list[TotalsRowOut]
    coverage: CoverageOut


class CustomerOut(Wire):
    id: str
    name: str
    email: str


class InvoiceOut(Wire):
    id: str
    instance_id: str
    instance: str
    client: str
    remote_id: str
    number: str
    customer: CustomerOut
    status: str
    period_from: Instant | None
    period_to: Instant | None
    currency: str
    subtotal_cents: int
    tax_cents: int
    total_cents: int
    amount_paid_cents: int
    created_at: Instant
    updated_at: Instant
    sent_at: Instant | None
    paid_at: Instant | None
    stripe_invoice_id: str
    hosted_invoice_url: str


class InvoicesOut(Wire):
    ok: Literal[True] = True
    items: list[InvoiceOut]
    next_cursor: str | None
    coverage: CoverageOut


class ProgressOut(Wire):
    total: int
    finished: int
    waiting: int
    running: int
    ok: int
    failed: int
    cancelled: int


class RunOut(Wire):
    id: str
    action: str
    params: dict[str, Any]
    requested_by: str
    status: str
    progress: ProgressOut
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


class CallOut(Wire):
    id: str
    instance_id: str
    instance: str
    client: str
    subject: str
    status: str
    attempt: int
    outcome: str
    reason: str
    sentence: str
    result: dict[str, Any]
    started_at: Instant | None
    finished_at: Instant | None


class OneRunOut(Wire):
    ok: Literal[True] = True
    run: RunOut


class RunsOut(Wire):
    ok: Literal[True] = True
    items: list[RunOut]
    next_cursor: str | None


class RunCallsOut(Wire):
    ok: Literal[True] = True
    run: RunOut
    calls: list[CallOut]
    next_cursor: str | None


class SyncOut(Wire):
    """How many instances will be asked."""

    ok: Literal[True] = True
    queued: int


def coverage_out(coverage: Coverage) -> CoverageOut:
    stale = [
        StaleOut(
            instance_id=str(one.instance.pk),
            name=one.instance.name,
            title=one.instance.title,
            since=one.since,
            reason=one.code,
            error=one.sentence,
        )
        for one in coverage.stale
    ]
    return CoverageOut(
        answered=coverage.answered,
        of=coverage.of,
        complete=coverage.complete,
        as_of=coverage.as_of,
        disabled=coverage.disabled,
        stale=stale,
    )


def totals_out(by: str, totals: Totals) -> TotalsOut:
    return TotalsOut(
        by=by,
        rows=[_row(row) for row in totals.rows],
        sums=[_row(row) for row in totals.sums],
        coverage=coverage_out(totals.coverage),
    )


def invoice_out(invoice: ClientInvoice) -> InvoiceOut:
    return InvoiceOut(
        id=str(invoice.pk),
        instance_id=str(invoice.instance_id),
        instance=invoice.instance.name,
        client=invoice.instance.title,
        remote_id=invoice.remote_id,
        number=invoice.number,
        customer=CustomerOut(
            id=invoice.customer_id, name=invoice.customer_name, email=invoice.customer_email
        ),
        status=invoice.status,
        period_from=invoice.period_from,
        period_to=invoice.period_to,
        currency=invoice.currency,
        subtotal_cents=invoice.subtotal_cents,
        tax_cents=invoice.tax_cents,
        total_cents=invoice.total_cents,
        amount_paid_cents=invoice.amount_paid_cents,
        created_at=invoice.created_at,
        updated_at=invoice.updated_at,
        sent_at=invoice.sent_at,
        paid_at=invoice.paid_at,
        stripe_invoice_id=invoice.stripe_invoice_id,
        hosted_invoice_url=invoice.hosted_invoice_url,
    )


def run_out(view: RunView) -> RunOut:
    run, progress = view.run, view.progress
    return RunOut(
        id=str(run.pk),
        action=run.action,
        params=run.params,
        requested_by=run.requested_by,
        status=run.status,
        progress=ProgressOut(
            total=progress.total,
            finished=progress.finished,
            waiting=progress.waiting,
            running=progress.running,
            ok=progress.ok,
            failed=progress.failed,
            cancelled=progress.cancelled,
        ),
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def call_out(call: FleetCall) -> CallOut:
    return CallOut(
        id=str(call.pk),
        instance_id=str(call.instance_id),
        instance=call.instance.name,
        client=call.instance.title,
        subject=call.subject,
        status=call.status,
        attempt=call.attempt,
        outcome=call.outcome,
        reason=call.code,
        sentence=call.sentence,
        result=call.result,
        started_at=call.started_at,
        finished_at=call.finished_at,
    )


def _row(row: TotalsRow) -> TotalsRowOut:
    return TotalsRowOut(
        key=row.key,
        label=row.label,
        currency=row.currency,
        count=row.count,
        total_cents=row.total_cents,
        draft_cents=row.draft_cents,
        billed_cents=row.billed_cents,
        paid_cents=row.paid_cents,
        outstanding_cents=row.outstanding_cents,
    )
