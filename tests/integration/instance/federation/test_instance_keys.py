"""Rotation, revocation, the ratchet and the owner's policy, over a real socket."""

from __future__ import annotations

import httpx
import pytest
from tests.integration.instance.federation.portal_rig import offer, pair

from provider_federation.adapters.signing import AnswerRefused
from provider_federation.instance.federation import services
from provider_federation.instance.federation.models import FederationKey
from provider_federation.instance.invoicing.models import Invoice, ProviderWrite
from provider_federation.instance.invoicing.services import set_provider_policy
from provider_federation.protocol import Key

KEYS = "/api/federation/keys"
LIST = "/api/billing/list"
CREATE = "/api/billing/invoices.create"
SEND = "/api/integrations/stripe/create-hosted-invoice"
POLICY = "/api/federation/policy"


def said(answer: httpx.Response, status: int, reason: str) -> None:
    assert (answer.status_code, answer.json().get("reason")) == (status, reason), answer.text


def refused_unsigned(client: httpx.Client, status: int) -> None:
    with pytest.raises(AnswerRefused) as refused:
        client.get(LIST)
    assert (refused.value.code, refused.value.status) == ("unsigned_answer", status)


def test_introduce_confirm_retire(dial, enrolled) -> None:
    old, answers = enrolled()
    new = pair("portal-new")
    introduced = dial(old, answers).post(KEYS, json={"action": "introduce", **offer(new)}).json()["key"]
    assert introduced["state"] == "introduced"
    assert introduced["notAfter"]
    assert dial(new, answers).get(LIST).status_code == 200  # both hold
    confirmed = dial(new, answers).post(KEYS, json={"action": "confirm", "keyId": new.id}).json()["key"]
    assert (confirmed["state"], confirmed["notAfter"]) == ("active", None)
    retired = dial(new, answers).post(KEYS, json={"action": "retire", "keyId": old.id}).json()["key"]
    assert retired["state"] == "ended"
    refused_unsigned(dial(old, answers), 401)
    assert dial(new, answers).get(LIST).status_code == 200


def test_82_in_the_overlap_both_keys_hold(dial, enrolled) -> None:
    old, answers = enrolled()
    new = pair("portal-new")
    dial(old, answers).post(KEYS, json={"action": "introduce", **offer(new)})
    retire = {"action": "retire", "keyId": old.id, "overlapSeconds": 60}
    assert dial(new, answers).post(KEYS, json=retire).json()["key"]["state"] == "retiring"
    for key in (old, new):
        assert dial(key, answers).get(LIST).status_code == 200


def test_an_introduction_is_repeated_safely_and_holds_for_one_key(dial, enrolled) -> None:
    old, answers = enrolled()
    new = pair("portal-new")
    body = {"action": "introduce", **offer(new)}
    assert [dial(old, answers).post(KEYS, json=body).status_code for _ in range(2)] == [200, 200]
    said(
        dial(old, answers).post(KEYS, json={"action": "introduce", **offer(pair("portal-new"))}),
        409,
        "key_exists",
    )


def test_no_key_raises_its_own_ceiling(dial, enrolled) -> None:
    reader, answers = enrolled(scope="read")
    refused = dial(reader, answers, scope="read").post(
        KEYS, json={"action": "introduce", **offer(pair("up"))}
    )
    said(refused, 403, "scope_not_allowed")
    assert not FederationKey.objects.filter(key_id="up").exists()


def test_a_legacy_signature_changes_no_key(server) -> None:
    said(server.post(KEYS, {"action": "introduce", **offer(pair())}), 403, "modern_signature_required")
    said(server.anonymous("POST", KEYS, json={"action": "confirm", "keyId": "x"}), 401, "not_signed_in")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"action": "confirm", "keyId": "another"}, 409, "confirm_with_itself"),
        ({"action": "retire", "keyId": "portal-1"}, 409, "retire_with_another"),
        ({"action": "retire", "keyId": "nobody"}, 404, "not_found"),
        ({"action": "retire"}, 400, "invalid_field"),
        ({"action": "introduce", "keyId": "x"}, 400, "invalid_field"),
        ({"action": "confirm", "keyId": "portal-1", "overlapSeconds": 5}, 400, "invalid_field"),
        ({"action": "retire", "keyId": "x", "overlapSeconds": 10**6}, 400, "invalid_field"),
    ],
)
def test_what_makes_no_sense_is_refused(dial, enrolled, body: dict, status: int, reason: str) -> None:
    key, answers = enrolled()
    said(dial(key, answers).post(KEYS, json=body), status, reason)


def test_81_revocation_holds_at_once_in_another_process(server, dial, enrolled) -> None:
    """The test's process is not the server's."""
    assert server.get(LIST, key="reader").status_code == 200
    key, answers = enrolled()
    assert dial(key, answers).get(LIST).status_code == 200
    for ended in (key.id, "reader"):  # the second is one of the environment
        services.revoke_key(ended)
    refused_unsigned(dial(key, answers), 401)
    services.reset_ratchet()
    said(server.get(LIST, key="reader"), 401, "unknown_key")
    assert server.get(LIST).status_code == 200


def test_66_a_pair_that_spoke_v2_is_refused_legacy_until_the_owner_resets_it(server, dial, enrolled) -> None:
    assert server.get(LIST).status_code == 200
    key, answers = enrolled()
    assert dial(key, answers).get(LIST).status_code == 200
    said(server.get(LIST), 401, "downgrade_refused")
    assert server.anonymous("GET", "/api/system/federation.status").json()["mode"] == "v2"
    services.reset_ratchet()
    assert server.get(LIST).status_code == 200


def test_a_frozen_provider_learns_that_and_nothing_else(server, dial, enrolled) -> None:
    key, answers = enrolled()
    portal = dial(key, answers)
    set_provider_policy(frozen=True)
    for answer in (portal.get(LIST), portal.post(CREATE, json={}), portal.post(KEYS, json={"action": "x"})):
        said(answer, 403, "frozen")
    assert portal.get(POLICY).json()["frozen"] is True
    assert portal.get("/api/system/federation.status").status_code == 200
    set_provider_policy(frozen=False)
    assert portal.get(LIST).status_code == 200


def test_drafting_stays_within_the_owners_amount(server, dial, enrolled, make_lead) -> None:
    key, answers = enrolled()
    portal = dial(key, answers)
    set_provider_policy(daily_limit_cents=15_000, currency="usd")
    make_lead(price_cents=10_000)
    assert portal.post(CREATE, json={}).json()["totals"]["totalCents"] == 10_000
    make_lead(price_cents=5_001)
    said(portal.post(CREATE, json={}), 403, "policy_refused")
    assert Invoice.objects.count() == 1  # what was refused left nothing
    assert portal.post(CREATE, json={"lines": []}).status_code in {200, 400}
    told = portal.get(POLICY).json()
    assert (told["dailyLimitCents"], told["draftedTodayCents"], told["sentTodayCents"]) == (15_000, 10_000, 0)
    set_provider_policy(daily_limit_cents=15_001)
    assert portal.post(CREATE, json={}).status_code == 200


def test_actions_that_the_owner_does_not_allow(server, dial, enrolled, make_lead) -> None:
    key, answers = enrolled()
    portal = dial(key, answers)
    make_lead()
    set_provider_policy(may_draft=False)
    said(portal.post(CREATE, json={}), 403, "policy_refused")
    set_provider_policy(may_draft=True, may_send=False)
    invoice = portal.post(CREATE, json={}).json()["invoice"]["id"]
    said(portal.post(SEND, json={"id": invoice}), 403, "policy_refused")
    set_provider_policy(may_send=True, daily_limit_cents=1, currency="usd")
    said(portal.post(SEND, json={"id": invoice}), 403, "policy_refused")
    assert not ProviderWrite.objects.filter(action="send").exists()
    set_provider_policy(daily_limit_cents=10**9, currency="eur")
    said(portal.post(SEND, json={"id": invoice}), 403, "policy_refused")


def test_a_shared_v2_key_of_the_environment_is_answered_with_itself(server, dial) -> None:
    """hmac-sha256: no public key to know, the answer is signed with the shared one."""
    legacy = server.keys["portal"]
    wrong = Key(legacy.id, "hmac-sha256", secret=legacy.secret)
    refused_unsigned(dial(wrong), 401)
