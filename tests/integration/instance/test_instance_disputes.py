"""A lead that the provider should not have charged: filed by an owner, fetched in order, decided by the provider alone."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from provider_federation.instance.disputes import services
from provider_federation.instance.disputes.models import Dispute, DisputeChange
from provider_federation.instance.disputes.services import Word, file_dispute, store_word
from provider_federation.instance.invoicing.models import Feed
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.people.models import Person
from provider_federation.instance.people.services import add_person
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/federation/disputes"
PASSWORD = "a long enough passphrase"
MakeLead = Callable[..., Lead]


def told(version: int = 1, state: str = "open", **more: Any) -> dict[str, Any]:
    decided = state != "open"
    return {
        "version": version,
        "state": state,
        "decision": "Because." if decided else "",
        "decidedAt": "2026-03-10T12:00:00Z" if decided else None,
        "creditNoteNumber": "CN-1" if state == "accepted" else "",
        "leadFreed": False,
        **more,
    }


@pytest.fixture
def ada(db: None) -> Person:
    return add_person("owner@x.example", PASSWORD, role="owner", name="Ada")


@pytest.fixture
def filed(ada: Person, make_lead: MakeLead) -> Callable[..., Dispute]:
    return lambda words="It was a test.", lead=None: file_dispute((lead or make_lead()).pk, words, by=ada)[0]


def refused(code: str, work: Callable[[], Any]) -> None:
    with pytest.raises(Problem) as problem:
        work()
    assert problem.value.code == code


def test_one_lead_has_one_dispute_until_it_is_decided(ada: Person, make_lead: MakeLead) -> None:
    lead = make_lead()
    first, made = file_dispute(lead.pk, "  It was\n\na \u202etest.\x07 ", by=ada)
    assert (made, first.claim, first.state, first.version) == (True, "It was a test.", "filed", 0)
    again, made = file_dispute(lead.pk, "Something else", by=ada)
    assert (again.pk, made) == (first.pk, False)
    store_word(first.reference, Word(1, "open", "", None, "", lead_freed=False))
    assert file_dispute(lead.pk, "Still", by=ada) == (first, False)
    store_word(first.reference, Word(2, "rejected", "No.", clock.now(), "", lead_freed=False))
    second, made = file_dispute(lead.pk, "But look", by=ada)
    assert (made, Dispute.objects.count()) == (True, 2)
    store_word(second.reference, Word(1, "accepted", "Yes.", clock.now(), "CN-1", lead_freed=False))
    refused("dispute_decided", lambda: file_dispute(lead.pk, "Once more", by=ada))
    store_word(second.reference, Word(2, "accepted", "Yes.", clock.now(), "CN-1", lead_freed=True))
    assert file_dispute(lead.pk, "It was charged anew", by=ada)[1]


def test_only_what_the_provider_charges_for_can_be_disputed(ada: Person, make_lead: MakeLead) -> None:
    refused("lead_not_charged", lambda: file_dispute(make_lead(converted=False).pk, "No", by=ada))
    refused("lead_not_charged", lambda: file_dispute(make_lead(source="import").pk, "No", by=ada))
    refused("not_found", lambda: file_dispute(10**9, "No", by=ada))
    lead = make_lead()
    for words in ("", " \n\x00\t", "x" * 1_001):
        refused("invalid_field", lambda words=words: file_dispute(lead.pk, words, by=ada))
    assert file_dispute(lead.pk, "x" * 1_000, by=ada)[1]


def test_what_waits_is_bounded(
    filed: Callable[..., Dispute], monkeypatch: pytest.MonkeyPatch, make_lead: MakeLead, ada: Person
) -> None:
    monkeypatch.setattr(services, "MOST_UNDECIDED", 2)
    first = filed()
    filed()
    lead = make_lead()
    refused("too_many_disputes", lambda: file_dispute(lead.pk, "One more", by=ada))
    store_word(first.reference, Word(1, "rejected", "No.", clock.now(), "", lead_freed=False))
    assert file_dispute(lead.pk, "One more", by=ada)[1]


def test_the_feed_is_read_in_order_from_a_cursor(server: Any, filed: Callable[..., Dispute]) -> None:
    empty = server.get(URL).json()
    assert (empty["items"], empty["hasMore"]) == ([], False)
    rows = [filed(f"Words {number}") for number in range(5)]
    store_word(rows[0].reference, Word(1, "open", "", None, "", lead_freed=False))
    met, cursor = [], empty["nextCursor"]
    for more in (True, True, False):
        page = server.get(f"{URL}?cursor={cursor}&limit=2").json()
        met += page["items"]
        cursor = page["nextCursor"]
        assert (page["hasMore"], page["epoch"]) == (more, empty["epoch"])
    assert [item["seq"] for item in met] == [1, 2, 3, 4, 5, 6]
    assert [item["dispute"]["id"] for item in met] == [row.reference for row in [*rows, rows[0]]]
    shown, lead = met[0]["dispute"], rows[0].lead
    assert (shown["state"], shown["version"], shown["claim"]) == ("open", 1, "Words 0")
    assert (shown["leadId"], shown["leadPublicId"]) == (str(lead.pk), lead.public_id)
    month = f"{lead.converted_at:%Y-%m}"
    usage = server.get(f"/api/provider/usage?period={month}").json()["leads"]["items"]
    assert shown["evidence"] in {item["evidence"] for item in usage}, "the evidence that the provider billed"
    assert "email" not in server.get(URL).text, "who filed it is the client's own affair"
    quiet = server.get(f"{URL}?cursor={cursor}").json()
    assert (quiet["items"], quiet["nextCursor"]) == ([], cursor)


def test_a_cursor_of_another_history_is_refused(server: Any, filed: Callable[..., Dispute]) -> None:
    filed()
    filed()
    cursor = server.get(URL).json()["nextCursor"]
    last = DisputeChange.objects.order_by("seq").last()
    assert last is not None
    last.delete()  # a backup from before the second one
    Dispute.objects.exclude(changes__isnull=False).delete()
    unknown = server.get(f"{URL}?cursor={cursor}")
    assert (unknown.status_code, unknown.json()["reason"]) == (409, "cursor_unknown")
    filed()  # the same number again, and another mark
    assert server.get(f"{URL}?cursor={cursor}").json()["reason"] == "cursor_unknown"
    whole = server.get(URL).json()
    Feed.objects.update(epoch="another")
    assert server.get(f"{URL}?cursor={whole['nextCursor']}").json()["reason"] == "cursor_unknown"
    assert server.get(f"{URL}?cursor=nonsense").json()["reason"] == "bad_cursor"
    assert server.get(f"{URL}?limit=201").status_code == server.get(f"{URL}?since=1").status_code == 400


def test_the_providers_word_is_kept_by_version(server: Any, filed: Callable[..., Dispute]) -> None:
    row = filed()
    one = f"{URL}/{row.reference}"
    first = server.post(one, told()).json()
    assert first == {"ok": True, "applied": True, "id": row.reference, "version": 1, "state": "open"}
    done = server.post(one, told(3, "accepted", leadFreed=True)).json()
    assert (done["applied"], done["version"], done["state"]) == (True, 3, "accepted")
    late = server.post(one, told(2, "rejected")).json()
    assert (late["applied"], late["version"], late["state"]) == (False, 3, "accepted")
    assert server.post(one, told(3, "accepted", leadFreed=True)).json()["applied"] is False
    other = server.post(one, told(3, "rejected"))
    assert (other.status_code, other.json()["reason"]) == (409, "dispute_conflict")
    row.refresh_from_db()
    assert (row.decision, row.credit_note_number, row.lead_freed) == ("Because.", "CN-1", True)
    assert DisputeChange.objects.filter(dispute=row).count() == 3, "what changed nothing is no entry"
    key = {"Idempotency-Key": "k1"}
    assert server.post(one, told(4, "rejected"), headers=key).json()["applied"] is True
    replay = server.post(one, told(4, "rejected"), headers=key)
    assert (replay.json()["applied"], replay.headers["Idempotent-Replayed"]) == (True, "true")
    assert server.post(one, told(5, "rejected"), headers=key).json()["reason"] == "idempotency_mismatch"


def test_any_order_leaves_the_newest(filed: Callable[..., Dispute]) -> None:
    row, at = filed(), clock.now()
    words = [
        Word(
            version,
            state,
            "" if state == "open" else state,
            None if state == "open" else at,
            "",
            lead_freed=False,
        )
        for version, state in enumerate(("open", "rejected", "accepted", "not_billed"), 1)
    ]
    for seed, order in enumerate(itertools.permutations(words)):
        Dispute.objects.update(version=0, state="filed", decision="", decided_at=None)
        for word in [*order, random.Random(seed).choice(order)]:
            store_word(row.reference, word)
        row.refresh_from_db()
        assert (row.version, row.state) == (4, "not_billed")


def test_nobody_but_the_provider_decides(server: Any, filed: Callable[..., Dispute], ada: Person) -> None:
    row = filed()
    one = f"{URL}/{row.reference}"
    assert server.anonymous("POST", one, json=told()).status_code == 401
    assert server.anonymous("GET", URL).status_code == 401
    assert server.post(one, told(), key="reader").json()["reason"] == "scope_not_allowed"
    assert server.get(URL, key="reader").status_code == 200
    owner = Client(headers={"host": "127.0.0.1"})
    owner.force_login(ada)
    answer = owner.post(one, told(), content_type="application/json")
    assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
    for missing in ("0" * 24, row.pk, "%00", "a" * 500):
        assert server.post(f"{URL}/{missing}", told()).status_code in {400, 404}, missing
    row.refresh_from_db()
    assert (row.version, row.state) == (0, "filed")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0}, {"version": True}, {"version": "1"}, {"version": 2**63}, {"state": "filed"}, {"state": "gold"},
        {"decision": "x" * 1_001}, {"decision": None}, {"decidedAt": "2026-03-10T12:00:00Z"}, {"decidedAt": "tomorrow", "state": "rejected"},
        {"state": "rejected"}, {"creditNoteNumber": "CN-1"}, {"leadFreed": True}, {"leadFreed": "no"}, {"leadFreed": 0},
        {"amountCents": 1}, {"creditNoteNumber": "x" * 65}, {"state": "accepted", "decidedAt": "2026-03-10T12:00:00"},
    ],
)  # fmt: skip
def test_bad_words_are_refused(server: Any, filed: Callable[..., Dispute], change: dict[str, Any]) -> None:
    row = filed()
    answer = server.post(f"{URL}/{row.reference}", {**told(), **change})
    assert answer.status_code == 400, answer.text
    row.refresh_from_db()
    assert row.version == 0


def test_a_word_without_one_of_its_fields_is_refused(server: Any, filed: Callable[..., Dispute]) -> None:
    row = filed()
    for name in told():
        body = told()
        del body[name]
        assert server.post(f"{URL}/{row.reference}", body).status_code == 400, name


def test_many_owners_at_once_file_one(ada: Person, make_lead: MakeLead) -> None:
    """A lead that six people dispute at once, and six leads besides: one dispute each, numbered without a gap."""
    shared, own = make_lead(), [make_lead() for _ in range(6)]
    faults: list[Exception] = []

    def press(lead: Lead) -> None:
        try:
            file_dispute(shared.pk, "Shared", by=ada)
            file_dispute(lead.pk, "Own", by=ada)
        except Exception as error:  # noqa: BLE001  the test looks at it
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=(lead,)) for lead in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    assert (Dispute.objects.filter(lead=shared).count(), Dispute.objects.count()) == (1, 7)
    assert list(DisputeChange.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 4, 5, 6, 7]
