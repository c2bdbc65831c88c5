"""The JSON of reconciliation: what is asked, and what is answered (camelCase; amounts in minor units)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.portal.fleet.wire import Instant, Wire
from provider_federation.portal.receivables.schemas import book_out
from provider_federation.portal.reconciliation import queries
from provider_federation.portal.reconciliation.classes import CLASSES, REPAIRS
from provider_federation.portal.reconciliation.differences import Difference, Says
from provider_federation.portal.reconciliation.models import InstanceAnswer, ReconciliationRow
from provider_federation.portal.reconciliation.services import Comparison

MOST_ROWS = 1000
MOST_UNANSWERED = 200

Month = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]
OrgId = Annotated[str, Field(min_length=1, max_length=128)]
ClassName = Annotated[str, Field(max_length=24)]


class _Body(Strict):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class StartIn(_Body):
    """A billing month, over all enabled clients unless one is named."""

    period: Month
    client_org_id: OrgId | None = None


class RepairIn(_Body):
    """Which rows to mend: of these classes, or these rows; all that have a repair when neither is given.
    `dry_run` (the default) says what would be done, and does nothing.
    """

    classes: list[ClassName] = Field(default=[], max_length=len(CLASSES))
    row_ids: list[Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]] = Field(default=[], max_length=MOST_ROWS)
    dry_run: bool = True


class ReconciliationProgressOut(Wire):
    of: int
    finished: int
    ledger: bool


class UnansweredOut(Wire):
    instance: str
    client_org_id: str
    reason: str
    error: str


class BooksOut(Wire):
    """Which books were read: the provider's Stripe account, and `answered` of `of` instances."""

    stripe: bool
    answered: int
    of: int
    complete: bool
    unanswered: list[UnansweredOut]


class ChangesOut(Wire):
    since: str
    new: int
    gone: int


class ReconciliationOut(Wire):
    id: str
    period: str
    client_org_id: str | None
    status: str
    agrees: bool
    differences: int
    classes: dict[str, int]
    progress: ReconciliationProgressOut
    failure: str
    requested_by: str
    created_at: Instant
    finished_at: Instant | None


class OneReportOut(Wire):
    ok: Literal[True] = True
    report: ReconciliationOut
    reused: bool = False


class WholeReportOut(Wire):
    """`figures`: what each book (`portal`, `stripe`) sums to by currency, in minor units, named as in the ledger."""

    ok: Literal[True] = True
    report: ReconciliationOut
    coverage: BooksOut
    figures: dict[str, dict[str, dict[str, int]]]
    changes: ChangesOut | None


class ReportsOut(Wire):
    ok: Literal[True] = True
    items: list[ReconciliationOut]
    next_cursor: str | None


class RowOut(Wire):
    """`portal`, `instance` and `stripe` are what each book says: a word, minor units of `currency`, a count."""

    id: str
    class_: Annotated[str, Field(alias="class")]
    subject: str
    message: str
    client_org_id: str | None
    currency: str
    portal: Says
    instance: Says
    stripe: Says
    gap_cents: int
    repair: str
    repaired_at: Instant | None
    repair_note: str


class RowsOut(Wire):
    ok: Literal[True] = True
    items: list[RowOut]
    next_cursor: str | None


class PlannedRepairOut(Wire):
    row_id: str
    class_: Annotated[str, Field(alias="class")]
    subject: str
    repair: str
    does: str


class RepairOut(Wire):
    """In a dry run what would be done; else how many are queued, and the rows say later what came of them."""

    ok: Literal[True] = True
    dry_run: bool
    queued: int
    planned: list[PlannedRepairOut]


def report_out(view: queries.ReportView) -> ReconciliationOut:
    report, progress = view.report, view.progress
    return ReconciliationOut(
        id=str(report.pk),
        period=report.period,
        client_org_id=report.client_org_id or None,
        status=report.status,
        agrees=view.agrees,
        differences=view.differences,
        classes=view.counts,
        progress=ReconciliationProgressOut(
            of=progress.of, finished=progress.finished, ledger=progress.ledger
        ),
        failure=report.failure,
        requested_by=report.requested_by,
        created_at=report.created_at,
        finished_at=report.finished_at,
    )


def whole_report_out(view: queries.ReportView) -> WholeReportOut:
    changes = queries.changes_of(view.report)
    return WholeReportOut(
        report=report_out(view),
        coverage=_books_out(view),
        figures={
            book: {
                currency: {to_camel(name): cents for name, cents in one.items()}
                for currency, one in sums.items()
            }
            for book, sums in view.report.figures.items()
        },
        changes=ChangesOut(since=str(changes.before.pk), new=changes.new, gone=changes.gone)
        if changes
        else None,
    )


def _books_out(view: queries.ReportView) -> BooksOut:
    missing = queries.unanswered(view.report)[:MOST_UNANSWERED]
    return BooksOut(
        stripe=view.progress.ledger,
        answered=view.progress.answered,
        of=view.progress.of,
        complete=view.progress.complete,
        unanswered=[_unanswered_out(one) for one in missing],
    )


def _unanswered_out(answer: InstanceAnswer) -> UnansweredOut:
    return UnansweredOut(
        instance=answer.instance.name,
        client_org_id=answer.instance.org_id,
        reason=answer.code,
        error=answer.sentence,
    )


def row_out(row: ReconciliationRow) -> RowOut:
    return RowOut(
        id=str(row.pk),
        class_=row.kind,
        subject=row.subject,
        message=row.message,
        client_org_id=row.instance.org_id if row.instance else None,
        currency=row.currency,
        portal=row.portal,
        instance=row.instance_says,
        stripe=row.stripe,
        gap_cents=row.gap_cents,
        repair=row.repair,
        repaired_at=row.repaired_at,
        repair_note=row.repair_note,
    )


def planned_repair_out(row: ReconciliationRow) -> PlannedRepairOut:
    return PlannedRepairOut(
        row_id=str(row.pk), class_=row.kind, subject=row.subject, repair=row.repair, does=REPAIRS[row.repair]
    )


def comparison_out(found: Comparison, client_org_id: str | None) -> dict[str, Any]:
    """The live comparison of the ledger with Stripe."""
    return {
        "ok": True,
        "agrees": found.agrees,
        "checkedAt": found.at.isoformat().replace("+00:00", "Z"),
        "clientOrgId": client_org_id,
        "portal": [book_out(*one) for one in sorted(found.portal.items())],
        "stripe": [book_out(*one) for one in sorted(found.stripe.items())],
        "differences": [_difference_out(one) for one in found.differences],
    }


def _difference_out(one: Difference) -> dict[str, Any]:
    return {
        "class": one.kind,
        "subject": one.subject,
        "message": one.message,
        "clientOrgId": one.client_org_id,
        "currency": one.currency,
        "portal": one.portal,
        "stripe": one.stripe,
        "repair": one.repair,
    }
