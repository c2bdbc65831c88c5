"""Structured logs: one JSON object a line (or coloured text in development), with the request id, without
secrets.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = re.compile(
    r"secret|password|token|authorization|cookie|api_?key|signature|master_?key|sealed", re.IGNORECASE
)
_SECRET_VALUES = re.compile(r"\b(sk|rk|whsec|pft)_[A-Za-z0-9_-]{6,}|\b(sha256|h31):[0-9a-f]{4,}")
_SCRUBBED = "[scrubbed]"


def scrub(value: Any, name: str = "") -> Any:
    """The same value without what looks like a secret, by its name or by its shape."""
    if name and _SECRET_NAMES.search(name) and not isinstance(value, bool | None):
        return _SCRUBBED
    if isinstance(value, str):
        return _SECRET_VALUES.sub(_SCRUBBED, value)
    if isinstance(value, Mapping):
        return {key: scrub(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return value


def _scrub_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: scrub(item, key) for key, item in event.items()}


def configure_logs(*, service: str, development: bool = False, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's records to stderr in one format. Call once per process."""

    def add_service(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if development
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _scrub_event,
            renderer,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    handler.addFilter(_brief)
    root.handlers[:] = [handler]
    root.setLevel(level)


def _brief(record: logging.LogRecord) -> bool:
    """What Django calls suspicious (a bad Host, say) anybody can send: one warning, no traceback."""
    if record.name.startswith("django.security."):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
    return True


def get_logger(name: str) -> Any:
    return structlog.stdlib.get_logger(name)
