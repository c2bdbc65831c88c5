"""The owner's side of a dispute: filed on the lead's page, and what became of it in the list."""

from __future__ import annotations

import csv
import html
import io

import pytest
from django.test import Client
from tests.integration.instance.pages.conftest import MakeLead, World

from provider_federation.instance.disputes.models import Dispute
from provider_federation.instance.disputes.services import Word, file_dispute, store_word
from provider_federation.instance.people.models import Person
from provider_federation.kit import clock


def text_of(client: Client, target: str) -> str:
    answer = client.get(target)
    assert answer.status_code == 200, answer.content.decode()
    return html.unescape(answer.content.decode())


@pytest.mark.django_db
def test_filed_on_the_leads_page_and_shown_everywhere(
    owner: Client, clients: dict[str, Client], world: World
) -> None:
    lead = world.billable
    assert "Nothing is disputed" in text_of(owner, "/disputes")
    assert "/dispute" not in text_of(clients["viewer"], f"/leads/{lead.pk}").replace("/disputes", "")
    assert f'/leads/{lead.pk}/dispute">' in text_of(owner, f"/leads/{lead.pk}")
    empty = owner.post(f"/leads/{lead.pk}/dispute", {"claim": " \r\n "})
    assert (empty.status_code, Dispute.objects.count()) == (422, 0)
    done = owner.post(f"/leads/{lead.pk}/dispute", {"claim": "It was <b>ours</b>.\r\nA test."})
    assert (done.status_code, done["Location"]) == (302, f"/leads/{lead.pk}")
    page = owner.get(f"/leads/{lead.pk}").content.decode()
    assert "It was &lt;b&gt;ours&lt;/b&gt;. A test." in page
    assert "has not fetched it yet" in page
    assert f'/leads/{lead.pk}/dispute">' not in page, "one at a time"
    twice = owner.get(f"/leads/{lead.pk}/dispute")
    assert (twice.status_code, Dispute.objects.count()) == (302, 1)
    assert owner.post(f"/leads/{lead.pk}/dispute", {"claim": "Again"}).status_code == 302
    row = Dispute.objects.get()
    assert (row.filed_by.email, row.claim) == ("owner@x.example", "It was <b>ours</b>. A test.")
    assert "1 dispute waits" in text_of(owner, "/usage")
    store_word(row.reference, Word(1, "accepted", "You are right.", clock.now(), "CN-7", lead_freed=True))
    for target in ("/disputes", "/disputes?state=accepted", "/disputes?q=cn-7", f"/leads/{lead.pk}"):
        page = text_of(clients["viewer"], target)
        assert "You are right." in page, target
        assert "CN-7" in page, target
    assert "No dispute fits" in text_of(owner, "/disputes?state=rejected")
    assert owner.get("/disputes.csv?state=x").status_code == 400


@pytest.mark.django_db
def test_a_lead_that_is_not_charged_has_no_way_there(owner: Client, world: World) -> None:
    assert "/dispute" not in text_of(owner, f"/leads/{world.fresh.pk}").replace("/disputes", "")
    refused = owner.post(f"/leads/{world.fresh.pk}/dispute", {"claim": "No"})
    assert (refused.status_code, Dispute.objects.count()) == (409, 0)
    assert owner.get("/leads/999999/dispute").status_code == 404


@pytest.mark.django_db
def test_the_list_is_paged_newest_first_and_the_csv_holds_all(
    owner: Client, people: dict[str, Person], make_lead: MakeLead
) -> None:
    for number in range(27):
        file_dispute(make_lead().pk, f"=cmd() {number:02}", by=people["owner"])
    first, second = text_of(owner, "/disputes"), text_of(owner, "/disputes?page=2")
    assert "25 of 27" in first
    assert first.index("=cmd() 26") < first.index("=cmd() 02")
    assert ("=cmd() 01" in second, "=cmd() 02" in second) == (True, False)
    rows = list(csv.DictReader(io.StringIO(owner.get("/disputes.csv").content.decode())))
    assert [row["claim"] for row in rows] == [f"'=cmd() {number:02}" for number in reversed(range(27))]
    assert (rows[0]["state"], rows[0]["credit_note"], rows[0]["lead_freed"]) == ("filed", "", "")
