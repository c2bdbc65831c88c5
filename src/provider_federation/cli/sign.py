"""`provider-federation sign`: print the headers of a signed request, so that curl can send it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem


def sign(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    url: Annotated[str, typer.Argument(help="The full address, with its query exactly as it will be sent.")],
    key_id: Annotated[str, typer.Option("--key-id", help="The key's id, as the instance knows it.")],
    algorithm: Annotated[str, typer.Option(help="h31 (development only) or sha256.")] = "sha256",
    secret_env: Annotated[
        str, typer.Option(help="Name of the environment variable that holds the secret.")
    ] = "PROVIDER_SECRET",  # noqa: S107  the name of a variable is no secret
    secret_file: Annotated[
        Path | None, typer.Option(help="File that holds the secret instead; - reads standard input.")
    ] = None,
    scope: Annotated[str, typer.Option(help="provider or read.")] = "provider",
    org: Annotated[str | None, typer.Option(help="Org id hint (X-Provider-Org).")] = None,
    instance: Annotated[str | None, typer.Option(help="Name of the instance that is meant.")] = None,
    body_file: Annotated[
        Path | None, typer.Option(help="File with the body, for schemes that cover it.")
    ] = None,
) -> None:
    """Print the headers of a signed request, one a line.

    The secret never goes on the command line, where other users of the machine could read it:

      export PROVIDER_SECRET=…
      provider-federation sign GET "$URL" --key-id key-1 | curl -H @- "$URL"
    """
    from provider_federation.protocol import Key, Request
    from provider_federation.protocol import sign as sign_request

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise Problem(400, "bad_target", "Give the full address, like https://acme.example/api/billing/list.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = body_file.read_bytes() if body_file else b""
    request = Request(method.upper(), target, parts.netloc, [], body)
    key = Key(key_id, algorithm, secret=_read_secret(secret_env, secret_file), scope="provider")
    for name, value in sign_request(
        request, key, now=clock.timestamp(), scope=scope, instance=instance, org=org
    ):
        print(f"{name}: {value}")


def _read_secret(variable: str, file: Path | None) -> bytes:
    if file is not None:
        value = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return value.strip()
    if not os.environ.get(variable):
        raise Problem(400, "no_secret", f"Set {variable}, or name a file with --secret-file.")
    return os.environ[variable].encode()
