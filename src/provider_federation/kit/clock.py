"""The one source of time.

Everything in the product asks `now()`; nothing calls `time.time()` (a lint rule holds that). In
development a file can
own the clock, so that the portal, the instances and the Stripe simulator of one scenario live in the same
moment:
`PROVIDER_FEDERATION_CLOCK=/path/clock.json` holding `{"offset": seconds}` (runs, shifted) or `{"at": "<ISO
8601>"}` (stands still).
Outside development the variable is refused at start (`refuse_outside_development`).
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

CLOCK_VARIABLE = "PROVIDER_FEDERATION_CLOCK"


def now() -> datetime:
    """The current instant, aware, in UTC."""
    path = os.environ.get(CLOCK_VARIABLE)
    if path is None:
        return datetime.now(UTC)  # noqa: TID251  the one place that may
    return _from_file(Path(path))


def timestamp() -> float:
    """Seconds since 1970 UTC."""
    return now().timestamp()


def monotonic() -> float:
    """Seconds for measuring durations and deadlines; never affected by a settable clock."""
    return time.monotonic()


def set_clock(path: Path, *, at: datetime | None = None, offset: float | None = None) -> None:
    """Write a clock file (atomically, readers never see half of it): stand still at `at`, or run `offset`
    seconds off.
    """
    if (at is None) == (offset is None):
        raise ValueError("give either at= or offset=")
    value: dict[str, object] = (
        {"at": at.astimezone(UTC).isoformat()} if at is not None else {"offset": offset}
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def refuse_outside_development(*, development: bool) -> None:
    """Raise ValueError when a clock file is set in a process that is not in development."""
    if not development and os.environ.get(CLOCK_VARIABLE):
        raise ValueError(
            f"{CLOCK_VARIABLE} is for development and tests; unset it, or set PROVIDER_FEDERATION_ENV=development"
        )


def _from_file(path: Path) -> datetime:
    value = json.loads(path.read_text())
    if "at" in value:
        return datetime.fromisoformat(value["at"]).astimezone(UTC)
    return datetime.now(UTC) + timedelta(seconds=float(value["offset"]))  # noqa: TID251  the other one
