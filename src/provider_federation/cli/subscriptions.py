"""`provider-federation portal subscriptions …`: who has which plan, and changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provider_federation.cli.portal_shell import actor, load_portal

if TYPE_CHECKING:
    from provider_federation.portal.subscriptions.models import Subscription
    from provider_federation.portal.subscriptions.previews import Preview
    from provider_federation.portal.subscriptions.services import Changed

app = typer.Typer(no_args_is_help=True, help="The clients' subscriptions in the provider's Stripe account.")

Client = Annotated[str, typer.Argument(help="The client's org id.")]
Plan = Annotated[str, typer.Argument(help="BASE, PRO or ELITE.")]
When = Annotated[
    str,
    typer.Option(
        "--proration",
        help="always_invoice, create_prorations, none or at_period_end; empty: as the settings say.",
    ),
]


@app.command("list")
def list_all(
    plan: Annotated[str, typer.Option(help="Only this plan.")] = "",
    status: Annotated[str, typer.Option(help="Only this status.")] = "",
) -> None:
    """Every subscription, newest first, and the monthly recurring revenue of all."""
    load_portal()
    from provider_federation.money import format_amount
    from provider_federation.portal.subscriptions import queries

    filters = queries.Filters(plan=plan.upper(), status=queries.known_status(status))
    for row in queries.sorted_subscriptions(filters).select_related("instance").iterator(chunk_size=1000):
        until = f"{row.current_period_end:%Y-%m-%d}" if row.current_period_end else "-"
        print(f"{row.instance.org_id}\t{row.plan}\t{row.status}\t{until}\t{row.pk}")
    summary = queries.summarise()
    recurring = ", ".join(format_amount(cents, one) for one, cents in summary.mrr_cents.items())
    print(f"{summary.total} subscriptions; {recurring or 'nothing'} recurs a month.")


@app.command("preview")
def preview(client: Client, plan: Plan, proration: When = "") -> None:
    """What changing to a plan costs, now and next; nothing is changed."""
    load_portal()
    from provider_federation.portal.subscriptions import services

    _show(services.preview_plan(_of(client), plan, _known(proration)))


@app.command("change")
def change(
    client: Client,
    plan: Plan,
    proration: When = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show what it costs, ask, and carry out exactly that."""
    load_portal()
    from provider_federation.portal.subscriptions import services

    row, wanted = _of(client), _known(proration)
    shown = services.preview_plan(row, plan, wanted)
    _show(shown)
    if not yes:
        typer.confirm("Carry it out?", abort=True)
    _tell(services.change_plan(row, plan, actor=actor(), proration=wanted, preview_token=shown.token))


@app.command("cancel")
def cancel(
    client: Client,
    *,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Now, not at the end of the period.")
    ] = False,
    prorate: Annotated[bool, typer.Option("--prorate", help="With --immediate: credit the rest.")] = False,
) -> None:
    """End it with the paid period, or now."""
    load_portal()
    from provider_federation.portal.subscriptions import services

    ended = services.cancel_subscription(
        _of(client), immediate=immediate, prorate=prorate and immediate, actor=actor()
    )
    until = ended.current_period_end
    print("It ended." if ended.ended else f"It ends on {until:%Y-%m-%d %H:%M} UTC.")


@app.command("resume")
def resume(client: Client) -> None:
    """Take a cancellation back, or go on after a pause."""
    load_portal()
    from provider_federation.portal.subscriptions import services

    _tell(services.resume_subscription(_of(client), actor=actor()))


@app.command("withdraw")
def withdraw(client: Client) -> None:
    """Take back a change that is scheduled or waits for its payment."""
    load_portal()
    from provider_federation.portal.subscriptions import services

    _tell(services.withdraw_change(_of(client), actor=actor()))


def _of(client: str) -> Subscription:
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.directory.queries import get_by_org
    from provider_federation.portal.subscriptions.queries import current_subscription

    found = current_subscription(get_by_org(client))
    if found is None:
        raise not_found("subscription of this client")
    return found


def _known(proration: str) -> str:
    from provider_federation.kit.problem import Problem
    from provider_federation.portal.subscriptions.models import Proration

    if proration and proration not in Proration.values:
        raise Problem(400, "invalid_field", f"proration: one of {', '.join(Proration.values)}.")
    return proration


def _show(shown: Preview) -> None:
    from provider_federation.money import format_amount

    for line in shown.lines:
        print(f"  {format_amount(line.amount_cents, shown.currency):>12}  {line.description}")
    print(f"{shown.from_plan} to {shown.to_plan}, {shown.proration}")
    print(f"Now: {format_amount(shown.amount_now_cents, shown.currency)}")
    print(f"Next: {format_amount(shown.amount_next_cents, shown.currency)}")


def _tell(changed: Changed) -> None:
    if changed.change is None:
        print(f"{changed.subscription.plan}: there was nothing to do.")
    else:
        print(f"{changed.change.kind}: {changed.change.get_state_display()}.")
