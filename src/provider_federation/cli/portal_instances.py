"""`provider-federation portal instance …`: the directory, and the keys of each client instance."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from provider_federation.cli.portal_shell import actor, hidden, load_portal

app = typer.Typer(no_args_is_help=True, help="The directory of client instances.")


@app.command("add")
def add(
    name: str,
    org_id: str,
    base_url: str,
    key_id: Annotated[str, typer.Argument(help="Of a key that both sides have; empty with --code.")] = "",
    *,
    title: str = "",
    algorithm: Annotated[
        str, typer.Option(help="Of that key: hmac-sha256, or sha256 or h31 for an instance without v2.")
    ] = "hmac-sha256",
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
        secret = hidden("Secret of the key", from_stdin=secret_stdin)
        key = services.NewKey(id=key_id, secret=secret, algorithm=algorithm, scope=scope)
    added = services.add_instance(
        name=name,
        org_id=org_id,
        base_url=base_url,
        key=key,
        code=hidden("Enrolment code", from_stdin=True) if code_stdin else "",
        response_key=_response_key(response_key),
        actor=actor(),
        title=title,
        currency=currency,
    )
    print(f"{added.name} is in the directory. {_check_line(added)}")
    if waiting := pending_key(added):
        _print_pair(waiting)


@app.command("enrol")
def enrol(
    name: str,
    code_stdin: Annotated[
        bool, typer.Option("--code-stdin", help="Read the code from standard input.")
    ] = False,
) -> None:
    """Pair with an instance by the code that its owner gave; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    code = hidden("Enrolment code", from_stdin=code_stdin)
    _checked(services.enrol_instance(row.pk, row.version, code, actor=actor()))


@app.command("rotate")
def rotate(name: str) -> None:
    """Introduce a new key to the instance, use it, and end the old one; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    _checked(services.rotate_key(row.pk, row.version, actor=actor()))


@app.command("new-pair")
def new_pair(name: str) -> None:
    """Make a pair that waits for the instance's owner, and print what goes into the instance's environment."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    _print_pair(services.make_key(row.pk, row.version, actor=actor()))


@app.command("confirm")
def confirm(
    name: str,
    response_key: Annotated[str, typer.Option(help="ID:PUBLIC_KEY that the instance answers with.")] = "",
) -> None:
    """Call the instance with the pair that waits, and use it from now on."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    told = _response_key(response_key)
    _checked(services.confirm_key(row.pk, row.version, actor=actor(), response_key=told))


@app.command("keys")
def keys(name: str) -> None:
    """The keys of an instance, newest first."""
    load_portal()
    from provider_federation.portal.directory import queries

    row = queries.get_by_name(name)
    for key in row.keys.all():
        print(f"{key.key_id}\t{key.algorithm}\t{key.status}\t{key.scope}\t{key.created_at:%Y-%m-%d}")
    print(f"answers: {row.response_key_id} {row.response_public_key}".strip())
    print(f"v2 since {row.v2_since:%Y-%m-%d %H:%M}" if row.v2_since else "no answer by v2 yet")


@app.command("revoke-key")
def revoke_key(name: str, key_id: str) -> None:
    """Never sign with this key again."""
    load_portal()
    from provider_federation.kit.problem import not_found
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    key = row.keys.filter(key_id=key_id).first()
    if key is None:
        raise not_found("key")
    services.revoke_key(row.pk, row.version, key.pk, actor=actor())
    print(f"{key_id} is revoked.")


@app.command("reset-ratchet")
def reset_ratchet(name: str) -> None:
    """Let legacy keys sign for this instance again, until its next good check by v2."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    row = queries.get_by_name(name)
    services.reset_ratchet(row.pk, row.version, actor=actor())
    print(f"Legacy keys may sign for {name} again.")


@app.command("list")
def list_all() -> None:
    """The directory, by name."""
    load_portal()
    from provider_federation.portal.directory.models import Instance

    for row in Instance.objects.order_by("name"):
        print(f"{row.name}\t{row.base_url}\t{'enabled' if row.enabled else 'disabled'}\t{_check_line(row)}")


@app.command("check")
def check(name: str) -> None:
    """Call an instance now; exits 1 when the check fails."""
    load_portal()
    from provider_federation.portal.directory import queries, services

    _checked(services.check_instance(queries.get_by_name(name), actor=actor()))


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
