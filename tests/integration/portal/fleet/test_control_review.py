"""What a review of the control side found: each of these failed once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from pydantic import ValidationError
from tests.integration.portal.terminal import Terminal

from provider_federation.kit import clock
from provider_federation.portal import worker
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory.checks import Check
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.fleet import actions, driving, execution, services, sync
from provider_federation.portal.fleet.driving import in_database
from provider_federation.portal.fleet.models import FleetCall, OutcomeKind, SyncState
from provider_federation.portal.fleet.schemas import RemoteInvoice, RunParams
from provider_federation.portal.shim import Answered, Call, Outcome, RefusedThere, Shim, Target, TimedOut

ACTOR = "operator:ada@example.com"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    """Logging is put back, since a command sets it up for its process."""
    handlers = logging.getLogger().handlers[:]
    yield Terminal(monkeypatch, capsys)
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize(
    ("status", "reason", "kept"),
    [(500, "internal_error", True), (503, "stripe_unavailable", True), (409, "conflict", False)],
)
def test_a_fault_over_there_leaves_the_key_as_it_was(fleet, status, reason, kept):
    [(fake, instance)] = fleet("ada")
    fake.faults["/api/billing/invoices.create"] = (status, {"ok": False, "error": "no", "reason": reason})
    run = services.start_run(ACTOR, "draft", [instance])
    before = FleetCall.objects.get().idempotency_key
    execution.work_on_calls(run.pk, [FleetCall.objects.get().pk])
    services.retry_failed(ACTOR, run.pk)
    assert (FleetCall.objects.get().idempotency_key == before) is kept


def test_one_invoice_of_unknown_fate_decides_over_those_that_were_refused():
    answers = {"1": RefusedThere(409, "conflict", "no"), "2": TimedOut(60.0)}

    async def ask(_target: Target, call: Call) -> Outcome:
        if call.method == "GET":
            return Answered(200, {"ok": True, "items": [{"id": "2"}, {"id": "1"}]})
        return answers[call.body["id"]]

    target = Target("ada", "https://ada.example", "org", None)
    finding = asyncio.run(actions.send(ask, target, RunParams(), "key", ""))
    assert finding.kind == OutcomeKind.TIMED_OUT
    assert finding.result["failedCount"] == 2


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31T23:59:59Z"])
def test_an_invoice_from_the_edge_of_time_is_not_mirrored(day):
    whole = {
        "id": "1", "status": "open", "currency": "usd", "subtotalCents": 1, "taxCents": 0, "totalCents": 1,
        "createdAt": "2026-02-01T00:00:00Z", "updatedAt": "2026-02-01T00:00:00Z",
    }  # fmt: skip
    RemoteInvoice.model_validate(whole)
    with pytest.raises(ValidationError):
        RemoteInvoice.model_validate({**whole, "createdAt": day})


def test_many_strangers_do_not_wash_the_throttles_out(db):
    cache.clear()
    cache.set("first", "kept", 300)
    for number in range(320):
        cache.set(f"stranger-{number}", 1, 300)
    found = [cache.get(f"stranger-{number}") for number in range(320)]
    assert (cache.get("first"), found.count(None)) == ("kept", 0)


def test_hsts_is_sent_behind_a_proxy_that_speaks_http_to_us(client, settings):
    assert "Strict-Transport-Security" not in client.get("/health/live").headers
    settings.SECURE_HSTS_SECONDS = 31_536_000
    assert client.get("/health/live").headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_sick_housekeeper_does_not_keep_the_others_from_their_work(monkeypatch, db):
    done = []

    def sick() -> None:
        raise RuntimeError("sick")

    monkeypatch.setattr(worker, "fail_orphans", sick)
    monkeypatch.setattr(worker, "forget_old_jobs", lambda: done.append("forgotten"))
    worker._keep_house()
    assert done == ["forgotten"]


def test_a_feed_without_an_end_hands_its_worker_back(fleet, monkeypatch):
    [(_fake, instance)] = fleet("ada")
    now, pages = [1000.0], [0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])

    async def trickle(_target: Target, call: Call) -> Outcome:
        now[0] += 14
        pages[0] += 1
        return Answered(
            200,
            {"ok": True, "epoch": "e", "items": [], "nextCursor": f"c{pages[0]}", "hasMore": True},
        )

    from asgiref.sync import async_to_sync

    finding = async_to_sync(sync.sync_instance)(
        trickle, Target("ada", "https://ada.example", "o", None), instance.pk
    )
    state = SyncState.objects.get()
    assert finding.ok
    assert finding.result["pages"] < 30
    assert (state.cursor, state.synced_at) == (f"c{pages[0]}", None)
    assert state.due_at <= clock.now()  # it goes on in the next job


def test_a_check_of_the_old_address_says_nothing_of_the_new(fleet, monkeypatch):
    [(_fake, instance)] = fleet("ada")
    run = services.start_run(ACTOR, "check", [instance])

    async def meanwhile(_shim: Any, target: Target) -> Check:

        def move() -> None:
            Instance.objects.filter(pk=instance.pk).update(base_url="http://127.0.0.1:9")

        await in_database(move)()
        return Check(True, "ok", "Answers signed calls.", scheme="v2")

    monkeypatch.setattr(execution, "probe", meanwhile)
    execution.work_on_calls(run.pk, [FleetCall.objects.get().pk])
    instance.refresh_from_db()
    assert (instance.check_ok, instance.v2_since) == (None, None)


def test_a_write_to_an_instance_is_in_the_audit_trail(terminal, fleet):
    fleet("ada")
    assert terminal("call ada GET /api/billing/preview").code == 0
    assert not AuditEvent.objects.filter(kind="instance.called").exists()
    assert terminal("call ada POST /api/billing/invoices.create --json {} --key k-1").code == 0
    event = AuditEvent.objects.get(kind="instance.called")
    assert event.actor.startswith("cli:")
    assert (event.subject, event.facts) == (
        "instance:ada",
        {"method": "POST", "path": "/api/billing/invoices.create", "idempotency_key": "k-1"},
    )


@pytest.mark.parametrize(
    "line",
    [
        "call ada POST /api/billing/invoices.create --json @/nowhere/at.all",
        "sign POST https://ada.example/x --key-id k --secret-file /nowhere/at.all",
        "portal token make t --days 999999999",
    ],
)
def test_what_cannot_be_read_is_one_line(terminal, db, line):
    said = terminal(line)
    assert said.code == 2
    assert "Traceback" not in said.err


def meanwhile_after_the_first_write(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """`happens` while the answer to the first write is on its way."""
    left = iter([happens])

    class Interrupted(Shim):
        async def call(self, target: Target, call: Call) -> Outcome:
            outcome = await super().call(target, call)
            if call.write and (now := next(left, None)):
                await in_database(now)()
            return outcome

    monkeypatch.setattr(driving, "Shim", Interrupted)


def test_a_cancelled_run_sends_no_further_invoice(fleet, monkeypatch):
    [(fake, instance)] = fleet("ada")
    for cents in (100, 200, 300):
        fake.add_invoice(cents)
    run = services.start_run(ACTOR, "send", [instance])
    meanwhile_after_the_first_write(monkeypatch, lambda: services.cancel_run(ACTOR, run.pk))
    execution.work_on_calls(run.pk, [FleetCall.objects.get().pk])
    call = FleetCall.objects.get()
    assert fake.effects == {"send 1": 1}
    assert (call.status, call.outcome, call.code) == ("failed", "skipped", "run_cancelled")
    assert call.result["sentCount"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: Instance.objects.update(enabled=False),
        lambda: Instance.objects.update(base_url="https://elsewhere.example"),
        lambda: InstanceKey.objects.update(status="revoked", retired_at=clock.now()),
    ],
    ids=["disabled", "moved", "key revoked"],
)
def test_nothing_more_is_sent_to_an_instance_that_was_changed_meanwhile(fleet, monkeypatch, change):
    [(fake, instance)] = fleet("ada")
    for cents in (100, 200, 300):
        fake.add_invoice(cents)
    run = services.start_run(ACTOR, "send", [instance])
    meanwhile_after_the_first_write(monkeypatch, change)
    execution.work_on_calls(run.pk, [FleetCall.objects.get().pk])
    assert fake.effects == {"send 1": 1}
    assert FleetCall.objects.get().code == "instance_changed"
