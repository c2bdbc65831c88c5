"""`provider-federation portal …`: run and look after the Provider Portal."""

from __future__ import annotations

import socket
import sys
from typing import Annotated

import typer

from provider_federation.cli.billing import app as billing
from provider_federation.cli.corrections import app as invoice
from provider_federation.cli.portal_instances import app as instance
from provider_federation.cli.portal_people import token, user
from provider_federation.cli.portal_shell import actor, load_portal, stop
from provider_federation.cli.receivables import dunning, statement, sweep
from provider_federation.cli.reconcile import reconcile
from provider_federation.cli.subscriptions import app as subscriptions

app = typer.Typer(no_args_is_help=True)
for command in (reconcile, sweep, dunning, statement):
    app.command()(command)
app.add_typer(user, name="user")
app.add_typer(token, name="token")
app.add_typer(instance, name="instance")
app.add_typer(billing, name="billing")
app.add_typer(subscriptions, name="subscriptions")
app.add_typer(invoice, name="invoice")

_MIGRATION_LOCK = 0x5046_4D49  # any number that nobody else locks in this database


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
) -> None:
    """The web process: pages, API, webhooks, health. Any number may run."""
    load_portal("portal")
    import uvicorn

    listener = _listen(host, port)
    from provider_federation.kit.web.server import JsonHttpProtocol
    from provider_federation.portal.asgi import application

    print(f"portal on http://{host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=20,
        http=JsonHttpProtocol,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listener])


@app.command()
def worker(
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Jobs at once in this process.")] = 4,
) -> None:
    """A worker: runs jobs and keeps the schedule. Any number may run, on any number of hosts."""
    load_portal("worker")
    from provider_federation.portal.worker import run_worker

    run_worker(concurrency)


@app.command()
def migrate(
    wait: Annotated[int, typer.Option(min=0, max=600, help="Seconds to wait for the database.")] = 30,
) -> None:
    """Bring the database up to date. Two at once take turns."""
    load_portal()
    from django.core.management import call_command
    from django.db import connection

    _wait_for_database(wait)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        try:
            call_command("migrate", interactive=False, verbosity=0)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])
    print("The database is up to date.")


@app.command("new-master-key")
def new_master_key(
    name: Annotated[str, typer.Option(help="Its id: letters and digits.")] = "",
) -> None:
    """Print a fresh master key for PORTAL_MASTER_KEYS. Put it in front of the ones there; keep it out of
    the database's backups.
    """
    import base64
    import secrets

    key_id = name or f"k{secrets.token_hex(3)}"
    if not key_id.isalnum():
        stop("The id of a master key has letters and digits only.")
    print(f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}")


@app.command()
def reseal() -> None:
    """Seal every secret with the first of PORTAL_MASTER_KEYS, so that the others can go; exits 1 when one cannot be
    opened. Restart every process with the new key first, so that none seals with an old one any more.
    """
    load_portal()
    from django.conf import settings

    from provider_federation.portal.audit.services import Kind, record
    from provider_federation.portal.directory.keys import reseal_keys
    from provider_federation.portal.operators.factors import reseal_factors

    resealed, unreadable, seen = map(sum, zip(reseal_keys(), reseal_factors(), strict=True))
    record(Kind.RESEALED, actor(), "portal:secrets", changed=resealed, unreadable=unreadable)
    print(f"{resealed} secrets sealed with the master key {next(iter(settings.MASTER_KEYS))}; {seen} in all.")
    if unreadable:
        print(f"{unreadable} secrets cannot be opened with the master keys at hand.", file=sys.stderr)
        raise typer.Exit(1)


@app.command("check-audit")
def check_audit() -> None:
    """Read the whole audit trail and say whether anybody changed it since; exits 1 when somebody did."""
    load_portal()
    from provider_federation.portal.audit.services import verify_chain

    report = verify_chain()
    print(f"{report.checked} events checked: {'unbroken' if report.ok else report.problem}.")
    if not report.ok:
        print(f"The first one that is wrong: number {report.broken_at}.", file=sys.stderr)
        raise typer.Exit(1)


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a port in use is one line and not a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        stop(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port. [port_in_use]")
    return listener


def _wait_for_database(seconds: int) -> None:
    import time

    import psycopg
    from django.db import connection

    from provider_federation.kit.clock import monotonic

    until = monotonic() + seconds
    while True:
        try:
            # Past the pool, which would wait for its own time first.
            psycopg.connect(**connection.get_connection_params(), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if monotonic() >= until:
                stop(
                    f"The database does not answer ({type(error).__name__}); see DATABASE_URL."
                    " [database_unreachable]"
                )
            time.sleep(0.5)
        else:
            return
