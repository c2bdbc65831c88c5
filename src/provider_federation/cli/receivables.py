"""`provider-federation portal sweep`, `dunning` and `statement`: what clients owe, looked after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provider_federation.cli.portal_shell import AsJson, actor, load_portal, print_json, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from provider_federation.portal.receivables.services.dunning import Due

NOT_ALL = 1
"""The exit code when a reminder could not be sent."""


def sweep(*, as_json: AsJson = False) -> None:
    """Look through the provider's Stripe account for what no webhook told of."""
    load_portal()
    from provider_federation.portal.revenue.services.sweep import sweep_account
    from provider_federation.portal.subscriptions.account import stripe_problems

    with stripe_problems():
        swept = sweep_account(actor=actor())
    if as_json:
        told = {"lookedAt": swept.looked_at, "found": swept.found, "problems": swept.problems}
        print_json({"ok": True, **told})
    else:
        print(f"{swept.looked_at} objects looked at, {swept.found} were news, {swept.problems} are not ours.")


def dunning(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, and send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do every reminder and escalation that is due now. Exits 1 when one could not be sent."""
    load_portal()
    from provider_federation.portal.receivables.models import StepState
    from provider_federation.portal.receivables.schemas import step_out
    from provider_federation.portal.receivables.services import dunning as reminders

    if dry_run:
        _print_due(reminders.due_steps(), as_json=as_json)
        return
    done = reminders.remind_all()
    if as_json:
        steps = [step_out(step) | {"stripeInvoiceId": step.invoice.stripe_invoice_id} for step in done]
        print_json({"ok": True, "steps": steps})
    else:
        for step in done:
            print(f"{step.instance}\t{step.invoice.number}\t{step.step}\t{step.action}\t{step.state}")
    if any(step.state == StepState.FAILED for step in done):
        raise typer.Exit(NOT_ALL)


def _print_due(found: Iterable[Due], *, as_json: bool) -> None:
    if as_json:
        due = [
            {
                "stripeInvoiceId": one.invoice.stripe_invoice_id,
                "step": one.step.name,
                "action": one.step.action,
            }
            for one in found
        ]
        print_json({"ok": True, "due": due})
        return
    for one in found:
        print(f"{one.invoice.instance}\t{one.invoice.number}\t{one.step.name}\t{one.step.action}")


def statement(
    org_id: Annotated[str, typer.Argument(help="The client's org id.")],
    month: Annotated[str, typer.Argument(help="YYYY-MM")],
    *,
    pdf: Annotated[Path | None, typer.Option(help="Write a PDF to this file instead.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the CSV to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """A client's account in a month: as CSV on standard output, as JSON, or written to files."""
    load_portal()
    from provider_federation.portal.directory.queries import get_by_org
    from provider_federation.portal.receivables.services import statement_files, statements
    from provider_federation.portal.revenue.periods import month as read_month

    found = statements.statement_of(get_by_org(org_id), read_month(month))
    if pdf is not None:
        _written(pdf, statement_files.statement_pdf(found), as_json=as_json)
    if csv is not None:
        _written(csv, statement_files.statement_csv(found), as_json=as_json)
    if as_json:
        print_json({"ok": True, "statement": statements.statement_out(found)})
    elif pdf is None and csv is None:
        print(statement_files.statement_csv(found), end="")


def _written(path: Path, content: str | bytes, *, as_json: bool) -> None:
    write_file(path, content)
    if not as_json:
        print(f"Written to {path}.")
