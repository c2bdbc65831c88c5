"""Where the instance keeps its rows: SQLite in the data folder, or what DATABASE_URL names.

`postgresql://…` is a PostgreSQL, `sqlite:////folder/file` a SQLite file elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from provider_federation.kit.env import ConfigInvalid, Environment

# SQLite waits this long for another writer; longer than any transaction of ours, shorter than a caller's
# patience.
_BUSY_SECONDS = 20


def database_settings(environment: Environment, data_dir: Path) -> dict[str, Any]:
    """Django's DATABASES["default"]."""
    url = environment.text("DATABASE_URL")
    scheme = urlsplit(url).scheme
    if not url or scheme == "sqlite":
        return _sqlite(Path(unquote(urlsplit(url).path)[1:]) if url else data_dir / "instance.sqlite3")
    if scheme not in {"postgres", "postgresql"}:
        raise ConfigInvalid(
            "DATABASE_URL", "must be a postgresql:// address, or empty for SQLite in INSTANCE_DATA_DIR"
        )
    return _postgres(url, environment.integer("INSTANCE_DB_POOL", 8, low=2, high=100))


def _sqlite(path: Path) -> dict[str, Any]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # password hashes and sessions are in it
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "timeout": _BUSY_SECONDS,
            # A writer takes its lock when the transaction begins: what it then reads stays true until it
            # commits.
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
        },
        # Threads and processes of a test need a file; an in-memory database belongs to one connection.
        "TEST": {"NAME": str(path.with_name("test.sqlite3"))},
    }


def _postgres(url: str, pool: int) -> dict[str, Any]:
    parts = urlsplit(url)
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
        "OPTIONS": {**options, "pool": {"min_size": 1, "max_size": pool, "timeout": 10}},
    }
