"""Pulling one client's usage of one billing month from its instance, page by page.

The reading is a generator that yields calls and takes outcomes, so that one client is read with `call_now`,
and many at once with an open shim. Nothing here sets an amount: quantities are parsed strictly, rated
elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import LimitsUsed, MoneyError, Period, Usage, UsageLead, parse_decimal
from provider_federation.portal.database import lend_connection
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import load_keys, target_of
from provider_federation.portal.shim import (
    Answered,
    Call,
    Outcome,
    Shim,
    Target,
    TimedOut,
    Unreachable,
    call_now,
)

PAGE = 200
MOST_PAGES = 500
READS = 3
READ_TIMEOUT = 15.0
ALL_TIMEOUT = 20.0
ONE_TIMEOUT = 60.0
"""Seconds for all pages of one client; somebody waits for the answer."""


class _Wire(BaseModel):
    """What an instance sends: unknown fields are its own business, wrong types are not guessed at."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Lead(_Wire):
    lead_id: str = Field(alias="leadId", min_length=1, max_length=128)
    public_id: str = Field(alias="leadPublicId", min_length=1, max_length=128)
    converted_at: str = Field(alias="convertedAt", max_length=40)
    evidence: str = Field(max_length=128)


class _Leads(_Wire):
    count: int
    items: list[_Lead] = Field(max_length=1000)
    next_cursor: str | None = Field(alias="nextCursor", default=None, max_length=1000)


class _Ai(_Wire):
    cost: str = Field(max_length=60)
    currency: str = Field(max_length=3)
    calls: int


class _Month(_Wire):
    label: str
    start: str
    end: str
    closed: bool


class _Limit(_Wire):
    used: int


class _Limits(_Wire):
    leads: _Limit
    users: _Limit
    ai_credits: _Limit = Field(alias="aiCredits")


class _Page(_Wire):
    client: str = Field(alias="clientOrgId")
    period: _Month
    currency: str = Field(max_length=3)
    leads: _Leads
    ai: _Ai
    limits: _Limits | None = None


@dataclass(frozen=True)
class Reading:
    """What the instance says it used, whole. `closed` is its own word for whether the month is over."""

    usage: Usage
    closed: bool

    @property
    def digest(self) -> str:
        """sha256 over everything that can reach an amount."""
        return digest_of(usage_to_json(self.usage))


class UsageUnavailable(Problem):
    """The instance could not be asked, or answered something else: 502, or 503 when it may come back."""

    def __init__(self, instance: Instance, code: str, sentence: str, *, later: bool) -> None:
        super().__init__(
            503 if later else 502,
            "instance_unavailable" if later else "instance_bad_answer",
            f"{instance}: its usage cannot be read. {sentence} Nothing was billed.",
            clientOrgId=instance.org_id,
            outcome=code,
        )


def pull_usage(instance: Instance, period: Period) -> Reading:
    """All pages, now. Raises `UsageUnavailable`; Problem 409 `instance_disabled`."""
    if not instance.enabled:
        raise Problem(409, "instance_disabled", f"{instance} is disabled: it is neither called nor billed.")
    target = target_of(instance)
    steps = read_usage(instance, period)
    call = next(steps)
    lend_connection()
    until = clock.monotonic() + ONE_TIMEOUT
    while True:
        left = until - clock.monotonic()
        if left <= 0:
            raise UsageUnavailable(instance, "timed_out", "It did not answer in time.", later=True)
        try:
            call = steps.send(call_now(target, replace(call, timeout=min(call.timeout, left))))
        except StopIteration as done:
            reading: Reading = done.value
            return reading


def pull_many(wanted: list[tuple[Instance, Period]]) -> dict[tuple[UUID, str], Reading | Problem]:
    """Many clients and months at once; each ends in its reading or in the Problem that stopped it."""
    results: dict[tuple[UUID, str], Reading | Problem] = {}
    pairs = []
    load_keys([instance for instance, _ in wanted])
    for instance, period in wanted:
        try:
            pairs.append((instance, period, target_of(instance)))
        except Problem as problem:
            results[instance.pk, period.label] = problem
    lend_connection()
    results.update(async_to_sync(_pull_all)(pairs))
    return results


async def _pull_all(
    pairs: list[tuple[Instance, Period, Target]],
) -> dict[tuple[UUID, str], Reading | Problem]:
    async with Shim() as shim:
        readings = await asyncio.gather(*(_pull_one(shim, *pair) for pair in pairs))
    return {
        (instance.pk, period.label): reading
        for (instance, period, _), reading in zip(pairs, readings, strict=True)
    }


async def _pull_one(shim: Shim, instance: Instance, period: Period, target: Target) -> Reading | Problem:
    steps = read_usage(instance, period)
    try:
        async with asyncio.timeout(ALL_TIMEOUT):
            call = next(steps)
            while True:
                call = steps.send(await shim.call(target, call))
    except StopIteration as done:
        reading: Reading = done.value
        return reading
    except TimeoutError:
        return UsageUnavailable(instance, "timed_out", "It did not answer in time.", later=True)
    except Problem as problem:
        return problem


def read_usage(instance: Instance, period: Period) -> Generator[Call, Outcome, Reading]:
    """Yields one call a page and takes its outcome; returns the whole reading. Raises `UsageUnavailable`.

    A lead that converts between two pages changes the figures: then all pages are read again.
    """
    for _ in range(READS):
        pages = yield from _read_pages(instance, period)
        if all(_head(page) == _head(pages[0]) for page in pages):
            return _whole(instance, period, pages)
    raise UsageUnavailable(
        instance, "moving_usage", "Its figures changed while they were read; try again.", later=True
    )


def _read_pages(instance: Instance, period: Period) -> Generator[Call, Outcome, list[_Page]]:
    pages: list[_Page] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        query = {"period": period.label, "cursor": cursor, "limit": PAGE}
        outcome = yield Call("GET", "/api/provider/usage", query=query, timeout=READ_TIMEOUT)
        pages.append(_parse(instance, outcome))
        cursor = pages[-1].leads.next_cursor
        if not cursor:
            return pages
    raise UsageUnavailable(instance, "page_cap", "Its list of leads does not end.", later=False)


def digest_of(frozen: dict[str, Any]) -> str:
    """sha256 in hex over usage as `usage_to_json` froze it."""
    return hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()


def usage_to_json(usage: Usage) -> dict[str, Any]:
    """As it is frozen beside the invoice; `usage_from_json` reads it back."""
    return {
        "client": usage.client,
        "period": [usage.period.start.isoformat(), usage.period.end.isoformat(), usage.period.label],
        "currency": usage.currency,
        "aiCost": str(usage.ai_cost),
        "aiCalls": usage.ai_calls,
        "leadCount": usage.lead_count,
        "leads": [
            [one.lead_id, one.public_id, one.stated_at or one.converted_at.isoformat(), one.evidence]
            for one in usage.leads
        ],
    }


def usage_from_json(frozen: dict[str, Any]) -> Usage:
    """The usage that `usage_to_json` froze."""
    start, end, label = frozen["period"]
    return Usage(
        client=frozen["client"],
        period=Period(datetime.fromisoformat(start), datetime.fromisoformat(end), label),
        currency=frozen["currency"],
        leads=tuple(UsageLead(a, b, _instant(at), evidence, at) for a, b, at, evidence in frozen["leads"]),
        ai_cost=Decimal(frozen["aiCost"]),
        ai_calls=frozen["aiCalls"],
        lead_count=frozen["leadCount"],
    )


def _parse(instance: Instance, outcome: Outcome) -> _Page:
    if not isinstance(outcome, Answered):
        later = isinstance(outcome, TimedOut | Unreachable) or getattr(outcome, "status", 0) in {429, 503}
        raise UsageUnavailable(instance, outcome.code, outcome.sentence, later=later)
    try:
        return _Page.model_validate(outcome.data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UsageUnavailable(
            instance, "bad_usage", f"Its answer is wrong at {where}.", later=False
        ) from None


def _whole(instance: Instance, period: Period, pages: list[_Page]) -> Reading:
    first = pages[0]
    try:
        usage = Usage(
            client=first.client,
            period=Period(
                _instant(first.period.start), _instant(first.period.end), first.period.label, period.zone
            ),
            currency=_one_currency(first),
            leads=tuple(_lead(lead) for page in pages for lead in page.leads.items),
            ai_cost=parse_decimal(first.ai.cost, negative=True),
            ai_calls=first.ai.calls,
            lead_count=first.leads.count,
            limits=_limits(first),
        )
    except (MoneyError, ValueError, OverflowError) as error:  # the last: an instant that UTC cannot say
        raise UsageUnavailable(
            instance, "bad_usage", f"Its answer cannot be used: {error}.", later=False
        ) from None
    return Reading(usage, first.period.closed)


def _head(page: _Page) -> Iterable[object]:
    return (page.client, page.period, page.currency, page.leads.count, page.ai)


def _one_currency(page: _Page) -> str:
    # Two currencies in one answer are held by the rating as a mismatch: neither is taken for the other.
    same = page.currency.lower() == page.ai.currency.lower()
    return page.currency.lower() if same else f"{page.currency}/{page.ai.currency}".lower()


def _limits(page: _Page) -> LimitsUsed | None:
    given = page.limits
    return LimitsUsed(given.leads.used, given.users.used, given.ai_credits.used) if given else None


def _lead(lead: _Lead) -> UsageLead:
    at = _instant(lead.converted_at)
    if not all(text.isprintable() for text in (lead.lead_id, lead.public_id, lead.evidence)):
        raise ValueError("a lead's id, public id or evidence is not printable text")
    return UsageLead(lead.lead_id, lead.public_id, at, lead.evidence, lead.converted_at)


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return at.astimezone(UTC)
