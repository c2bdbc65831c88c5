"""The mirror: what the feed says is what the totals show, in any order of pages, restarts and failures."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit import clock
from provider_federation.kit.clock import CLOCK_VARIABLE, set_clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.fleet import queries, sync
from provider_federation.portal.fleet.execution import sync_many
from provider_federation.portal.fleet.models import ClientInvoice, SyncState
from provider_federation.portal.fleet.schemas import ChangesPage


def pull(fleet) -> None:
    sync._ensure_states()
    sync_many([instance.pk for _fake, instance in fleet])


def mirror_of(fake, instance) -> None:
    """The mirror holds exactly what the instance has."""
    rows = ClientInvoice.objects.filter(instance=instance)
    shown = {row.remote_id: (row.status, row.total_cents, row.amount_paid_cents, row.number) for row in rows}
    there = {
        one["id"]: (one["status"], one["totalCents"], one["amountPaidCents"], one["number"])
        for one in fake.invoices.values()
    }
    assert shown == there


def test_the_feed_is_read_page_by_page_and_goes_on_where_it_stood(fleet):
    [(fake, instance)] = one = fleet("ada", page=3)
    for cents in range(100, 1000, 100):
        fake.add_invoice(cents)
    pull(one)
    mirror_of(fake, instance)
    assert fake.requests["/api/federation/changes"] == 3
    fake.change_invoice("4", status="paid", amountPaidCents=400)
    pull(one)
    mirror_of(fake, instance)
    assert fake.requests["/api/federation/changes"] == 4
    assert SyncState.objects.get().synced_at is not None


def test_any_life_of_invoices_ends_in_the_same_mirror(fleet):
    chance = random.Random(7)
    [(fake, instance)] = one = fleet("ada", page=4)
    for _round in range(12):
        for _event in range(chance.randrange(6)):
            if not fake.invoices or chance.random() < 0.4:
                fake.add_invoice(chance.randrange(1, 10**9))
            else:
                status = chance.choice(["draft", "open", "paid", "void", "uncollectible"])
                fake.change_invoice(chance.choice(list(fake.invoices)), status=status)
        if chance.random() < 0.3:  # restored from a backup, or made anew
            fake.epoch += "'"
        pull(one)
        mirror_of(fake, instance)


def test_a_page_read_twice_changes_nothing(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(100)
    pull(one)
    SyncState.objects.update(cursor="", epoch="")  # as if the commit of the cursor had been lost
    ClientInvoice.objects.update(customer_name="touched")
    pull(one)
    assert ClientInvoice.objects.get().customer_name == "touched"  # the same seq is no news


def test_a_new_epoch_starts_over_and_drops_what_is_gone(fleet):
    [(fake, instance)] = one = fleet("ada")
    for cents in (100, 200, 300):
        fake.add_invoice(cents)
    pull(one)
    fake.epoch, fake.changes = "epoch-2", []
    del fake.invoices["3"]
    for invoice_id in fake.invoices:
        fake.changed(invoice_id)
    pull(one)
    mirror_of(fake, instance)
    assert AuditEvent.objects.filter(kind="fleet.sync_restarted").count() == 1
    assert SyncState.objects.get().generation == 2
    assert not SyncState.objects.get().rebuilding


def test_while_it_starts_over_the_old_rows_still_show_and_say_so(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(100)
    pull(one)
    sync._start_over(SyncState.objects.get(), None or _refusal())
    totals = queries.totals("status")
    assert totals.sums[0].total_cents == 100
    assert [stale.code for stale in totals.coverage.stale] == ["rebuilding"]


def _refusal():
    from provider_federation.portal.shim import RefusedThere

    return RefusedThere(409, "cursor_unknown", "unknown cursor")


def test_a_dead_instance_is_never_a_silent_zero(fleet):
    alive, dead, _fresh = three = fleet("ada", "bob", "cyd")
    for fake, _ in three[:2]:
        fake.add_invoice(100, status="open")
    pull(three)
    dead[0].stop()
    alive[0].add_invoice(1, status="open")
    pull(three)
    found = queries.totals("client")
    assert (found.coverage.answered, found.coverage.of, found.coverage.complete) == (2, 3, False)
    [stale] = found.coverage.stale
    assert (stale.instance, stale.code) == (dead[1], "connect_failed")
    assert stale.since is not None
    assert {row.label: row.outstanding_cents for row in found.rows} == {
        "Ada": 101,
        "Bob": 100,
    }  # its last known figures stay
    assert str(found.coverage).startswith("2 of 3, as of ")
    assert found.coverage.as_of == min(
        SyncState.objects.exclude(pk=dead[1].pk).values_list("synced_at", flat=True)
    )


def test_an_instance_never_reached_is_named(fleet):
    [(fake, instance)] = fleet("ada")
    assert [(stale.since, stale.code) for stale in queries.coverage().stale] == [(None, "never_synced")]
    fake.stop()
    pull([(fake, instance)])
    assert [(stale.since, stale.code) for stale in queries.coverage().stale] == [(None, "connect_failed")]


def test_old_figures_are_overdue(fleet, tmp_path, monkeypatch):
    one = fleet("ada")
    pull(one)
    assert queries.coverage().complete
    set_clock(tmp_path / "clock.json", offset=3600)
    monkeypatch.setenv(CLOCK_VARIABLE, str(tmp_path / "clock.json"))
    assert [stale.code for stale in queries.coverage().stale] == ["overdue"]


def test_disabled_instances_are_counted_apart(fleet):
    _first, (fake, second) = two = fleet("ada", "bob")
    fake.add_invoice(100)
    pull(two)
    second.enabled = False
    second.save()
    found = queries.totals("status")
    assert (found.rows, found.coverage.of, found.coverage.disabled) == ((), 1, 1)


def test_currencies_are_never_added_up(fleet):
    ada, bob = fleet("ada", currency="USD") + fleet("bob", currency="jpy")
    for fake, _ in (ada, bob):
        fake.add_invoice(1000, status="paid")
        fake.add_invoice(500, status="open", amountPaidCents=200)
        fake.add_invoice(70)
        fake.add_invoice(3, status="void")
    pull([ada, bob])
    found = queries.totals("month")
    assert {
        row.currency: (row.count, row.draft_cents, row.billed_cents, row.paid_cents, row.outstanding_cents)
        for row in found.sums
    } == {
        "jpy": (4, 70, 1500, 1200, 300),
        "usd": (4, 70, 1500, 1200, 300),
    }
    assert {(row.key, row.currency) for row in found.rows} == {
        (f"{clock.now():%Y-%m}", "jpy"),
        (f"{clock.now():%Y-%m}", "usd"),
    }


def test_months_are_the_providers(fleet, settings):
    settings.PROVIDER_TIME_ZONE = "America/New_York"
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(1, createdAt="2026-03-01T04:59:59Z")  # still February in New York
    fake.add_invoice(2, createdAt="2026-03-01T05:00:00Z")
    pull(one)
    assert [(row.key, row.total_cents) for row in queries.totals("month").rows] == [
        ("2026-03", 2),
        ("2026-02", 1),
    ]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"totalCents": -5}, "unexpected_shape"),
        ({"totalCents": 1.5}, "unexpected_shape"),
        ({"totalCents": True}, "unexpected_shape"),
        ({"totalCents": 10**18}, "unexpected_shape"),
        ({"currency": "dollars"}, "unexpected_shape"),
        ({"status": "weird"}, "unexpected_shape"),
        ({"createdAt": "2026-01-01T00:00:00"}, "unexpected_shape"),
        ({"createdAt": 5}, "unexpected_shape"),
        ({"id": "a\u0007b"}, "unexpected_shape"),
    ],
)
def test_an_invoice_that_makes_no_sense_stops_the_sync_and_changes_nothing(fleet, more, code):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(100)
    pull(one)
    fake.add_invoice(200, **more)
    pull(one)
    state = SyncState.objects.get()
    assert (state.last_outcome, state.failures) == (code, 1)
    assert ClientInvoice.objects.count() == 1
    assert [stale.code for stale in queries.coverage().stale] == [code]


def test_words_of_strangers_are_cleaned_not_refused(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(
        1,
        customer={"id": "1", "name": "Tab\there\u0007 " + "x" * 500, "email": None},
        hostedInvoiceUrl="javascript:alert(1)",
    )
    pull(one)
    row = ClientInvoice.objects.get()
    assert row.customer_name.startswith("Tab here  xx")
    assert len(row.customer_name) == 300
    assert row.hosted_invoice_url == ""


def test_an_endless_feed_is_cut_off(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.faults["/api/federation/changes"] = (
        200,
        {"ok": True, "epoch": "e", "items": [], "nextCursor": "same", "hasMore": True},
    )
    pull(one)
    assert SyncState.objects.get().last_outcome == "page_cap"
    assert fake.requests["/api/federation/changes"] == 2


def test_an_instance_that_changes_its_epoch_every_time_is_a_failure(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(1)
    pull(one)
    fake.faults["/api/federation/changes"] = (409, {"ok": False, "error": "no", "reason": "cursor_unknown"})
    pull(one)
    assert SyncState.objects.get().last_outcome == "cursor_unknown"
    assert ClientInvoice.objects.count() == 1


def test_a_page_that_another_worker_has_overtaken_is_dropped(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(1)
    pull(one)
    behind = SyncState.objects.get()
    fake.add_invoice(2)
    pull(one)
    page = ChangesPage.model_validate(
        {"epoch": "epoch-1", "items": [], "nextCursor": "epoch-1:0", "hasMore": False}
    )
    assert sync._apply(behind, page) is None
    assert SyncState.objects.get().cursor == "epoch-1:2"


def test_the_schedule_takes_each_instance_once_at_its_turn(fleet):
    two = fleet("ada", "bob")
    assert sync.schedule_due() == 2
    assert sync.schedule_due() == 0
    assert ProcrastinateJob.objects.filter(task_name="fleet.sync_shard").count() == 1
    pull(two)
    assert sync.schedule_due() == 0
    SyncState.objects.filter(pk=two[0][1].pk).update(due_at=Now() - timedelta(seconds=1))
    assert sync.schedule_due() == 1


def test_a_failing_instance_is_asked_less_and_less_but_at_least_each_quarter_hour(fleet, settings):
    settings.SYNC_EVERY_SECONDS = 60
    [(fake, _)] = one = fleet("ada")
    fake.stop()
    pauses = []
    for _try in range(7):
        pull(one)
        pauses.append(SyncState.objects.annotate(pause=F("due_at") - Now()).get().pause.total_seconds())
    assert [round(pause / 60) for pause in pauses] == [1, 2, 4, 8, 15, 15, 15]


def test_pages_of_invoices_join_without_gap_or_repeat(fleet):
    [(fake, _)] = one = fleet("ada")
    same = "2026-01-05T00:00:00Z"
    for number in range(11):
        fake.add_invoice(number, createdAt=same if number < 6 else f"2026-02-{number:02}T00:00:00Z")
    pull(one)
    seen, cursor = [], ""
    while True:
        page = queries.page_of_invoices(cursor=cursor, limit=3)
        seen += [row.total_cents for row in page.items]
        cursor = page.next_cursor
        if not cursor:
            break
    assert seen == [row.total_cents for row in ClientInvoice.objects.order_by("-created_at", "-id")]
    assert len(seen) == 11


def test_filters(fleet):
    [(fake, instance)] = one = fleet("ada")
    fake.add_invoice(1, status="paid", createdAt="2026-01-31T23:59:59Z")
    fake.add_invoice(
        2, createdAt="2026-02-01T00:00:00Z", customer={"id": "9", "name": "100% Ltd_", "email": "x@y.example"}
    )
    pull(one)

    def found(**chosen):
        return [row.total_cents for row in queries.page_of_invoices(queries.InvoiceFilter(**chosen)).items]

    assert found(statuses=("paid",)) == [1]
    assert found(since=datetime.fromisoformat("2026-02-01T00:00:00+00:00")) == [2]
    assert found(before=datetime.fromisoformat("2026-02-01T00:00:00+00:00")) == [1]
    assert found(search="0% ltd_") == [2]
    assert found(search="%") == [2]
    assert found(currency="EUR") == []
    assert found(instance_ids=(instance.pk,)) == [2, 1]
