"""Runs over several instances: what is asked, what comes back, cancel, retry, and repeats that change nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.db import connection, transaction
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.fleet import execution, queries, services
from provider_federation.portal.fleet.models import ClientInvoice, FleetCall, FleetRun, SyncState

ACTOR = "operator:ada@example.com"


def work(run: FleetRun) -> queries.RunView:
    """Do what a worker would do with the run's jobs."""
    for job in ProcrastinateJob.objects.filter(
        task_name="fleet.run_shard", args__run_id=str(run.pk), status="todo"
    ):
        execution.work_on_calls(run.pk, job.args["call_ids"])
    return queries.run_with_calls(run.pk)


def start(action, fleet, params=None, **more):
    return services.start_run(ACTOR, action, [instance for _fake, instance in fleet], params, **more)


def test_preview_tells_each_instances_leads(fleet):
    three = fleet("ada", "bob", "cyd")
    view = work(start("preview", three, {"range": "d90"}))
    assert view.run.status == "done"
    assert view.progress.ok == view.progress.total == 3
    assert {call.result["totalCents"] for call in view.calls} == {20_000}


def test_drafts_are_made_once_however_often_the_job_runs(fleet):
    two = fleet("ada", "bob")
    run = start("draft", two)
    work(run)
    FleetCall.objects.update(
        status="running"
    )  # as a worker that died before it could write the outcome leaves them
    FleetRun.objects.update(status="running", finished_at=None)
    view = work(run)
    assert [fake.effects["draft"] for fake, _ in two] == [1, 1]
    assert [fake.requests["/api/billing/invoices.create"] for fake, _ in two] == [2, 2]
    assert {(call.status, call.attempt, call.result["invoiceCount"]) for call in view.calls} == {("ok", 2, 2)}


def test_send_takes_every_draft_and_only_drafts(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(500)
    fake.add_invoice(700, status="paid")
    fake.add_invoice(900)
    view = work(start("send", one))
    assert view.calls[0].result["sentCount"] == 2
    assert fake.effects == {"send 1": 1, "send 3": 1}
    assert (
        view.calls[0].result["sent"][0]["stripe"]["hostedInvoiceUrl"].startswith("https://pay.example/ada/")
    )


def test_send_of_named_invoices_has_a_call_for_each(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(500)
    view = work(start("send", one, {"invoiceIds": ["1", "77"]}))
    assert [(call.subject, call.status, call.code) for call in view.calls] == [
        ("1", "ok", "ok"),
        ("77", "failed", "not_found"),
    ]


def test_one_refused_invoice_does_not_keep_the_others(fleet):
    [(fake, _)] = one = fleet("ada")
    for cents in (100, 200, 300):
        fake.add_invoice(cents)
    original = fake.do
    fake.do = lambda path, body: (
        (409, {"ok": False, "error": "no", "reason": "conflict"})
        if body["id"] == "2"
        else original(path, body)
    )
    [call] = work(start("send", one)).calls
    assert (call.status, call.code, call.result["sentCount"], call.result["failedCount"]) == (
        "failed",
        "conflict",
        2,
        1,
    )


def test_a_dead_instance_fails_alone_and_is_retried_alone(fleet):
    alive, dead = two = fleet("ada", "bob")
    dead[0].stop()
    view = work(start("draft", two))
    assert {call.instance.name: (call.status, call.code) for call in view.calls} == {
        "ada": ("ok", "ok"),
        "bob": ("failed", "connect_failed"),
    }
    before = FleetCall.objects.get(instance=dead[1]).idempotency_key
    services.retry_failed(ACTOR, view.run.pk)
    again = FleetCall.objects.get(instance=dead[1])
    assert again.status == "waiting"
    assert again.idempotency_key == before  # nobody knows what became of the first, so the key stays
    assert alive[0].effects["draft"] == 1


def test_a_plain_refusal_is_retried_with_a_new_key(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.faults["/api/billing/invoices.create"] = (403, {"ok": False, "error": "frozen", "reason": "frozen"})
    view = work(start("draft", one))
    before = view.calls[0].idempotency_key
    assert (view.calls[0].outcome, view.calls[0].code) == ("refused", "frozen")
    fake.faults.clear()
    services.retry_failed(ACTOR, view.run.pk)
    after = work(view.run)
    assert after.calls[0].status == "ok"
    assert after.calls[0].idempotency_key != before
    with pytest.raises(Problem, match="Nothing in this run has failed"):
        services.retry_failed(ACTOR, view.run.pk)


@pytest.mark.parametrize(
    "answer",
    [
        (504, {}),
        (500, {"ok": False}),
        (409, {"ok": False, "error": "still runs", "reason": "idempotency_in_progress"}),
    ],
)
def test_a_refusal_that_tells_nothing_of_the_write_keeps_its_key(fleet, answer):
    """A proxy's 504 is no word of the instance: with a new key the write that did happen would happen twice."""
    [(fake, _)] = one = fleet("ada")
    fake.faults["/api/billing/invoices.create"] = answer
    view = work(start("draft", one))
    assert view.calls[0].outcome == "failed_there"
    services.retry_failed(ACTOR, view.run.pk)
    assert FleetCall.objects.get().idempotency_key == view.calls[0].idempotency_key


def test_an_instance_that_is_disabled_before_its_turn_is_not_called(fleet):
    [(fake, instance)] = one = fleet("ada")
    run = start("draft", one)
    instance.enabled = False
    instance.save()
    view = work(run)
    assert (view.run.status, view.calls[0].outcome, view.calls[0].code) == (
        "done",
        "skipped",
        "instance_disabled",
    )
    assert not fake.requests


def test_strange_invoice_ids_each_have_a_key_of_their_own(fleet):
    [(fake, _)] = one = fleet("ada")
    ids = ["x" * 180 + end for end in "ab"] + ["1\r\nX-Evil: 1", "ü"]
    for strange in ids:
        number = fake.add_invoice(100)
        fake.invoices[strange] = {**fake.invoices.pop(number), "id": strange}
    view = work(start("send", one))
    assert (view.calls[0].status, view.calls[0].result["sentCount"]) == ("ok", 4), view.calls[0].sentence
    assert len(fake.replies) == 4


def test_cancel_stops_what_has_not_begun(fleet):
    two = fleet("ada", "bob")
    run = start("draft", two)
    services.cancel_run(ACTOR, run.pk)
    view = work(run)
    assert (view.run.status, view.progress.cancelled) == ("cancelled", 2)
    assert view.run.finished_at is not None
    assert not any(fake.effects for fake, _ in two)
    with pytest.raises(Problem) as refused:
        services.cancel_run(ACTOR, run.pk)
    assert refused.value.code == "run_finished"


def test_disabled_instances_are_named_not_called(fleet):
    [(fake, instance)] = one = fleet("ada")
    instance.enabled = False
    instance.save()
    view = work(start("draft", one))
    assert (view.run.status, view.calls[0].code) == ("done", "instance_disabled")
    assert not fake.requests


def test_check_is_stored_in_the_directory(fleet):
    [(_fake, instance)] = one = fleet("ada")
    view = work(start("check", one))
    assert (view.calls[0].status, view.calls[0].result["mode"]) == ("ok", "sha256")
    instance.refresh_from_db()
    assert instance.check_ok is True


def test_the_mirror_is_asked_for_after_a_write(fleet):
    one = fleet("ada")
    work(start("draft", one))
    assert ProcrastinateJob.objects.filter(
        task_name="fleet.sync_shard", args__instance_ids=[str(one[0][1].pk)]
    ).exists()
    assert SyncState.objects.count() == 1


def test_shards_hold_fifty(fleet):
    [(fake, first)] = fleet("ada")
    from provider_federation.portal.directory.models import Instance

    more = Instance.objects.bulk_create(
        [
            Instance(
                name=f"i{n}",
                title="x",
                org_id=f"o{n}",
                base_url=fake.base_url,
                created_at=first.created_at,
                updated_at=first.created_at,
            )
            for n in range(120)
        ]
    )
    run = services.start_run(ACTOR, "preview", [first, *more])
    jobs = ProcrastinateJob.objects.filter(args__run_id=str(run.pk))
    assert sorted(len(job.args["call_ids"]) for job in jobs) == [21, 50, 50]


def test_run_and_jobs_stand_or_fall_together(fleet):
    one = fleet("ada")
    with suppress(RuntimeError), transaction.atomic():
        start("draft", one)
        raise RuntimeError
    assert not FleetRun.objects.exists()
    assert not ProcrastinateJob.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_repeated_start_is_the_same_run(fleet):
    one = fleet("ada")
    first = start("draft", one, request_key="k1")
    assert start("draft", one, request_key="k1").pk == first.pk
    assert FleetRun.objects.count() == 1
    with pytest.raises(Problem) as refused:
        start("preview", one, request_key="k1")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("explode", {}),
        ("draft", {"range": "d31"}),
        ("draft", {"start": "2026-01-01"}),
        ("draft", {"typo": 1}),
        ("sync", {"range": "d7"}),
        ("draft", {"invoiceIds": ["1"]}),
        ("send", {"invoiceIds": []}),
        ("send", {"invoiceIds": ["1", "1"]}),
    ],
)
def test_bad_requests_leave_nothing_behind(fleet, action, params):
    one = fleet("ada")
    with pytest.raises(Problem) as refused:
        start(action, one, params)
    assert refused.value.status == 400
    assert not FleetRun.objects.exists()


def test_nobody_chosen_is_refused(db):
    with pytest.raises(Problem, match="Choose from 1"):
        services.start_run(ACTOR, "draft", [])


def test_orphans_become_failures(fleet):
    one = fleet("ada")
    run = start("draft", one)
    assert execution.fail_orphans() == 0
    ProcrastinateJob.objects.filter(args__run_id=str(run.pk))._raw_delete("default")
    assert execution.fail_orphans() == 1
    view = queries.run_with_calls(run.pk)
    assert (view.run.status, view.calls[0].code) == ("done", "job_lost")


def test_every_step_is_audited(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.faults["/api/billing/preview"] = (403, {"ok": False, "error": "no", "reason": "frozen"})
    run = start("preview", one)
    work(run)
    services.retry_failed(ACTOR, run.pk)
    services.cancel_run(ACTOR, run.pk)
    kinds = list(
        AuditEvent.objects.filter(subject=f"run:{run.pk}").order_by("number").values_list("kind", flat=True)
    )
    assert kinds == ["fleet.run_started", "fleet.run_finished", "fleet.run_retried", "fleet.run_cancelled"]


def test_a_sync_by_hand_fills_the_mirror(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.add_invoice(500)
    [call] = work(start("sync", one)).calls
    assert (call.status, call.result) == ("ok", {"changes": 1, "pages": 1, "restarted": False})
    assert ClientInvoice.objects.get().total_cents == 500


def test_a_half_written_answer_of_the_list_sends_nothing(fleet):
    [(fake, _)] = one = fleet("ada")
    fake.faults["/api/billing/list"] = (200, {"ok": True, "items": [{"id": "1"}], "nextCursor": "same"})
    [call] = work(start("send", one)).calls
    assert (call.status, call.code) == ("failed", "page_cap")
    assert not fake.effects


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_one_key_make_one_run(fleet):
    one = fleet("ada")

    def ask(_number):
        try:
            return start("draft", one, request_key="k1").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    assert FleetRun.objects.count() == ProcrastinateJob.objects.count() == 1
