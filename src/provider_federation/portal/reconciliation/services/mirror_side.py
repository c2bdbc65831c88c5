"""The fleet's mirror of one instance's invoices against the instance's own list.

What the instance changed since the mirror last read its feed to the end is not due yet; a mirror that is behind
for long is one difference of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated
from uuid import UUID

from asgiref.sync import async_to_sync
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provider_federation.money import Period
from provider_federation.portal.database import lend_connection
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.directory.queries import targets_of
from provider_federation.portal.fleet.models import ClientInvoice, SyncState
from provider_federation.portal.fleet.queries import Stale
from provider_federation.portal.fleet.schemas import RemoteInvoice
from provider_federation.portal.reconciliation.classes import RESYNC
from provider_federation.portal.reconciliation.differences import Difference, Says
from provider_federation.portal.shim import Answered, BadAnswer, Call, Outcome, Shim, Target

_PAGE = 200
_MOST_PAGES = 500
_ALL_PAGES_SECONDS = 60.0
_CONCURRENCY = 50


class _InvoicePage(BaseModel):
    model_config = ConfigDict(extra="ignore")

    items: Annotated[list[RemoteInvoice], Field(max_length=1000)]
    next_cursor: str | None = Field(alias="nextCursor", default=None, max_length=1000)


def list_many(instances: Sequence[Instance], period: Period) -> dict[UUID, list[RemoteInvoice] | Outcome]:
    """Each instance's own invoices of the month, or the outcome that says why there are none."""
    pairs = targets_of(instances)
    lend_connection()
    return async_to_sync(_list_all)(pairs, period)


async def _list_all(
    pairs: list[tuple[Instance, Target]], period: Period
) -> dict[UUID, list[RemoteInvoice] | Outcome]:
    async with Shim(concurrency=_CONCURRENCY) as shim:
        found = await asyncio.gather(*(_list_one(shim, target, period) for _, target in pairs))
    return {instance.pk: one for (instance, _), one in zip(pairs, found, strict=True)}


async def _list_one(shim: Shim, target: Target, period: Period) -> list[RemoteInvoice] | Outcome:
    try:
        async with asyncio.timeout(_ALL_PAGES_SECONDS):
            return await _pages(shim, target, period)
    except TimeoutError:
        return BadAnswer("timed_out", "Its list of invoices did not end in time.")


async def _pages(shim: Shim, target: Target, period: Period) -> list[RemoteInvoice] | Outcome:
    """Newest first, until one is older than the month."""
    found: list[RemoteInvoice] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        outcome = await shim.call(
            target, Call("GET", "/api/billing/list", query={"cursor": cursor, "limit": _PAGE})
        )
        if not isinstance(outcome, Answered):
            return outcome
        try:
            page = _InvoicePage.model_validate(outcome.data)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            return BadAnswer("unexpected_shape", f"Its list of invoices is wrong at {where}.", outcome.status)
        found += [one for one in page.items if period.contains(one.created_at)]
        cursor = page.next_cursor
        if not cursor or (page.items and page.items[-1].created_at < period.start):
            return found
    return BadAnswer("page_cap", "Its list of invoices does not end.")


def compare_mirror(
    instance: Instance, period: Period, theirs: Sequence[RemoteInvoice], behind: Stale | None
) -> Iterator[Difference]:
    """The month's invoices, by the instance's id. `behind` says why the mirror is not fresh, if it is not."""
    if behind is not None:
        message = f"The mirror of {instance} is behind ({behind.code}): {behind.sentence}"
        yield _mirror("mirror_stale", instance, f"mirror:{instance.pk}", message[:500], None, len(theirs))
        return
    state = SyncState.objects.get(instance=instance)
    read_at = state.synced_at
    due = {one.id: one for one in theirs if read_at is not None and one.updated_at <= read_at}
    new = {one.id for one in theirs} - due.keys()
    mirror = {row.remote_id: row for row in _mirrored(instance, period, due)}
    for remote_id in sorted(due.keys() - mirror.keys()):
        yield _of_invoice("mirror_missing", instance, remote_id, None, due[remote_id].total_cents)
    for remote_id in sorted(mirror.keys() - due.keys() - new):
        yield _of_invoice("mirror_extra", instance, remote_id, mirror[remote_id].total_cents, None)
    for remote_id in sorted(mirror.keys() & due.keys()):
        for here, there in _unequal(mirror[remote_id], due[remote_id]):
            yield _of_invoice("mirror_differs", instance, remote_id, here, there)
            break


def _mirrored(
    instance: Instance, period: Period, listed: Mapping[str, RemoteInvoice]
) -> Iterator[ClientInvoice]:
    rows = ClientInvoice.objects.filter(instance=instance)
    in_month = rows.filter(created_at__gte=period.start, created_at__lt=period.end)
    yield from in_month
    yield from rows.filter(remote_id__in=listed).exclude(pk__in=in_month.values("pk"))


def _unequal(here: ClientInvoice, there: RemoteInvoice) -> Iterator[tuple[Says, Says]]:
    names = ("total_cents", "amount_paid_cents", "tax_cents", "status", "currency", "stripe_invoice_id")
    for name in names:
        if getattr(here, name) != getattr(there, name):
            yield getattr(here, name), getattr(there, name)


def _of_invoice(kind: str, instance: Instance, remote_id: str, here: Says, there: Says) -> Difference:
    message = f"The invoice {remote_id} of {instance}: {here} in the mirror, {there} at the instance."
    return _mirror(kind, instance, f"client_invoice:{instance.pk}:{remote_id}", message, here, there)


def _mirror(kind: str, instance: Instance, subject: str, message: str, here: Says, there: Says) -> Difference:
    return Difference(
        kind=kind,
        subject=subject,
        message=message,
        instance=instance,
        portal=here,
        instance_says=there,
        repair=RESYNC,
        target=str(instance.pk),
    )
