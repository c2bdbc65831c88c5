"""A gate from environment variables, for an app that is configured by nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from provider_federation.adapters.gate import Gate
from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import ReplayStore
from provider_federation.protocol.config import ENABLED, ConfigurationError, read_environment

_log = logging.getLogger(__name__)

REPLAY = "PROVIDER_REPLAY_STORE"
PREFIX = "PROVIDER_PUBLIC_PREFIX"
_DEFAULT = "provider-federation.sqlite3"


def gate_from_environment(environ: Mapping[str, str] | None = None, **options: Any) -> Gate:
    """A Gate by the variables of docs/protocol.md in `environ` (os.environ when absent).

    `PROVIDER_REPLAY_STORE` is the path of a SQLite file (default: provider-federation.sqlite3 in the working
    directory) or the URL of a PostgreSQL database; `PROVIDER_PUBLIC_PREFIX` the path that a proxy strips.
    `options` are keywords of Gate and win over the variables. Raises ConfigurationError.
    """
    values = os.environ if environ is None else environ
    configuration = read_environment(values)
    if not configuration.enabled:
        _log.warning("federation is off: %s is not 1, and signed requests are anonymous ones", ENABLED)
    elif configuration.policy.instance is None and "policy" not in options:
        _log.warning("INSTANCE_NAME is not set: a request that was signed for another instance is taken here")
    found: dict[str, Any] = {
        "keyring": configuration.keyring,
        "policy": configuration.policy,
        "response_key": configuration.response_key,
        "enabled": configuration.enabled,
        "prefix": values.get(PREFIX, "").strip(),
    }
    if "replay" not in options:
        found["replay"] = _replay_store(values.get(REPLAY, "").strip() or _DEFAULT)
    try:
        return Gate(**found | options)
    except ValueError as error:
        raise ConfigurationError(PREFIX, str(error)) from None


def _replay_store(where: str) -> ReplayStore:
    if where.startswith(("postgresql://", "postgres://")):
        return PostgresReplayStore(where)
    return SqliteReplayStore(where)
