"""Reading what clients filed themselves: what waits to be told, and which instances could not be heard."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, QuerySet

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import Answer, ClientDispute, DisputeReading
from provider_federation.portal.receivables.queries import before

_NAMED = 20


@dataclass(frozen=True)
class Coverage:
    """How many of the enabled instances (`of`) were read to the end, the longest failing ones by name, and how many
    answers are on their way to their client.
    """

    of: int
    read: int
    not_offered: int
    failing_count: int
    failing: list[DisputeReading]
    untold: int
    untold_failing: int

    @property
    def complete(self) -> bool:
        return self.read + self.not_offered == self.of and not self.untold


@dataclass(frozen=True)
class FilingPage:
    """Newest first. `next_cursor` is None on the last page."""

    items: list[ClientDispute]
    next_cursor: str | None


def coverage() -> Coverage:
    """Over all enabled instances, in a few queries."""
    readings = DisputeReading.objects.filter(instance__enabled=True).select_related("instance")
    failing = readings.filter(failures__gt=0).order_by("-failures", "instance__name")
    waiting = untold()
    return Coverage(
        of=Instance.objects.filter(enabled=True).count(),
        read=readings.filter(failures=0, last_code="ok").count(),
        not_offered=readings.filter(failures=0, last_code="not_offered").count(),
        failing_count=failing.count(),
        failing=list(failing[:_NAMED]),
        untold=waiting.count(),
        untold_failing=waiting.filter(failures__gt=0).count(),
    )


def untold() -> QuerySet[ClientDispute]:
    """What an enabled instance has not confirmed yet; one that does not know the dispute any more is left alone."""
    waiting = ClientDispute.objects.filter(acknowledged_version__lt=F("version"), lost_at=None)
    return waiting.filter(instance__enabled=True)


def not_billed(most: int) -> list[ClientDispute]:
    """Filed for leads that are not billed: they were answered, and nobody had to decide. The newest first."""
    return list(filings().filter(state=Answer.NOT_BILLED)[:most])


def filings() -> QuerySet[ClientDispute]:
    """With what a page shows of each, newest first."""
    return ClientDispute.objects.select_related("instance").order_by("-read_at", "-id")


def list_filings(
    *, client_org_id: str = "", state: str = "", cursor: str = "", limit: int = 50
) -> FilingPage:
    """One page. Problem 400 `bad_cursor`."""
    given = {"instance__org_id": client_org_id, "state": state}
    rows = filings().filter(**{name: value for name, value in given.items() if value})
    if cursor:
        at, key = decode_cursor(cursor, (str, str))
        rows = rows.filter(before("read_at", str(at), str(key)))
    found = list(rows[: limit + 1])
    items, more = found[:limit], len(found) > limit
    return FilingPage(
        items, encode_cursor(items[-1].read_at.isoformat(), str(items[-1].pk)) if more else None
    )
