"""`provider-federation instance …`: run and look after a client instance. Arguments and printing only."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
user_app = typer.Typer(no_args_is_help=True, help="The people who sign in to this instance.")
app.add_typer(user_app, name="user")

_HELP_PASSWORD = "At least 12 characters. Asked for when not given; INSTANCE_USER_PASSWORD works as well."  # noqa: S105  a help text


def _set_up() -> None:
    """Django for the instance, whatever settings module the surroundings name."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "provider_federation.instance.settings"
    import django
    from django.conf import settings

    from provider_federation.kit.logs import configure_logs

    django.setup()
    configure_logs(service="instance", development=settings.DEVELOPMENT)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8100,
    host: Annotated[
        str, typer.Option(help="The address to listen on; put a TLS proxy in front of anything but loopback.")
    ] = "127.0.0.1",
) -> None:
    """Serve the instance: its API, its pages and its Stripe webhook."""
    _set_up()
    _require_migrated()
    listener = _listen(host, port)
    import uvicorn

    from provider_federation.kit.web.server import JsonHttpProtocol

    typer.echo(f"Instance at http://{host}:{port} (Ctrl-C stops it)")
    config = uvicorn.Config(
        "provider_federation.instance.asgi:application",
        log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on",
        http=JsonHttpProtocol, ws="none", timeout_keep_alive=30, timeout_graceful_shutdown=10,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


@app.command()
def migrate() -> None:
    """Make or update the tables. Safe to run again."""
    _set_up()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    typer.echo("The database is up to date.")


@app.command()
def seed(
    leads: Annotated[int, typer.Option(help="How many leads to make in all.", min=1, max=100_000)] = 120,
    months: Annotated[int, typer.Option(help="Over how many months, this one included.", min=1, max=36)] = 6,
    seed: Annotated[int, typer.Option(help="The same number makes the same data.")] = 1,
) -> None:
    """Fill an empty instance with believable customers, leads, conversions and AI usage."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.usage.seeding import seed_instance

    made = seed_instance(leads=leads, months=months, seed=seed)
    typer.echo(f"{made.customers} customers, {made.leads} leads, {made.converted} of them converted.")
    typer.echo(f"{made.ai_events} AI usage events.")


@app.command("use-ai")
def use_ai(
    kind: Annotated[str, typer.Argument(help="Which AI feature: draft, summary …")],
    *,
    cost: Annotated[str, typer.Option(help="What it costs in dollars, exactly: 0.0123.")],
    calls: Annotated[int, typer.Option(help="How many calls together.", min=1, max=1_000_000)] = 1,
    made: Annotated[bool, typer.Option("--made", help="It was made already: record it in any case.")] = False,
) -> None:
    """Take AI credits and record the use; refused with plan_limit_reached when the month has none left."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.usage import services
    from provider_federation.kit.problem import Problem
    from provider_federation.money import MoneyError, parse_decimal

    try:
        dollars = parse_decimal(cost)
    except MoneyError as error:
        raise Problem(400, error.code, error.message) from None
    take = services.record_ai_usage if made else services.use_ai
    event = take(kind, cost=dollars, calls=calls)
    typer.echo(f"{event.calls} AI calls recorded.")


@app.command("apply-events")
def apply_events(
    parked: Annotated[bool, typer.Option("--parked", help="Also those that were given up.")] = False,
) -> None:
    """Apply Stripe events that are stored and could not be applied yet; exits 1 when some still cannot."""
    _set_up()
    from provider_federation.instance.invoicing.services import apply_pending, retry_parked

    if parked:
        retry_parked()
    applied, failed = apply_pending()
    typer.echo(f"{applied} applied, {failed} still pending.")
    if failed:
        raise typer.Exit(1)


@app.command()
def invite(
    minutes: Annotated[int, typer.Option(help="How long the code is good.", min=1, max=1_440)] = 60,
    scope: Annotated[
        str, typer.Option(help="What the portal's key may at most: provider or read.")
    ] = "provider",
) -> None:
    """Let one portal enrol: prints a code, good once, and closes an older one."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.federation.services import open_enrolment
    from provider_federation.kit.problem import Problem

    if scope not in {"provider", "read"}:
        raise Problem(400, "invalid_field", "scope is provider or read.", field="scope")
    _, code = open_enrolment(minutes=minutes, scope=scope)
    typer.echo(code)


@app.command("new-response-key")
def new_response_key() -> None:
    """Print a fresh ed25519 identity for PROVIDER_RESPONSE_KEY_JSON, and the public half for the portal."""
    import base64
    import json

    from provider_federation.protocol import Key
    from provider_federation.protocol.pairing import new_seed, public_text

    key_id = f"{os.environ.get('INSTANCE_NAME', 'instance')}-answers"
    key = Key(key_id, "ed25519", secret=new_seed())
    secret = base64.b64encode(key.secret).decode()
    typer.echo(f"PROVIDER_RESPONSE_KEY_JSON='{json.dumps({'id': key_id, 'secret': secret})}'")
    typer.echo(f"For the portal, as the instance's response key: {key_id} {public_text(key)}")


@app.command()
def keys() -> None:
    """The keys that may call this instance, and which scheme each used last."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.federation.queries import key_facts, ratcheted_since

    for fact in key_facts():
        at = fact.last_used_at
        used = f"{at:%Y-%m-%d %H:%M} by {fact.last_scheme}" if at else "never used"
        typer.echo(f"{fact.key.id}\t{fact.key.algorithm}\t{fact.key.scope}\t{fact.state}\t{used}")
    since = ratcheted_since()
    typer.echo("Legacy signatures are refused." if since else "No portal has spoken v2 yet.")


@app.command("revoke-key")
def revoke_key(key_id: str) -> None:
    """End a key now, in every process of this instance."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.federation import services

    services.revoke_key(key_id)
    typer.echo(f"{key_id} is revoked.")


@app.command("reset-ratchet")
def reset_ratchet() -> None:
    """Accept legacy signatures again, where a key and the settings allow them, until the next v2 request."""
    _set_up()
    _require_migrated()
    from provider_federation.instance.federation import services

    services.reset_ratchet()
    typer.echo("Legacy signatures are accepted again.")


@app.command("sweep")
def sweep() -> None:
    """Compare the client's Stripe account, recent and unsettled invoices, with ours: what a lost webhook hid is found."""
    _set_up()
    from provider_federation.instance.invoicing.services import sweep_invoices

    looked, changed = sweep_invoices()
    typer.echo(f"{looked} invoices looked at, {changed} changed.")


@user_app.command("add")
def add_user(
    email: str,
    role: Annotated[str, typer.Option(help="owner, billing or viewer.")] = "viewer",
    name: Annotated[str, typer.Option(help="What the pages call this person.")] = "",
    password: Annotated[
        str, typer.Option(help=_HELP_PASSWORD, envvar="INSTANCE_USER_PASSWORD", show_envvar=False)
    ] = "",
) -> None:
    """Add somebody who can sign in."""
    _set_up()
    from provider_federation.instance.people.services import add_person

    person = add_person(email, password or _ask_password(), name=name, role=role)
    typer.echo(f"{person.email} can sign in ({person.role}).")


@user_app.command("list")
def list_users() -> None:
    """Everybody who has an account."""
    _set_up()
    from provider_federation.instance.people.models import Person

    for person in Person.objects.order_by("email"):
        typer.echo(f"{person.email:40} {person.role:8} {'' if person.is_active else 'inactive'}".rstrip())


@user_app.command("password")
def set_user_password(
    email: str,
    password: Annotated[
        str, typer.Option(help=_HELP_PASSWORD, envvar="INSTANCE_USER_PASSWORD", show_envvar=False)
    ] = "",
) -> None:
    """Give somebody a new password; their sessions end."""
    _set_up()
    from provider_federation.instance.people.services import set_password

    person = set_password(email, password or _ask_password())
    typer.echo(f"{person.email} has a new password.")


def _ask_password() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _require_migrated() -> None:
    from provider_federation.instance.health import pending_migrations

    if pending_migrations():
        typer.echo(
            "The tables are not up to date; run `provider-federation instance migrate` first.", err=True
        )
        raise typer.Exit(2)


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, opened before anything else starts, so that a taken port is one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        typer.echo(f"Cannot listen on {host}:{port}: {error.strerror}.", err=True)
        typer.echo("Stop what runs there, or choose another --port.", err=True)
        raise typer.Exit(2) from None
    return listener
