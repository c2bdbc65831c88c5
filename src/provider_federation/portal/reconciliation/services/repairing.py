"""Safe repairs of single differences. None sends money, makes an invoice, or changes one that is final; what a
repair did is an audit event, and the next report shows whether it helped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.sync import rebuild_mirror
from provider_federation.portal.receivables.services.mirror import refresh_credit_note, refresh_refund
from provider_federation.portal.reconciliation.classes import ADOPT, REFETCH, REMOVE_DRAFT, RESYNC
from provider_federation.portal.reconciliation.models import (
    ReconciliationReport,
    ReconciliationRow,
    ReportStatus,
)
from provider_federation.portal.reconciliation.services.jobs import defer_repair
from provider_federation.portal.reconciliation.services.stripe_side import invoice_now
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions.account import problem_of, provider_account
from provider_federation.portal.subscriptions.applying import Foreign, refresh_subscription
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.stripe_account import Patience, Step, StripeFailed, run_step

Repair = Callable[[ReconciliationRow], str]


def repairable(
    report: ReconciliationReport, *, kinds: Sequence[str] = (), row_ids: Sequence[int] = ()
) -> list[ReconciliationRow]:
    """The rows that a repair could mend and that none has: of these classes or ids, all when none are given.
    This is also the dry run: nothing is changed.
    """
    rows = report.rows.exclude(repair="").filter(repaired_at=None).select_related("instance")
    if kinds:
        rows = rows.filter(kind__in=kinds)
    if row_ids:
        rows = rows.filter(pk__in=row_ids)
    return list(rows.order_by("pk"))


def request_repair(report: ReconciliationReport, rows: Sequence[ReconciliationRow], *, actor: str) -> int:
    """Queue the repair of these rows; how many. Problem 409 while the report is not done."""
    _check_done(report)
    with transaction.atomic():
        if rows:
            defer_repair(report.pk, [row.pk for row in rows], actor)
            record(Kind.REPAIR_REQUESTED, actor, f"reconciliation:{report.pk}", rows=len(rows))
    return len(rows)


def repair_rows(report_id: UUID, row_ids: Sequence[int], *, actor: str) -> list[ReconciliationRow]:
    """Mend these rows now, one after the other; each says what came of it. A mended one is left alone."""
    report = ReconciliationReport.objects.get(pk=report_id)
    _check_done(report)
    rows = repairable(report, row_ids=row_ids)
    done: dict[tuple[str, str], str] = {}
    for row in rows:
        work = (row.repair, row.target)
        if work not in done:  # several differences of one invoice are mended by one look
            done[work] = _attempt(row)
        _note(row, done[work], actor)
    return rows


def _check_done(report: ReconciliationReport) -> None:
    if report.status != ReportStatus.DONE:
        raise Problem(409, "report_not_done", "This report is not done; repair what it found when it is.")


def _attempt(row: ReconciliationRow) -> str:
    """What was done; or, behind `failed:`, why it could not be."""
    try:
        return _REPAIRS[row.repair](row)
    except StripeFailed as failure:
        return f"failed: {problem_of(failure).message}"
    except (Foreign, Problem) as refused:
        return f"failed: {refused.message}"


def _note(row: ReconciliationRow, outcome: str, actor: str) -> None:
    worked = not outcome.startswith("failed: ")
    with transaction.atomic():
        row.repaired_at = clock.now() if worked else None
        row.repair_note = outcome[:500]
        row.save(update_fields=["repaired_at", "repair_note"])
        kind = Kind.REPAIRED if worked else Kind.REPAIR_FAILED
        record(kind, actor, row.subject, repair=row.repair, difference=row.kind, note=outcome)


def _refetch(row: ReconciliationRow) -> str:
    if row.kind == "subscription":
        subscription = refresh_subscription(row.target)
        return f"The subscription is {subscription.status}."
    if row.kind == "credit_note":
        return f"The credit note is {refresh_credit_note(row.target).state}."
    if row.kind == "refund":
        return f"The refund is {refresh_refund(row.target).state}."
    invoice = refresh_any_invoice(row.target)
    return f"The invoice {invoice.number or row.target} is {invoice.status}."


def _remove_draft(row: ReconciliationRow) -> str:
    """Only a draft, only one of our orders, and only while the ledger holds another invoice of it."""
    theirs = invoice_now(row.target)
    if theirs is None:
        return "The draft is gone."
    order = UsageInvoice.objects.filter(order_key=theirs.metadata.get("pf_key", "")).first()
    if theirs.status != "draft" or order is None or order.stripe_invoice_id in {None, row.target}:
        raise Problem(
            409, "not_a_second_draft", "It is no second draft of an order any more; nothing was removed."
        )
    step = Step(
        f"reconcile:{row.target}", "remove-draft", lambda _since: _gone(row.target), _remove(row.target)
    )
    run_step(step, DatabaseJournal(), clock.now, Patience())
    return "The second draft was removed."


def _gone(stripe_invoice_id: str) -> str | None:
    return stripe_invoice_id if invoice_now(stripe_invoice_id) is None else None


def _remove(stripe_invoice_id: str) -> Callable[[str], str]:
    def make(idempotency_key: str) -> str:
        provider_account().delete_draft(stripe_invoice_id, idempotency_key=idempotency_key)
        return stripe_invoice_id

    return make


def _resync(row: ReconciliationRow) -> str:
    rebuild_mirror(Instance.objects.get(pk=row.target))
    return "Its invoices are read again from the beginning."


_REPAIRS: dict[str, Repair] = {
    REFETCH: _refetch,
    ADOPT: _refetch,
    REMOVE_DRAFT: _remove_draft,
    RESYNC: _resync,
}


__all__ = ["repair_rows", "repairable", "request_repair"]
