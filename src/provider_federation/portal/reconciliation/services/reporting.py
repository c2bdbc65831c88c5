"""A stored report: started once for a month, worked on by a job that any worker may take over, then finished.

The ledger is compared first; then the instances, shard by shard. What one shard found commits with its
instances' answers, so that a worker that dies costs at most a shard that is then asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import IntegrityError, transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import MoneyError, Period
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.queries import Stale, coverage
from provider_federation.portal.fleet.schemas import RemoteInvoice
from provider_federation.portal.receivables.ledger import Owed
from provider_federation.portal.reconciliation.differences import Difference
from provider_federation.portal.reconciliation.models import (
    UNFINISHED,
    AnswerState,
    InstanceAnswer,
    ReconciliationReport,
    ReconciliationRow,
    ReportStatus,
)
from provider_federation.portal.reconciliation.services.jobs import defer_work
from provider_federation.portal.reconciliation.services.ledger import Comparison, compare_provider_account
from provider_federation.portal.reconciliation.services.mirror_side import compare_mirror, list_many
from provider_federation.portal.reconciliation.services.stripe_side import Scope
from provider_federation.portal.reconciliation.services.usage_side import compare_usage
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.usage import Reading, pull_many
from provider_federation.portal.shim import Outcome

SHARD = 50
FIGURES = ("gross", "credited", "billed", "tax", "paid", "off_stripe", "outstanding", "written_off")
_BATCH = 500


def start_report(
    period: Period, instance: Instance | None = None, *, actor: str
) -> tuple[ReconciliationReport, bool]:
    """The report of a month, of all enabled clients or one; and whether it is new. One that is under way for
    the same is answered instead. The job commits with it.
    """
    client = instance.org_id if instance else ""
    existing = _under_way(period, client)
    if existing is not None:
        return existing, False
    try:
        with transaction.atomic():
            report = _new_report(period, instance, actor)
            defer_work(report.pk)
    except IntegrityError:  # somebody else was first
        return ReconciliationReport.objects.get(
            period=period.label, client_org_id=client, status__in=UNFINISHED
        ), False
    return report, True


def work_on_report(report_id: UUID) -> ReconciliationReport:
    """Bring a report to its end, from wherever it stands. Raises Problem 503 when Stripe may answer later."""
    report = ReconciliationReport.objects.get(pk=report_id)
    if report.status not in UNFINISHED:
        return report
    ReconciliationReport.objects.filter(pk=report.pk).update(status=ReportStatus.RUNNING)
    period = month(report.period)
    if report.ledger_at is None and not _ledger(report, period):
        return report
    behind = {one.instance.pk: one for one in coverage().stale}
    while shard := _waiting(report):
        _instances(report, period, shard, behind)
    return _finish(report)


def _under_way(period: Period, client: str) -> ReconciliationReport | None:
    rows = ReconciliationReport.objects.filter(period=period.label, client_org_id=client)
    return rows.filter(status__in=UNFINISHED).first()


def _new_report(period: Period, instance: Instance | None, actor: str) -> ReconciliationReport:
    report = ReconciliationReport.objects.create(
        period=period.label,
        client_org_id=instance.org_id if instance else "",
        requested_by=actor,
        created_at=clock.now(),
    )
    chosen = [instance] if instance else Instance.objects.filter(enabled=True).order_by("name")
    answers = [InstanceAnswer(report=report, instance=one) for one in chosen]
    InstanceAnswer.objects.bulk_create(answers, batch_size=_BATCH)
    record(
        Kind.RECONCILIATION_STARTED,
        actor,
        f"reconciliation:{report.pk}",
        period=period.label,
        clients=len(answers),
    )
    return report


def _ledger(report: ReconciliationReport, period: Period) -> bool:
    """The ledger's part; False when Stripe refuses for good, and the report has failed."""
    one = Instance.objects.filter(org_id=report.client_org_id).first() if report.client_org_id else None
    try:
        found = compare_provider_account(Scope(period, one))
    except Problem as problem:
        if problem.status == 503 and problem.code == "stripe_unavailable":
            raise
        _fail(report, problem.message)
        return False
    with transaction.atomic():
        report.figures = _figures(found)
        report.ledger_at = clock.now()
        report.save(update_fields=["figures", "ledger_at"])
        _store(report, found.differences)
    return True


def _figures(found: Comparison) -> dict[str, dict[str, dict[str, int]]]:
    return {
        "portal": {currency: _compared(totals) for currency, totals in found.portal.items()},
        "stripe": {currency: _compared(totals) for currency, totals in found.stripe.items()},
    }


def _compared(totals: Owed) -> dict[str, int]:
    """What both books know of their invoices; refunds are compared one by one, and due dates are the portal's."""
    return {name: getattr(totals, name) for name in FIGURES}


def _fail(report: ReconciliationReport, sentence: str) -> None:
    report.status, report.failure, report.finished_at = ReportStatus.FAILED, sentence[:500], clock.now()
    report.save(update_fields=["status", "failure", "finished_at"])


def _waiting(report: ReconciliationReport) -> list[InstanceAnswer]:
    rows = InstanceAnswer.objects.filter(report=report, state=AnswerState.WAITING).select_related("instance")
    return list(rows.order_by("pk")[:SHARD])


def _instances(
    report: ReconciliationReport, period: Period, shard: Sequence[InstanceAnswer], behind: dict[UUID, Stale]
) -> None:
    instances = [answer.instance for answer in shard]
    readings = pull_many([(instance, period) for instance in instances])
    listings = list_many(instances, period)
    with transaction.atomic():
        for answer in shard:
            key = answer.instance_id
            found = _one(answer, period, readings[key, period.label], listings[key], behind.get(key))
            _store(report, found)
        InstanceAnswer.objects.bulk_update(
            shard, ["state", "code", "sentence", "leads", "ai_cost", "invoices", "at"], batch_size=_BATCH
        )


def _one(
    answer: InstanceAnswer,
    period: Period,
    reading: Reading | Problem,
    listing: list[RemoteInvoice] | Outcome,
    behind: Stale | None,
) -> list[Difference]:
    """What one instance's answers differ in; what it did not answer stands in `answer`."""
    answer.state, answer.at = AnswerState.ANSWERED, clock.now()
    found: list[Difference] = []
    try:
        found += _usage(answer, period, reading)
    except MoneyError as error:
        _unanswered(answer, error.code, error.message)
    if not isinstance(listing, list):
        _unanswered(answer, listing.code, listing.sentence)
        return found
    answer.invoices = len(listing)
    return [*found, *compare_mirror(answer.instance, period, listing, behind)]


def _usage(answer: InstanceAnswer, period: Period, reading: Reading | Problem) -> list[Difference]:
    if isinstance(reading, Problem):
        _unanswered(answer, str(reading.details.get("outcome", reading.code)), reading.message)
        return []
    answer.leads, answer.ai_cost = len(reading.usage.leads), str(reading.usage.ai_cost)
    return list(compare_usage(answer.instance, period, reading))


def _unanswered(answer: InstanceAnswer, code: str, sentence: str) -> None:
    answer.state, answer.code, answer.sentence = AnswerState.FAILED, code[:80], sentence[:500]


def _store(report: ReconciliationReport, differences: Iterable[Difference]) -> None:
    rows = [
        ReconciliationRow(
            report=report,
            instance=one.instance,
            kind=one.kind,
            subject=one.subject[:250],
            message=one.message[:500],
            currency=one.currency,
            portal=one.portal,
            instance_says=one.instance_says,
            stripe=one.stripe,
            gap_cents=one.gap_cents,
            repair=one.repair,
            target=one.target,
        )
        for one in differences
    ]
    ReconciliationRow.objects.bulk_create(rows, batch_size=_BATCH, ignore_conflicts=True)


def _finish(report: ReconciliationReport) -> ReconciliationReport:
    with transaction.atomic():
        report = ReconciliationReport.objects.select_for_update().get(pk=report.pk)
        if report.status not in UNFINISHED:
            return report
        report.status, report.finished_at = ReportStatus.DONE, clock.now()
        report.save(update_fields=["status", "finished_at"])
        answered = report.answers.filter(state=AnswerState.ANSWERED).count()
        facts = {"differences": report.rows.count(), "answered": answered, "of": report.answers.count()}
        record(
            Kind.RECONCILED, report.requested_by, f"reconciliation:{report.pk}", period=report.period, **facts
        )
    return report
