"""The vectors for other languages: the generator against the committed files, and every one of them through `verify`."""

from __future__ import annotations

import pytest
from tests.unit.protocol.vector_files import keyring_of, load, policy_of, request_of, response_of
from tools import vectors

from provider_federation.protocol import (
    MemoryRatchet,
    MemoryReplayStore,
    Refused,
    sign,
    verify,
    verify_response,
)
from provider_federation.protocol.config import ConfigurationError, read_environment
from provider_federation.protocol.material import is_weak
from provider_federation.protocol.refusals import STATUS_BY_CODE

V2, RESPONSES, REFUSALS = load("v2.json"), load("responses.json"), load("refusals.json")
NO_SINGLE_REQUEST = {
    "rate_limited", "replay_store_unavailable", "internal_error", "policy_refused", "frozen", "enrolment_closed",
    "response_too_large", "handler_failed",
}  # fmt: skip


def _named(case):
    return case["name"]


@pytest.mark.parametrize("name", sorted(vectors.FILES))
def test_the_generator_makes_the_committed_file(name):
    assert (vectors.FOLDER / name).read_text() == vectors.text_of(name)


@pytest.mark.parametrize("case", V2["cases"], ids=_named)
def test_a_good_request_is_signed_and_accepted(case):
    request = request_of(case["request"], *case["added"])
    keyring = keyring_of(V2)
    store = MemoryReplayStore()
    principal = verify(request, keyring, policy_of(V2["policy"]), now=V2["now"], replay=store)
    assert (principal.key_id, principal.scheme) == (case["key"], "v2")
    if "sign" in case:
        added = sign(request_of(case["request"]), keyring.get(case["key"]), now=V2["now"], **case["sign"])
        assert [list(pair) for pair in added] == case["added"]
        assert (principal.scope, principal.org) == (case["sign"]["scope"], case["sign"]["org"])
    with pytest.raises(Refused, match="replayed"):
        verify(request, keyring, policy_of(V2["policy"]), now=V2["now"], replay=store)


@pytest.mark.parametrize("case", RESPONSES["cases"], ids=_named)
def test_an_answer_is_what_its_vector_says(case):
    def verified():
        return verify_response(
            response_of(case["response"]),
            request_of(case["request"]),
            keyring_of(RESPONSES),
            now=RESPONSES["now"],
        )

    if case["code"] is None:
        assert verified().id in {"portal-hmac", "instance-ed25519"}
    else:
        with pytest.raises(Refused, match=case["code"]):
            verified()


@pytest.mark.parametrize("case", REFUSALS["cases"], ids=_named)
def test_a_refusal_is_what_its_vector_says(case):
    policy = policy_of(REFUSALS["policy"], **case.get("policy", {}))
    memory = {"replay": MemoryReplayStore(), "ratchet": MemoryRatchet()}
    for before in case.get("before", ()):
        assert verify(request_of(before), keyring_of(REFUSALS), policy, now=REFUSALS["now"], **memory)
    with pytest.raises(Refused) as caught:
        verify(request_of(case["request"]), keyring_of(REFUSALS), policy, now=REFUSALS["now"], **memory)
    refused = caught.value
    assert (refused.code, refused.status, refused.public_code) == (
        case["code"],
        case["status"],
        case["reason"],
    )


def test_every_code_that_a_request_can_produce_has_a_vector():
    assert {case["code"] for case in REFUSALS["cases"]} | NO_SINGLE_REQUEST >= set(STATUS_BY_CODE)


def test_the_names_are_unique():
    for content in (V2, RESPONSES, REFUSALS):
        names = [case["name"] for case in content["cases"]]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "key", [*keyring_of(V2), *keyring_of(RESPONSES), *keyring_of(REFUSALS)], ids=lambda key: key.id
)
def test_no_key_of_the_vectors_is_taken_outside_development(key):
    assert is_weak(key)


def test_a_secret_of_the_vectors_stops_a_start():
    with pytest.raises(ConfigurationError) as caught:
        read_environment(
            {
                "PROVIDER_KEYS_JSON": '{"k": {"secret": "provider-federation-test-secret-1", "algorithm": "hmac-sha256"}}'
            }
        )
    assert caught.value.code == "config_weak_secret"
