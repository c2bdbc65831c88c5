"""Idempotency-Key: the first answer again, for the same request only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from provider_federation.instance.invoicing.idempotency import KEPT, forget_old_records
from provider_federation.instance.invoicing.models import IdempotencyRecord, Invoice
from provider_federation.instance.leads.models import Lead
from provider_federation.kit import clock

MakeLead = Callable[..., Lead]
DRAFT = "/api/billing/invoices.create"
SEND = "/api/integrations/stripe/create-hosted-invoice"


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_the_first_answer_comes_again(server: Any, make_lead: MakeLead) -> None:
    make_lead()
    first = server.post(DRAFT, {"range": "d7"}, headers=keyed("one"))
    make_lead()  # without the key this would be a second invoice
    again = server.post(DRAFT, {"range": "d7"}, headers=keyed("one"))
    spaced = server.post(DRAFT, raw=b'{ "range" : "d7" }', headers=keyed("one"))
    assert first.json()["reused"] is False
    assert (again.status_code, again.json(), spaced.json()) == (200, first.json(), first.json())
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert Invoice.objects.count() == 1
    assert (
        server.post(DRAFT, {"range": "d7"}, headers=keyed("two")).json()["invoice"]["id"]
        != first.json()["invoice"]["id"]
    )


def test_another_request_with_the_key_is_a_422(server: Any, make_lead: MakeLead) -> None:
    make_lead()
    assert server.post(DRAFT, {"range": "d7"}, headers=keyed("one")).status_code == 200
    for target, body in [
        (DRAFT, {"range": "d30"}),
        (DRAFT, None),
        (DRAFT + "?range=d7", None),
        (SEND, {"id": "1"}),
    ]:
        answer = server.post(target, body, headers=keyed("one"))
        assert (answer.status_code, answer.json()["reason"]) == (422, "idempotency_mismatch"), (target, body)


def test_twenty_at_once_have_one_effect(server: Any, make_lead: MakeLead) -> None:
    make_lead(), make_lead()
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: server.post(DRAFT, {"range": "d7"}, headers=keyed("same")), range(20))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers].count(None) == 1
    assert Invoice.objects.count() == 1


def test_a_refused_request_may_be_sent_again_with_its_key(server: Any, make_lead: MakeLead) -> None:
    lead = make_lead(price_cents=None)
    body = {"lines": [{"leadId": str(lead.pk)}]}
    assert server.post(DRAFT, body, headers=keyed("again")).status_code == 409
    Lead.objects.filter(pk=lead.pk).update(price_cents=100)
    assert server.post(DRAFT, body, headers=keyed("again")).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "caf\u00e9"])
def test_a_key_that_is_none(server: Any, key: str) -> None:
    answer = server.post(DRAFT, {}, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code in {400, 200}, answer.text
    if key.strip() == key and key:
        assert answer.json()["reason"] == "bad_idempotency_key"


def test_answers_are_kept_for_more_than_two_days_and_then_forgotten(db: None) -> None:
    assert timedelta(hours=48) < KEPT
    for age in (KEPT + timedelta(seconds=1), timedelta(hours=50)):
        IdempotencyRecord.objects.create(
            caller="provider",
            key=str(age),
            fingerprint="",
            status=200,
            body="{}",
            created_at=clock.now() - age,
        )
    assert forget_old_records() == 1
    assert IdempotencyRecord.objects.count() == 1
