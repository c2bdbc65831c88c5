"""`provider-federation sign`: print the headers of a signed request, so that curl can send it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem

if TYPE_CHECKING:
    from provider_federation.protocol import Key


def sign(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    url: Annotated[str, typer.Argument(help="The full address, with its query exactly as it will be sent.")],
    key_id: Annotated[str, typer.Option("--key-id", help="The key's id, as the instance knows it.")],
    algorithm: Annotated[
        str,
        typer.Option(help="ed25519 or hmac-sha256 (v2); sha256 or h31 (legacy, h31 in development only)."),
    ] = "ed25519",
    secret_env: Annotated[
        str, typer.Option(help="Name of the environment variable that holds the secret.")
    ] = "PROVIDER_SECRET",  # noqa: S107  the name of a variable is no secret
    secret_file: Annotated[
        Path | None, typer.Option(help="File that holds the secret instead; - reads standard input.")
    ] = None,
    scope: Annotated[str, typer.Option(help="provider or read.")] = "provider",
    org: Annotated[str | None, typer.Option(help="Org id hint (X-Provider-Org).")] = None,
    instance: Annotated[
        str | None, typer.Option(help="Name of the instance that is meant; v2 needs it.")
    ] = None,
    body_file: Annotated[
        Path | None, typer.Option(help="File with the body, byte for byte as it will be sent; v2 covers it.")
    ] = None,
    content_type: Annotated[
        str, typer.Option(help="Of the body; printed with the signature that covers it.")
    ] = "application/json",
    idempotency_key: Annotated[
        str, typer.Option(help="Idempotency-Key of a write; printed with the signature that covers it.")
    ] = "",
) -> None:
    """Print the headers of a signed request, one a line.

    The secret never goes on the command line, where other users of the machine could read it. For ed25519 it is the
    seed, 32 bytes in base64:

    \b
      export PROVIDER_SECRET=…
      provider-federation sign GET "$URL" --key-id key-1 --instance acme | curl -H @- "$URL"
      provider-federation sign POST "$URL" --key-id key-1 --instance acme --body-file b.json | curl -H @- --data-binary @b.json "$URL"
    """  # noqa: D301  the backspace itself keeps click from filling the paragraph
    from provider_federation.protocol import CannotSign, Request
    from provider_federation.protocol import sign as sign_request

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise Problem(400, "bad_target", "Give the full address, like https://acme.example/api/billing/list.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = _read(body_file) if body_file else b""
    headers = [("Content-Type", content_type)] if body else []
    headers += [("Idempotency-Key", idempotency_key)] if idempotency_key else []
    request = Request(method.upper(), target, parts.netloc, headers, body)
    key = _key(key_id, algorithm, _read_secret(secret_env, secret_file))
    try:
        signature = sign_request(request, key, now=clock.timestamp(), scope=scope, instance=instance, org=org)
    except CannotSign as error:
        raise Problem(400, "cannot_sign", f"This cannot be signed: {error}.") from None
    for name, value in headers + signature:
        print(f"{name}: {value}")


def _key(key_id: str, algorithm: str, secret: bytes) -> Key:
    from provider_federation.protocol import Key
    from provider_federation.protocol.material import key_material

    try:
        text = secret.decode()
        return Key(key_id, algorithm, secret=key_material(algorithm, {"secret": text})["secret"])
    except ValueError as error:
        raise Problem(400, "invalid_key", f"This key cannot be used: {error}.") from None


def _read_secret(variable: str, file: Path | None) -> bytes:
    if file is not None:
        value = sys.stdin.buffer.read() if str(file) == "-" else _read(file)
        return value.strip()
    if not os.environ.get(variable):
        raise Problem(400, "no_secret", f"Set {variable}, or name a file with --secret-file.")
    return os.environ[variable].encode()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Problem(400, "cannot_read", f"Cannot read {file}: {error.strerror}.") from None
