"""`provider-federation portal reconcile`: compare the three books of a month, show what differs, mend what is
safe.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider_federation.cli.portal_shell import AsJson, actor, load_portal, print_json, write_file

if TYPE_CHECKING:
    from provider_federation.portal.reconciliation.models import ReconciliationReport
    from provider_federation.portal.reconciliation.queries import ReportView

AGREE, DIFFER, INCOMPLETE = 0, 1, 3
_SHOWN = 20


def reconcile(
    period: Annotated[str, typer.Option(help="The billing month, YYYY-MM.")],
    client: Annotated[str, typer.Option(help="Only this client, by its org id.")] = "",
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is safe to mend, then compare again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what --repair would do, and do nothing.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every difference to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare portal, instances and Stripe for a month. Exits 0 when all agree, 1 when something differs, 3 when
    nothing differs but somebody did not answer.
    """
    load_portal()
    from provider_federation.portal.reconciliation import queries, services
    from provider_federation.portal.reconciliation.schemas import whole_report_out

    report = _compare(period, client)
    if (repair or dry_run) and report.status == "done":
        for row in services.repairable(report):
            _say(f"{'would' if dry_run else 'does'} {row.repair}: {row.message}", as_json)
        if repair and not dry_run:
            report = _mend(report, period, client, as_json=as_json)
    view = queries.view_of(report)
    if as_json:
        print_json(whole_report_out(view).model_dump(by_alias=True, mode="json"))
    else:
        _show(view)
    if csv is not None:
        _write(report, csv)
    raise typer.Exit(_code(view))


def _compare(period: str, client: str) -> ReconciliationReport:
    """In this process; a worker that has the report's job as well finds it done."""
    from provider_federation.portal.directory.queries import get_by_org
    from provider_federation.portal.reconciliation import services
    from provider_federation.portal.revenue.periods import month

    instance = get_by_org(client) if client else None
    report, _ = services.start_report(month(period), instance, actor=actor())
    return services.work_on_report(report.pk)


def _mend(report: ReconciliationReport, period: str, client: str, *, as_json: bool) -> ReconciliationReport:
    from provider_federation.portal.reconciliation import services

    rows = services.repairable(report)
    for row in services.repair_rows(report.pk, [row.pk for row in rows], actor=actor()):
        _say(f"{row.repair}: {row.repair_note}", as_json)
    return _compare(period, client) if rows else report


def _say(sentence: str, as_json: bool) -> None:
    """With --json, standard output is the JSON's."""
    print(sentence, file=sys.stderr if as_json else sys.stdout)


def _show(view: ReportView) -> None:
    from provider_federation.portal.reconciliation import queries
    from provider_federation.portal.reconciliation.classes import CLASSES

    report, progress = view.report, view.progress
    if report.failure:
        print(f"Stripe could not be read: {report.failure}", file=sys.stderr)
    print(
        f"{report}: {view.differences} differences; {progress.answered} of {progress.of} instances answered."
    )
    for answer in queries.unanswered(report):
        print(f"  {answer.instance} did not answer ({answer.code}): {answer.sentence}")
    for kind, count in view.counts.items():
        print(f"  {count} x {CLASSES[kind].label}: {CLASSES[kind].remedy}")
    for row in report.rows.order_by("pk")[:_SHOWN]:
        print(f"    [{row.kind}] {row.message}")
    if view.differences > _SHOWN:
        print(f"    and {view.differences - _SHOWN} more; --csv writes all of them")


def _write(report: ReconciliationReport, path: Path) -> None:
    from provider_federation.portal.reconciliation import queries
    from provider_federation.portal.reconciliation.export import rows_csv

    write_file(path, rows_csv(queries.all_rows(report)))


def _code(view: ReportView) -> int:
    if view.differences:
        return DIFFER
    return AGREE if view.agrees else INCOMPLETE
