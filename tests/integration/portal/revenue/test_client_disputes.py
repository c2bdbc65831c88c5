"""Disputes that clients file themselves: fetched once, decided by an operator, told until the client knows."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from tests.integration.portal.clicking import Person
from tests.integration.portal.revenue.disputing_instance import DisputingInstance
from tests.integration.portal.revenue.rig import FEBRUARY, NOW, enrol, forget_jobs, jobs, run_jobs

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.receivables.models import (
    ClientDispute,
    CreditNote,
    DisputeReading,
    LeadDispute,
)
from provider_federation.portal.receivables.services import disputes, filings, telling
from provider_federation.portal.receivables.services.filings import read_many, schedule_readings
from provider_federation.portal.receivables.services.jobs import CLIENTS, READ, TELL, defer_forgotten
from provider_federation.portal.revenue.models import LeadCharge

BASE = "/api/provider/billing"
LEAD = "lead-2026-02-1"
OTHER = "lead-2026-02-2"


@pytest.fixture
def grown(transactional_db, settings, at):
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    forget_jobs()
    made: list[DisputingInstance] = []

    def one(name):
        made.append(DisputingInstance(f"org_{name}"))
        return made[-1], enrol(made[-1], name)

    yield one
    for instance in made:
        instance.stop()


@pytest.fixture
def ada(books, grown, api):
    """A client with two leads on an open usage invoice."""
    usage, row = grown("ada")
    usage.uses(FEBRUARY, 2, ai="3.00")
    ask(
        api,
        "revenue",
        {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"},
        201,
    )
    assert run_jobs() == []
    usage.row = row
    return usage


def ask(api, path, body, status=200):
    answer = api.post(f"{BASE}/{path}", body, content_type="application/json")
    assert answer.status_code == status, answer.json()
    return answer.json()


def read():
    """Let every enabled instance be due, and do what a worker would do, telling included."""
    DisputeReading.objects.update(due_at=Now())
    schedule_readings()
    assert run_jobs(queue=CLIENTS) == []


def filing(remote_id="d1"):
    return ClientDispute.objects.get(remote_id=remote_id)


def accept(api, row, **more):
    return ask(api, f"disputes/{row.dispute_id}/accept", {"decision": "Right you are.", **more})["dispute"]


def test_filed_there_decided_here_and_told(books, ada, api):
    ada.files(
        "d1", LEAD, claim="They\x07 never\u202e \n called. ", amountCents=1, currency="eur", creditNote=5
    )
    ada.files("d2", OTHER)
    read()
    row = filing()
    assert (row.claim, row.dispute.claim) == ("They never called.",) * 2
    assert (row.dispute.raised_by, row.dispute.state) == ("client:org_ada", "open")
    assert ada.holds("d1") == ada.holds("d2") == ("open", 1)
    assert (row.acknowledged, row.acknowledged_version) == (True, 1)
    assert CreditNote.objects.count() == 0, "a dispute credits nothing by itself"
    listed = api.get(f"{BASE}/disputes?state=open").json()
    assert {one["raisedBy"] for one in listed["items"]} == {"client:org_ada"}
    assert {one["filings"][0]["acknowledged"] for one in listed["items"]} == {True}
    assert (listed["coverage"]["complete"], listed["coverage"]["read"]) == (True, 1)
    accept(api, row, freesLead=True)
    note = CreditNote.objects.get()
    assert (note.total_cents, note.currency) == (10_000, "usd"), "the lead's price, as it was billed"
    ask(api, f"disputes/{filing('d2').dispute_id}/reject", {"decision": "It did convert."})
    assert jobs(TELL) >= 2, "committed with the decision"
    assert run_jobs(queue=CLIENTS) == []
    told = ada.disputes["d1"]
    assert (told["state"], told["creditNoteNumber"], told["leadFreed"]) == ("accepted", note.number, True)
    assert (told["decision"], told["decidedAt"]) == ("Right you are.", "2026-03-10T12:00:00Z")
    assert (ada.disputes["d2"]["state"], ada.disputes["d2"]["decision"]) == ("rejected", "It did convert.")
    assert api.get(f"{BASE}/client-disputes").json()["coverage"]["untold"] == 0
    assert len(books.get("credit_notes?limit=100")["data"]) == 1
    kinds = list(AuditEvent.objects.filter(kind__contains="dispute").values_list("kind", "actor"))
    assert kinds.count(("receivables.dispute_filed", "client:org_ada")) == 2
    assert kinds.count(("receivables.dispute_raised", "client:org_ada")) == 2


def test_read_any_number_of_times_it_is_recorded_once(ada):
    for number in range(5):
        ada.files(f"d{number}", LEAD if number % 2 else OTHER)
    read()
    assert (ClientDispute.objects.count(), LeadDispute.objects.count()) == (5, 2)
    for _ in range(2):
        DisputeReading.objects.update(cursor="", epoch="")
        read()
    told = len(ada.told)
    read()
    assert (ClientDispute.objects.count(), LeadDispute.objects.count(), len(ada.told)) == (5, 2, told)
    events = AuditEvent.objects.filter(kind="receivables.dispute_filed").count()
    assert events == 5


def test_a_rejected_one_is_raised_anew_and_an_open_one_of_the_operators_is_joined(ada, api):
    recorded = ask(api, "disputes", {"clientOrgId": "org_ada", "leadId": LEAD, "claim": "By letter."}, 201)[
        "dispute"
    ]
    ada.files("d1", LEAD)
    read()
    assert (str(filing().dispute_id), filing().dispute.claim) == (recorded["id"], "By letter.")
    ask(api, f"disputes/{recorded['id']}/reject", {"decision": "No."})
    ada.files("d2", LEAD, claim="But look.")
    read()
    assert (ada.holds("d1"), ada.holds("d2")) == (("rejected", 2), ("open", 1))
    assert LeadDispute.objects.count() == 2


@pytest.mark.parametrize("frees", [True, False])
def test_what_was_accepted_before_is_answered_as_such(ada, api, frees):
    recorded = ask(api, "disputes", {"clientOrgId": "org_ada", "leadId": LEAD, "claim": "By letter."}, 201)[
        "dispute"
    ]
    ask(api, f"disputes/{recorded['id']}/accept", {"decision": "Yes.", "freesLead": frees})
    ada.files("d1", LEAD)
    read()
    told = ada.disputes["d1"]
    assert (told["state"], told["version"], told["leadFreed"]) == ("accepted", 1, frees)
    assert told["creditNoteNumber"] == CreditNote.objects.get().number
    assert LeadDispute.objects.count() == CreditNote.objects.count() == 1


def test_what_was_never_billed_here_or_was_taken_back_is_answered_so(ada, grown, api):
    usage, _ = grown("eve")
    usage.files("d1", LEAD)  # a lead of ada's
    usage.files("d2", "nothing-like-it")
    ada.files("d3", LEAD)
    LeadCharge.objects.filter(lead_id=LEAD).update(released_at=NOW)
    read()
    assert {usage.holds("d1"), usage.holds("d2"), ada.holds("d3")} == {("not_billed", 1)}
    assert "not been billed" in usage.disputes["d1"]["decision"]
    assert "taken back" in ada.disputes["d3"]["decision"]
    assert (LeadDispute.objects.count(), ClientDispute.objects.filter(dispute=None).count()) == (0, 3)
    shown = api.get(f"{BASE}/client-disputes?state=not_billed&clientOrgId=org_eve&limit=1").json()
    assert (len(shown["items"]), shown["items"][0]["disputeId"]) == (1, None)
    rest = api.get(
        f"{BASE}/client-disputes?state=not_billed&clientOrgId=org_eve&cursor={shown['nextCursor']}"
    ).json()
    assert ({rest["items"][0]["remoteId"], shown["items"][0]["remoteId"]}, rest["nextCursor"]) == (
        {"d1", "d2"},
        None,
    )
    assert api.get(f"{BASE}/client-disputes?state=x").json()["reason"] == "invalid_field"
    assert api.get(f"{BASE}/client-disputes?cursor=x").json()["reason"] == "bad_cursor"


_FAULT = (500, {"ok": False, "error": "no", "reason": "internal_error"})


def _page(**dispute):
    whole = {
        "id": "d9",
        "leadId": "l",
        "claim": "c",
        "filedAt": "2026-03-09T08:00:00Z",
        "version": 0,
        **dispute,
    }
    return 200, {
        "ok": True,
        "epoch": "e1",
        "items": [{"dispute": whole}],
        "nextCursor": "e1:1",
        "hasMore": False,
    }


_BAD_PAGES = [
    (_FAULT, "internal_error"),
    ((403, {"ok": False, "error": "frozen", "reason": "frozen"}), "frozen"),
    *(
        (_page(**change), "unexpected_shape")
        for change in (
            {"id": "../../x"}, {"id": ""}, {"leadId": ""}, {"leadId": "a\x07b"}, {"claim": 5}, {"filedAt": "2026-03-09T08:00:00"},
            {"version": -1}, {"version": 2**53}, {"version": True},
        )
    ),
    ((200, {"ok": True, "epoch": "e1", "items": [], "nextCursor": "", "hasMore": False}), "unexpected_shape"),
    ((200, {"ok": True, "items": [{}] * 101, "epoch": "e", "nextCursor": "x", "hasMore": False}), "unexpected_shape"),
]  # fmt: skip


def test_a_failing_instance_is_shown_and_stops_no_other(ada, grown, api):
    broken, row = grown("bob")
    ada.files("d1", LEAD)
    for number, (fault, code) in enumerate(_BAD_PAGES, 1):
        broken.feed_faults = [fault] * 9
        read()
        assert ada.holds("d1") == ("open", 1)
        assert ClientDispute.objects.count() == 1
        heard = api.get(f"{BASE}/disputes").json()["coverage"]
        assert (heard["complete"], heard["failingCount"], heard["read"], heard["of"]) == (False, 1, 1, 2)
        assert (heard["failing"][0]["clientOrgId"], heard["failing"][0]["code"]) == ("org_bob", code), fault
        state = DisputeReading.objects.get(instance=row)
        assert (state.failures, state.cursor) == (number, "")
        assert schedule_readings() == 0, "not at once"
    broken.feed_faults = []
    broken.files("d2", "unknown")
    read()
    assert broken.holds("d2") == ("not_billed", 1)
    assert api.get(f"{BASE}/disputes").json()["coverage"]["complete"] is True


def test_an_app_without_disputes_is_no_failure(grown, api):
    usage, row = grown("bob")
    usage.feed_faults = [(404, {"ok": False, "error": "nothing here", "reason": "not_found"})]
    read()
    assert (DisputeReading.objects.get(instance=row).last_code, usage.asked) == ("not_offered", 1)
    heard = api.get(f"{BASE}/disputes").json()["coverage"]
    assert (heard["complete"], heard["notOffered"], heard["failingCount"]) == (True, 1, 0)


@pytest.mark.parametrize(
    ("limit", "most", "read_then"), [("_PAGES_AT_ONCE", 2, 4), ("SECONDS_AT_ONCE", 0, 2)]
)
def test_a_feed_that_never_ends_ends_the_job(ada, monkeypatch, limit, most, read_then):
    monkeypatch.setattr(filings, limit, most)
    for number in range(7):
        ada.files(f"d{number}", f"unknown-{number}")
    read()
    assert ClientDispute.objects.count() == read_then
    assert schedule_readings() == 1, "due again at once"
    forget_jobs()
    ada.feed_faults = [
        (200, {"ok": True, "epoch": "e1", "items": [], "nextCursor": DisputeReading.objects.get().cursor, "hasMore": True})
    ]  # fmt: skip
    read()
    assert DisputeReading.objects.get().last_code == "page_cap"


def test_a_flood_waits(ada, api, at, monkeypatch):
    monkeypatch.setattr(filings, "MOST_A_DAY", 3)
    for number in range(8):
        ada.files(f"d{number}", f"unknown-{number}")
    read()
    assert ClientDispute.objects.count() == 3
    assert api.get(f"{BASE}/disputes").json()["coverage"]["failing"][0]["code"] == "too_many_disputes"
    at(NOW + timedelta(days=1, seconds=1))
    read()
    assert ClientDispute.objects.count() == 6


def test_a_disabled_instance_is_left_alone(ada, api):
    ada.files("d1", LEAD)
    Instance.objects.update(enabled=False)
    asked = ada.asked
    read()
    read_many([ada.row.pk])
    assert (ada.asked, ClientDispute.objects.count()) == (asked, 0)
    Instance.objects.update(enabled=True)
    read()
    Instance.objects.update(enabled=False)
    accept(api, filing())
    run_jobs(queue=CLIENTS)
    assert (ada.holds("d1"), filing().failures) == (("open", 1), 0)
    assert defer_forgotten() == 0
    Instance.objects.update(enabled=True)
    defer_forgotten()
    run_jobs(queue=CLIENTS)
    assert ada.holds("d1")[0] == "accepted"


@pytest.mark.parametrize("fault", [_FAULT, (200, {"ok": True}), (200, {"ok": True, "version": 0}), (404, {})])
def test_what_is_not_confirmed_is_told_again_later(ada, api, at, fault):
    ada.files("d1", LEAD)
    ada.word_faults = [fault] * 3
    read()
    row = filing()
    assert (row.acknowledged, row.failures, row.lost_at) == (False, 1, None)
    heard = api.get(f"{BASE}/client-disputes").json()["coverage"]
    assert (heard["complete"], heard["untold"], heard["untoldFailing"]) == (False, 1, 1)
    assert defer_forgotten() == 0, "not at once"
    at(row.due_at + timedelta(seconds=1))
    ada.word_faults = []
    defer_forgotten()
    assert run_jobs(queue=CLIENTS) == []
    assert (ada.holds("d1"), filing().acknowledged) == (("open", 1), True)


def test_order_and_loss_do_not_matter(ada, api, at):
    """Decisions told late, some lost, some answered without a confirmation: the client ends with what holds."""
    for seed in range(4):
        chance, name = random.Random(seed), f"d{seed}"
        ada.files(name, LEAD)
        ada.word_faults = [_FAULT] * chance.randint(0, 2)
        read()
        row = filing(name)
        ask(api, f"disputes/{row.dispute_id}/reject", {"decision": f"No {seed}."})
        while not filing(name).acknowledged:
            at(filing(name).due_at + timedelta(seconds=1))
            defer_forgotten()
            run_jobs(queue=CLIENTS)
        ada.take(f"/api/federation/disputes/{name}", {**ada.told[0], "version": 1}, f"late {seed}")
        assert (ada.disputes[name]["state"], ada.disputes[name]["decision"]) == ("rejected", f"No {seed}.")


def tell_later(at):
    """What is due by then is told."""
    at(filing().due_at + timedelta(seconds=1))
    defer_forgotten()
    assert run_jobs(queue=CLIENTS) == []


def test_a_portal_restored_from_a_backup_speaks_above_what_it_had_said(ada, api, at):
    ada.files("d1", LEAD, state="accepted", version=41)
    read()
    assert (ada.holds("d1"), filing().acknowledged) == (("open", 42), True)
    ClientDispute.objects.update(version=3, acknowledged_version=2)
    telling.tell_client(filing().pk)
    assert jobs(TELL) == 0, "not at once"
    tell_later(at)
    assert (ada.holds("d1"), filing().version) == (("open", 43), 43)
    ada.disputes["d1"].update(state="rejected", version=44)  # said by a portal whose memory is gone
    accept(api, filing())
    run_jobs(queue=CLIENTS)
    tell_later(at)
    assert (ada.holds("d1")[0], filing().acknowledged) == ("accepted", True)


@pytest.mark.parametrize("version", [10**30, 2**53, 7_000, -1, True, "7", None])
def test_an_instance_that_always_knows_better_keeps_nobody_talking(ada, version):
    ada.word_faults = [(200, {"ok": True, "version": version})] * 50
    ada.files("d1", LEAD)
    read()
    assert (len(ada.word_faults), filing().failures, filing().acknowledged) == (49, 1, False)


def test_an_instance_restored_from_a_backup_is_told_again(ada, api):
    ada.files("d1", LEAD)
    ada.files("d2", OTHER)
    read()
    accept(api, filing())
    ask(api, f"disputes/{filing('d2').dispute_id}/reject", {"decision": "No."})
    run_jobs(queue=CLIENTS)
    read()
    kept = ada.disputes["d1"] | {"state": "filed", "version": 0}
    ada.disputes, ada.entries, ada.replies = {"d1": kept}, ["d1"], {}  # d2 was filed after the backup
    read()
    assert (ada.holds("d1")[0], filing().acknowledged) == ("accepted", True)
    assert ClientDispute.objects.count() == 2
    ClientDispute.objects.filter(remote_id="d2").update(version=9, due_at=NOW)
    defer_forgotten()
    run_jobs(queue=CLIENTS)
    assert (filing("d2").lost_at is None, filing("d2").last_code) == (False, "not_found")
    assert defer_forgotten() == 0, "it is left alone"
    assert api.get(f"{BASE}/client-disputes").json()["items"][-1]["lost"] in {True, False}
    ada.files("d2", OTHER)
    ada.epoch = "e2"
    read()
    assert (filing("d2").lost_at, ada.holds("d2")) == (None, ("rejected", 9))


def test_the_pages_say_who_filed_and_whether_the_client_knows(ada):
    admin_pages = Person("admin").sees
    ada.files("d1", LEAD, claim="<b>Never</b>")
    ada.files("d2", "unknown-lead")
    ada.word_faults = [_FAULT]
    read()
    page = admin_pages("/disputes/")
    for words in (
        "by the client",
        "&lt;b&gt;Never&lt;/b&gt;",
        "Not told yet",
        "public unknown-lead",
        "not been billed",
    ):
        assert words in page, words
    page = admin_pages(f"/disputes/{filing().dispute_id}/")
    assert "Filed by the client" in page
    assert "stands otherwise there" in page
    overview = admin_pages("/")
    assert "1 lead dispute waits for a decision" in overview
    assert "1 exchange about disputes fails" in overview


def test_one_dispute_told_to_two_filings(ada, api):
    """Both are told, also when the second was filed after a restored backup of the instance."""
    ada.files("d1", LEAD)
    ada.files("d2", LEAD)
    read()
    assert LeadDispute.objects.count() == 1
    disputes.reject_dispute(LeadDispute.objects.get(), decision="No.", actor="operator:t")
    run_jobs(queue=CLIENTS)
    assert (ada.holds("d1"), ada.holds("d2")) == (("rejected", 2), ("rejected", 2))


class Crashed(BaseException):
    """The process is gone: nothing may catch this."""


@pytest.mark.parametrize("page", [1, 5])
def test_a_pull_that_dies_anywhere_is_taken_up_again(ada, monkeypatch, page):
    """Before and after each dispute is recorded, and before the job notes how it went."""
    ada.feed_page = page
    for number in range(3):
        ada.files(f"d{number}", f"unknown-{number}")
    ada.files("d3", LEAD)
    real, done = filings._record_new, filings._note_success

    def fused(work, fuse):
        def run(*given, **named):
            fuse()
            result = work(*given, **named)
            fuse()
            return result

        return run

    for at in range(12):
        met = iter(range(100))

        def fuse(at=at, met=met):
            if next(met) == at:
                raise Crashed

        with monkeypatch.context() as patched:
            patched.setattr(filings, "_record_new", fused(real, fuse))
            patched.setattr(filings, "_note_success", fused(done, fuse))
            DisputeReading.objects.update(cursor="", epoch="")
            schedule_readings()
            with contextlib.suppress(Crashed):
                read_many([ada.row.pk])
        read()
        assert (ClientDispute.objects.count(), LeadDispute.objects.count()) == (4, 1), at
        assert {ada.holds(f"d{number}")[0] for number in range(3)} == {"not_billed"}
        assert ada.holds("d3") == ("open", 1)
        if at < 11:  # from nothing again, the last one stays to be looked at
            ClientDispute.objects.all().delete()
            LeadDispute.objects.all().delete()
            for name in ada.disputes:
                ada.disputes[name].update(state="filed", version=0)
            ada.replies.clear()
    assert AuditEvent.objects.filter(kind="receivables.dispute_raised").count() >= 1


def test_a_telling_that_dies_anywhere_is_taken_up_again(ada, api, monkeypatch):
    ada.files("d1", LEAD)
    read()
    accept(api, filing())
    applied = len(ada.told)

    def die(*_given, **_named):
        raise Crashed

    for name in ("call_now", "note_held"):  # before the call; after it, before it is written down
        with monkeypatch.context() as patched:
            patched.setattr(telling, name, die)
            with pytest.raises(Crashed):
                telling.tell_client(filing().pk)
        assert not filing().acknowledged
    forget_jobs()  # the worker's too
    defer_forgotten()
    assert jobs(TELL) == 1
    assert run_jobs(queue=CLIENTS) == []
    assert (filing().acknowledged, ada.holds("d1")[0]) == (True, "accepted")
    assert len({one["version"] for one in ada.told[applied:]}) == len(ada.told[applied:]), (
        "each word taken once"
    )
    schedule_readings()
    assert jobs(READ) <= 1
