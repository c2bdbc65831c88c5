"""`provider-federation portal billing …`: a month's billing run, from its plan to its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider_federation.cli.portal_shell import AsJson, actor, load_portal, print_json

if TYPE_CHECKING:
    from provider_federation.portal.billing_runs.models import BillingRun
    from provider_federation.portal.billing_runs.queries import Report

app = typer.Typer(
    no_args_is_help=True, help="Billing runs: plan, show, approve, execute, report, cancel, retry."
)

Run = Annotated[str, typer.Argument(help="The run's id, or the month YYYY-MM for its newest run.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until it is over.")]

_MOST_ROWS = 200
_POLL_SECONDS = 0.5


@app.command()
def plan(period: str, *, wait: Wait = True, as_json: AsJson = False) -> None:
    """Pull and rate every client's usage of a month, and freeze it under one hash. Workers do it."""
    load_portal()
    from provider_federation.portal.billing_runs import services

    run = services.start_plan(period, actor=actor())
    _finish(run, wait=wait, as_json=as_json)


@app.command()
def show(
    run: Run,
    *,
    held: Annotated[bool, typer.Option("--held", help="Only the held clients.")] = False,
    sort: Annotated[str, typer.Option(help="client, difference or total")] = "difference",
    as_json: AsJson = False,
) -> None:
    """Review a plan, client by client."""
    found = _run(run)
    from provider_federation.portal.billing_runs import queries
    from provider_federation.portal.billing_runs.schemas import items_out

    page = queries.list_items(found, state="held" if held else "", sort=sort, limit=_MOST_ROWS)
    if as_json:
        report = _as_json(queries.report(found))
        print_json({**report, "items": items_out(page).model_dump(by_alias=True, mode="json")["items"]})
        return
    _print_report(queries.report(found))
    _print_items(page.items)
    if page.next_cursor:
        print(f"The first {_MOST_ROWS} are shown; `report --csv` has all.")


@app.command()
def approve(
    run: Run,
    plan_hash: Annotated[str, typer.Option("--hash", help="The hash of the plan that you looked at.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Allow the plan with this hash, and no other, to be executed."""
    found = _run(run)
    from provider_federation.portal.billing_runs import services

    _finish(services.approve_plan(found.pk, plan_hash, actor=actor()), wait=False, as_json=as_json)


@app.command()
def execute(run: Run, *, wait: Wait = True, as_json: AsJson = False) -> None:
    """Bill exactly what was approved; a run that was cancelled half-way goes on. Workers do it."""
    found = _run(run)
    from provider_federation.portal.billing_runs import services

    _finish(services.execute_plan(found.pk, actor=actor()), wait=wait, as_json=as_json)


@app.command()
def report(
    run: Run,
    *,
    csv: Annotated[Path | None, typer.Option(help="Write a row for every client to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Counts, totals with their coverage, and who is held and why."""
    found = _run(run)
    from provider_federation.portal.billing_runs import queries

    if csv is not None:
        with csv.open("w", encoding="utf-8", newline="") as file:
            file.writelines(queries.report_csv(found))
    _finish(found, wait=False, as_json=as_json)


@app.command()
def cancel(run: Run, *, as_json: AsJson = False) -> None:
    """Bill nobody whose invoice is not on its way yet."""
    found = _run(run)
    from provider_federation.portal.billing_runs import services

    _finish(services.cancel_run(found.pk, actor=actor()), wait=False, as_json=as_json)


@app.command()
def retry(
    run: Run,
    *,
    client: Annotated[list[str] | None, typer.Option(help="Only this client, by its org id.")] = None,
    reviewed: Annotated[
        bool, typer.Option("--reviewed", help="You looked: jumps and shrunken counters pass.")
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Plan the held clients again; the plan gets a new hash and needs a new approval."""
    found = _run(run)
    from provider_federation.portal.billing_runs import services

    again = services.retry_held(found.pk, actor=actor(), only=client or (), reviewed=reviewed)
    _finish(again, wait=wait, as_json=as_json)


def _run(name: str) -> BillingRun:
    load_portal()
    from provider_federation.portal.billing_runs import queries
    from provider_federation.portal.billing_runs.models import BillingRun

    newest = BillingRun.objects.filter(period=name).order_by("-created_at").first()
    return newest or queries.get_run(name)


def _finish(run: BillingRun, *, wait: bool, as_json: bool) -> None:
    from provider_federation.portal.billing_runs import queries

    if wait:
        _watch(run)
    run.refresh_from_db()
    found = queries.report(run)
    if as_json:
        print_json(_as_json(found))
    else:
        _print_report(found)


def _watch(run: BillingRun) -> None:
    """A bar on standard error until the phase is over; leaving it (Ctrl-C) stops nothing."""
    from time import sleep

    from rich.console import Console
    from rich.progress import Progress

    from provider_federation.portal.billing_runs import queries

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(run.status, total=None)
        while True:
            run.refresh_from_db()
            found = queries.report(run)
            done = (
                found.finished if run.status != "planning" else found.clients - found.states.get("waiting", 0)
            )
            progress.update(bar, description=run.status, completed=done, total=found.clients)
            if run.status not in {"planning", "executing"}:
                return
            sleep(_POLL_SECONDS)


def _as_json(found: Report) -> dict[str, Any]:
    from provider_federation.portal.billing_runs.schemas import one_run_out

    return one_run_out(found).model_dump(by_alias=True, mode="json")


def _print_report(found: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    run = found.run
    console = Console(soft_wrap=True)
    console.print(f"{run.period}  {run.status}  {run.pk}", highlight=False)
    if run.plan_hash:
        console.print(f"hash {run.plan_hash}", highlight=False)
    console.print(
        f"{found.read} of {found.clients} clients could be read; {found.disabled} are disabled.",
        highlight=False,
    )
    counts = Table("state", "clients")
    for state, count in sorted(found.states.items()):
        counts.add_row(state, str(count))
    console.print(counts)
    _print_totals(console, found)
    for code, count in found.holds.items():
        console.print(f"held: {count} {code}", highlight=False)


def _print_totals(console: Any, found: Report) -> None:
    from rich.table import Table

    totals = Table("currency", "planned", "billed", "last month")
    for currency, sums in found.totals.items():
        totals.add_row(
            currency.upper(), *(_money(cents, currency) for cents in (sums.planned, sums.billed, sums.before))
        )
    console.print(totals)


def _print_items(items: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("client", "state", "total", "last month", "lines", "held because")
    for item in items:
        before = "" if item.previous_cents is None else _money(item.previous_cents, item.currency)
        total = _money(item.total_cents, item.currency)
        reason = f"{item.hold_code}: {item.hold_reason}" if item.hold_code else ""
        table.add_row(item.instance.org_id, item.state, total, before, str(len(item.lines)), reason)
    Console(soft_wrap=True).print(table)


def _money(cents: int, currency: str) -> str:
    from provider_federation.money import format_amount

    return format_amount(cents, currency)
