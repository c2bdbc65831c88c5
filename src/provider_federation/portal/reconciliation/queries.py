"""Reading stored reports: their rows in pages, what each class counts, and what changed since the last one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.reconciliation.classes import CLASSES
from provider_federation.portal.reconciliation.models import (
    AnswerState,
    InstanceAnswer,
    ReconciliationReport,
    ReconciliationRow,
    ReportStatus,
)
from provider_federation.portal.subscriptions.queries import after_cursor


@dataclass(frozen=True)
class Progress:
    """Instances asked of `of`; `failed` of them did not answer. `ledger` says that Stripe's part is done."""

    of: int = 0
    answered: int = 0
    failed: int = 0
    ledger: bool = False

    @property
    def finished(self) -> int:
        return self.answered + self.failed

    @property
    def complete(self) -> bool:
        """Every book of every client was read."""
        return self.ledger and self.answered == self.of


@dataclass(frozen=True)
class Changes:
    """Against the report before, of the same month and client: rows that are new, and rows that are gone."""

    before: ReconciliationReport
    new: int
    gone: int


@dataclass(frozen=True)
class ReportView:
    """A report with its progress and how many differences it holds of each class."""

    report: ReconciliationReport
    progress: Progress
    counts: dict[str, int]

    @property
    def differences(self) -> int:
        return sum(self.counts.values())

    @property
    def agrees(self) -> bool:
        """Done, everybody answered, and nothing differs."""
        return self.report.status == ReportStatus.DONE and self.progress.complete and not self.differences


@dataclass(frozen=True)
class RowFilter:
    """Which rows; everything may be left out."""

    kind: str = ""
    client_org_id: str = ""
    repairable: bool | None = None


@dataclass(frozen=True)
class RowPage:
    """In the order they were found. `next_cursor` is None on the last page."""

    items: list[ReconciliationRow]
    next_cursor: str | None


def get_report(report_id: str) -> ReconciliationReport:
    """Problem 404 when there is none, or the id is not one."""
    try:
        key = UUID(report_id)
    except ValueError:
        raise not_found("reconciliation") from None
    found = ReconciliationReport.objects.filter(pk=key).first()
    if found is None:
        raise not_found("reconciliation")
    return found


def view_of(report: ReconciliationReport) -> ReportView:
    """See `ReportView`; two grouped queries."""
    return views_of([report])[0]


def views_of(reports: Sequence[ReconciliationReport]) -> list[ReportView]:
    """The same for many, with two queries in all."""
    keys = [report.pk for report in reports]
    counts = _grouped(ReconciliationRow.objects.filter(report__in=keys), "kind")
    states = _grouped(InstanceAnswer.objects.filter(report__in=keys), "state")
    return [
        ReportView(
            report,
            _progress(report, states.get(report.pk, {})),
            dict(sorted(counts.get(report.pk, {}).items())),
        )
        for report in reports
    ]


def changes_of(report: ReconciliationReport) -> Changes | None:
    """Since the last report of the same month and client that was done; None when this is the first."""
    earlier = ReconciliationReport.objects.filter(
        period=report.period,
        client_org_id=report.client_org_id,
        status=ReportStatus.DONE,
        created_at__lt=report.created_at,
    )
    before = earlier.order_by("-created_at").first()
    if before is None:
        return None
    return Changes(before, new=_not_in(report, before), gone=_not_in(before, report))


def list_reports(
    *, period: str = "", cursor: str = "", limit: int = 25
) -> tuple[list[ReportView], str | None]:
    """Newest first, and the cursor of the next page. Problem 400 `bad_cursor`."""
    rows = ReconciliationReport.objects.order_by("-created_at", "-id")
    rows = rows.filter(period=period) if period else rows
    rows = rows.filter(after_cursor(cursor)) if cursor else rows
    found = list(rows[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    following = encode_cursor(found[-1].created_at.isoformat(), str(found[-1].pk)) if more else None
    return views_of(found), following


def page_of_rows(
    report: ReconciliationReport, chosen: RowFilter | None = None, *, cursor: str = "", limit: int = 100
) -> RowPage:
    """One page of a report's rows. Problem 400 `bad_cursor`, `invalid_field` for a class there is not."""
    rows = filtered_rows(report, chosen or RowFilter()).order_by("pk")
    if cursor:
        rows = rows.filter(pk__gt=decode_cursor(cursor, (int,))[0])
    found = list(rows[: limit + 1])
    return RowPage(found[:limit], encode_cursor(found[limit - 1].pk) if len(found) > limit else None)


def all_rows(report: ReconciliationReport, chosen: RowFilter | None = None) -> Iterable[ReconciliationRow]:
    """Every row that the filter lets through, streamed."""
    return filtered_rows(report, chosen or RowFilter()).order_by("pk").iterator(chunk_size=1000)


def filtered_rows(report: ReconciliationReport, chosen: RowFilter) -> QuerySet[ReconciliationRow]:
    """The rows of a report that the filter lets through, with their instances."""
    if chosen.kind and chosen.kind not in CLASSES:
        raise Problem(400, "invalid_field", f"class: one of {', '.join(CLASSES)}.", field="class")
    rows = report.rows.select_related("instance")
    if chosen.kind:
        rows = rows.filter(kind=chosen.kind)
    if chosen.client_org_id:
        rows = rows.filter(instance__org_id=chosen.client_org_id)
    if chosen.repairable is not None:
        mendable = ~Q(repair="") & Q(repaired_at=None)
        rows = rows.filter(mendable if chosen.repairable else ~mendable)
    return rows


def unanswered(report: ReconciliationReport) -> QuerySet[InstanceAnswer]:
    """The instances that did not answer, with the reason."""
    return (
        report.answers.filter(state=AnswerState.FAILED).select_related("instance").order_by("instance__name")
    )


def last_report() -> ReportView | None:
    """The newest one that is done, over all clients."""
    found = ReconciliationReport.objects.filter(status=ReportStatus.DONE, client_org_id="").first()
    return view_of(found) if found else None


def new_since(report: ReconciliationReport, before: ReconciliationReport) -> QuerySet[ReconciliationRow]:
    """The rows of `report` that `before` did not have: neither that class nor that subject."""
    same = ReconciliationRow.objects.filter(report=before, kind=OuterRef("kind"), subject=OuterRef("subject"))
    return report.rows.filter(~Exists(same))


def _not_in(report: ReconciliationReport, other: ReconciliationReport) -> int:
    return new_since(report, other).count()


def _grouped(
    rows: QuerySet[ReconciliationRow] | QuerySet[InstanceAnswer], name: str
) -> dict[UUID, dict[str, int]]:
    found: dict[UUID, dict[str, int]] = {}
    counted = rows.order_by().values_list("report_id", name).annotate(count=Count("pk"))
    for report_id, value, count in counted:
        found.setdefault(report_id, {})[value] = count
    return found


def _progress(report: ReconciliationReport, states: dict[str, int]) -> Progress:
    return Progress(
        of=sum(states.values()),
        answered=states.get(AnswerState.ANSWERED.value, 0),
        failed=states.get(AnswerState.FAILED.value, 0),
        ledger=report.ledger_at is not None,
    )
