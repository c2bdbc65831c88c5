"""The mirror of the clients' invoices: reading each instance's changes feed, page by page, into
ClientInvoice.

A page and the cursor behind it commit together under the lock of the instance's SyncState, so a crash
loses at most a
page that is then read again, and two workers on one instance cannot overtake each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from procrastinate.contrib.django import app as jobs

from provider_federation.kit import clock
from provider_federation.kit.text import clean_text
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.actions import Ask, Finding
from provider_federation.portal.fleet.driving import in_database
from provider_federation.portal.fleet.feeds import read_page, wants_restart
from provider_federation.portal.fleet.models import ClientInvoice, SyncState
from provider_federation.portal.fleet.schemas import ChangesPage
from provider_federation.portal.fleet.services import QUEUE, SHARD
from provider_federation.portal.shim import Call, Outcome, Target

PAGE = 200
PAGES_AT_ONCE = 100
# Nor may one job read longer: a feed that trickles, page after page, would keep its worker from everybody else.
SECONDS_AT_ONCE = 120.0
# While a sync is queued or at work its instance is not due; should the job be lost, it is due again after
# this.
_LEASE = timedelta(minutes=10)
_LONGEST_PAUSE = timedelta(minutes=15)
_CLAIM = 1000
_COLUMNS = [
    "number",
    "customer_id",
    "customer_name",
    "customer_email",
    "status",
    "period_from",
    "period_to",
    "currency",
    "subtotal_cents",
    "tax_cents",
    "total_cents",
    "amount_paid_cents",
    "created_at",
    "updated_at",
    "sent_at",
    "paid_at",
    "stripe_invoice_id",
    "hosted_invoice_url",
    "seq",
    "generation",
]


def schedule_due() -> int:
    """Queue the sync of every enabled instance whose turn it is; how many. Any number of processes may
    call it at once.
    """
    _ensure_states()
    with transaction.atomic():
        due = SyncState.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            instance__enabled=True, due_at__lte=Now()
        )
        return _queue(list(due.order_by("due_at").values_list("pk", flat=True)[:_CLAIM]))


def request_sync(instances: Iterable[Instance] | None = None) -> int:
    """Queue a sync now, of these instances or of all enabled ones; how many."""
    _ensure_states()
    with transaction.atomic():
        states = (
            SyncState.objects.select_for_update(of=("self",)).filter(instance__enabled=True).order_by("pk")
        )
        if instances is not None:
            states = states.filter(pk__in=[instance.pk for instance in instances])
        return _queue(list(states.values_list("pk", flat=True)))


def rebuild_mirror(instance: Instance) -> None:
    """Forget how far the mirror of this instance has come and queue a sync from nothing. The old rows stay
    visible until the new pass is complete.
    """
    _ensure_states()
    with transaction.atomic():
        state = SyncState.objects.select_for_update().get(pk=instance.pk)
        _forget(state)
        record(
            Kind.SYNC_RESTARTED,
            "system",
            f"instance:{instance.name}",
            code="asked",
            generation=state.generation,
        )
        _queue([instance.pk])


async def sync_instance(ask: Ask, target: Target, instance_id: uuid.UUID) -> Finding:
    """Read the feed to its end (or as far as one job may), and note how it went. `{changes, pages,
    restarted}`.
    """
    state = await in_database(_begin)(instance_id)
    changes = pages = 0
    restarted = caught_up = False
    until = clock.monotonic() + SECONDS_AT_ONCE
    while pages < PAGES_AT_ONCE and clock.monotonic() < until:
        outcome = await ask(target, _page_call(state.cursor))
        page = read_page(outcome, ChangesPage, state.cursor)
        if wants_restart(state.cursor, state.epoch, outcome, page) and not restarted:
            state, restarted = await in_database(_start_over)(state, outcome), True
            continue
        if not isinstance(page, ChangesPage):
            await in_database(note_failure)(instance_id, page.code, page.sentence)
            return Finding.of(page, {"changes": changes, "pages": pages, "restarted": restarted})
        following = await in_database(_apply)(state, page)
        changes, pages = changes + len(page.items), pages + 1
        caught_up = following is None or not page.has_more
        if following is None or caught_up:
            break
        state = following
    await in_database(_note_success)(instance_id, caught_up=caught_up)
    return Finding.of(outcome, {"changes": changes, "pages": pages, "restarted": restarted})


def _page_call(cursor: str) -> Call:
    return Call("GET", "/api/federation/changes", query={"cursor": cursor or None, "limit": PAGE})


def _begin(instance_id: uuid.UUID) -> SyncState:
    if not SyncState.objects.filter(pk=instance_id).update(attempted_at=clock.now()):
        _ensure_states()
    return SyncState.objects.get(pk=instance_id)


def _start_over(state: SyncState, outcome: Outcome) -> SyncState:
    """Read from nothing, into the next generation. The old rows stay visible until the new pass is
    complete.
    """
    with transaction.atomic():
        locked = SyncState.objects.select_for_update(of=("self",)).select_related("instance").get(pk=state.pk)
        if (locked.cursor, locked.generation) != (state.cursor, state.generation):
            return locked
        _forget(locked)
        name = locked.instance.name
        record(
            Kind.SYNC_RESTARTED, "system", f"instance:{name}", code=outcome.code, generation=locked.generation
        )
    return locked


def _forget(locked: SyncState) -> None:
    locked.cursor = locked.epoch = ""
    locked.generation += 1
    locked.rebuilding = True
    locked.save(update_fields=["cursor", "epoch", "generation", "rebuilding"])


def _apply(state: SyncState, page: ChangesPage) -> SyncState | None:
    """Write a page and move the cursor; None when another worker has moved it meanwhile (its pages are as
    good as ours).
    """
    with transaction.atomic():
        locked = SyncState.objects.select_for_update().get(pk=state.pk)
        if (locked.cursor, locked.generation) != (state.cursor, state.generation):
            return None
        _upsert(locked, page)
        locked.cursor, locked.epoch = page.next_cursor, page.epoch
        if not page.has_more:
            _complete(locked)
        locked.save()
    return locked


def _upsert(state: SyncState, page: ChangesPage) -> None:
    """The newest change of each invoice on the page, where it is newer than what the mirror shows."""
    in_order = sorted(page.items, key=lambda change: change.seq)
    newest = {change.invoice.id: change for change in in_order if change.invoice is not None}
    known = dict(
        ClientInvoice.objects.filter(
            instance_id=state.pk, remote_id__in=newest, generation=state.generation
        ).values_list("remote_id", "seq")
    )
    rows = [
        ClientInvoice(
            instance_id=state.pk, seq=change.seq, generation=state.generation, **change.invoice.columns()
        )
        for remote_id, change in newest.items()
        if change.invoice is not None and change.seq > known.get(remote_id, -1)
    ]
    ClientInvoice.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["instance", "remote_id"],
        update_fields=_COLUMNS,
    )


def _complete(state: SyncState) -> None:
    """The feed is read to its end: rows that this pass never met are gone from the instance."""
    if state.rebuilding:
        ClientInvoice.objects.filter(instance_id=state.pk, generation__lt=state.generation).delete()
        state.rebuilding = False
    state.synced_at = clock.now()


def _note_success(instance_id: uuid.UUID, *, caught_up: bool) -> None:
    """A feed that is longer than one job may read goes on at once, in the next."""
    pause = timedelta(seconds=settings.SYNC_EVERY_SECONDS if caught_up else 0)
    SyncState.objects.filter(pk=instance_id).update(
        failures=0, last_outcome="ok", last_sentence="", due_at=Now() + pause
    )


def note_failure(instance_id: uuid.UUID, code: str, sentence: str) -> None:
    """Asked again later and later, so that a dead instance costs little; never later than a quarter of an
    hour.
    """
    with transaction.atomic():
        state = SyncState.objects.select_for_update().get(pk=instance_id)
        pause = timedelta(seconds=settings.SYNC_EVERY_SECONDS * 2 ** min(state.failures, 10))
        SyncState.objects.filter(pk=instance_id).update(
            failures=state.failures + 1,
            last_outcome=code[:80],
            last_sentence=clean_text(sentence, 500),
            due_at=Now() + max(min(pause, _LONGEST_PAUSE), timedelta(seconds=settings.SYNC_EVERY_SECONDS)),
        )


def _ensure_states() -> None:
    missing = Instance.objects.filter(sync_state__isnull=True).values_list("pk", flat=True)
    states = [SyncState(instance_id=pk, due_at=Now()) for pk in missing]
    if states:
        SyncState.objects.bulk_create(states, ignore_conflicts=True)


def _queue(instance_ids: Sequence[uuid.UUID]) -> int:
    SyncState.objects.filter(pk__in=instance_ids).update(due_at=Now() + _LEASE)
    for at in range(0, len(instance_ids), SHARD):
        shard = [str(one) for one in instance_ids[at : at + SHARD]]
        jobs.configure_task("fleet.sync_shard", queue=QUEUE).defer(instance_ids=[*shard])
    return len(instance_ids)
