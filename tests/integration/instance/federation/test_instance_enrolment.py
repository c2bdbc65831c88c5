"""Pairing by a one-time code (threats 98 and 99), over a real socket."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from tests.integration.instance.federation.portal_rig import offer, pair

from provider_federation.adapters.signing import AnswerRefused
from provider_federation.instance.federation.models import FederationKey, Invitation
from provider_federation.instance.federation.services import (
    MOST_TRIES,
    close_enrolment,
    open_enrolment,
)
from provider_federation.kit import clock
from provider_federation.protocol import Key, Request, sign
from provider_federation.protocol.pairing import code_key, new_code

ENROL = "/api/federation/enrol"
STATUS = "/api/system/federation.status"


def test_a_code_pairs_a_portal_and_its_key_then_calls(server, dial, enrolled) -> None:
    key, answers = enrolled()
    status = dial(key, answers).get(STATUS).json()
    assert status["instance"] == "acme"
    assert {scheme["name"]: scheme["accepted"] for scheme in status["schemes"]}["v2"] is True
    row = FederationKey.objects.get(key_id=key.id)
    assert (row.last_scheme, row.source) == ("v2", "enrolled")
    assert Invitation.objects.get().used_by == key.id


def test_threat_099_without_an_invitation_it_is_closed(server, dial) -> None:
    assert_closed(server, raw(server, code_key(new_code()), offer(pair())))
    anonymous = server.anonymous("POST", ENROL, json=offer(pair()))
    assert_closed(server, anonymous)


def test_threat_099_a_used_code_is_closed_and_says_so_signed(dial) -> None:
    _, code = open_enrolment()
    portal = dial(code_key(code))
    assert portal.post(ENROL, json=offer(pair())).status_code == 200
    second = portal.post(ENROL, json=offer(pair("portal-2")))  # the client would refuse an unsigned answer
    assert_closed(None, second)
    assert FederationKey.objects.count() == 1


def test_threat_099_an_expired_or_closed_code_is_closed(dial) -> None:
    invitation, code = open_enrolment(minutes=5)
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert_closed(None, dial(code_key(code)).post(ENROL, json=offer(pair())))
    _, code = open_enrolment()
    close_enrolment()
    assert_closed(None, dial(code_key(code)).post(ENROL, json=offer(pair())))


def test_threat_099_a_second_portal_with_an_older_code_finds_it_closed(dial) -> None:
    _, first = open_enrolment()
    _, second = open_enrolment()
    assert_closed(None, dial(code_key(first)).post(ENROL, json=offer(pair())))
    assert dial(code_key(second)).post(ENROL, json=offer(pair())).status_code == 200


def test_threat_098_data_swapped_under_an_old_signature_is_refused(server) -> None:
    _, code = open_enrolment()
    good, evil = (json.dumps(offer(pair(name))).encode() for name in ("good", "evil"))
    headers = signed_headers(server, code_key(code), good)
    swapped = httpx.post(server.url + ENROL, content=evil, headers=headers)
    assert (swapped.status_code, swapped.json()["reason"]) == (401, "digest_mismatch")
    other = dict(signed_headers(server, code_key(code), evil))
    both = httpx.post(
        server.url + ENROL, content=evil, headers={**headers, "Content-Digest": other["Content-Digest"]}
    )
    assert (both.status_code, both.json()["reason"]) == (401, "bad_signature")
    assert not FederationKey.objects.exists()


def test_guessing_closes_the_code(server, dial) -> None:
    _, code = open_enrolment()
    key = code_key(code)
    wrong = Key(key.id, "hmac-sha256", secret=b"x" * 32)
    for _ in range(MOST_TRIES):
        assert raw(server, wrong, offer(pair())).json()["reason"] == "bad_signature"
    assert_closed(None, dial(key).post(ENROL, json=offer(pair())))


def test_a_code_opens_nothing_else(server, dial) -> None:
    _, code = open_enrolment()
    refused = raw(server, code_key(code), None, method="GET", path="/api/billing/list")
    assert (refused.status_code, refused.json()["reason"]) == (401, "unknown_key")


def test_a_key_of_the_environment_does_not_enrol(server) -> None:
    open_enrolment()
    refused = server.post(ENROL, offer(pair()))
    assert refused.status_code in {401, 403}
    assert not FederationKey.objects.exists()


@pytest.mark.parametrize("scope", ["read", "provider"])
def test_the_owners_ceiling_holds(dial, scope: str) -> None:
    _, code = open_enrolment(scope="read")
    answer = dial(code_key(code)).post(ENROL, json=offer(pair(), scope))
    expected = (200, None) if scope == "read" else (403, "scope_not_allowed")
    assert (answer.status_code, answer.json().get("reason")) == expected


def test_threat_073_a_low_order_public_key_is_refused(dial) -> None:
    _, code = open_enrolment()
    low = {"id": "low", "publicKey": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "scope": "provider"}
    answer = dial(code_key(code)).post(ENROL, json={"key": low})
    assert (answer.status_code, answer.json()["reason"]) == (400, "invalid_key")


def test_a_known_key_or_id_is_not_taken_again(dial, enrolled) -> None:
    key, _ = enrolled()
    for again in (pair(key.id), Key("other", "ed25519", secret=key.secret), pair("portal")):
        _, code = open_enrolment()
        answer = dial(code_key(code)).post(ENROL, json=offer(again))
        assert (answer.status_code, answer.json()["reason"]) == (409, "key_exists")


def test_an_answer_by_another_key_counts_as_none(dial, enrolled) -> None:
    key, _ = enrolled()
    with pytest.raises(AnswerRefused) as refused:
        dial(key, pair("acme-answers")).get(STATUS)
    assert refused.value.code == "wrongly_bound_answer"


def signed_headers(server, key: Key, body: bytes, method: str = "POST", path: str = ENROL) -> dict[str, str]:
    sent = [("Content-Type", "application/json")] if body else []
    request = Request(method, path, f"127.0.0.1:{server.port}", sent, body)
    return dict(sent + sign(request, key, now=clock.timestamp(), instance="acme"))


def raw(server, key: Key, body: dict | None, method: str = "POST", path: str = ENROL) -> httpx.Response:
    """Sent without looking at the answer's signature."""
    content = b"" if body is None else json.dumps(body).encode()
    headers = signed_headers(server, key, content, method, path)
    return httpx.request(method, server.url + path, content=content, headers=headers)


def assert_closed(_server, answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["reason"]) == (403, "enrolment_closed")
