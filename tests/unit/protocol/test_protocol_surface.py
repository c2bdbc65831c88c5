"""The public surface, as section 2.5 of the contract fixes it, and values that refuse to be nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

import provider_federation.protocol as protocol
from provider_federation.protocol import Key, Keyring, Policy, Principal, Refused, Request, sign, verify
from provider_federation.protocol.refusals import STATUS_BY_CODE

CONTRACT_CODES = [
    "missing_headers",
    "duplicate_header",
    "malformed_header",
    "headers_too_large",
    "ambiguous_auth",
    "unknown_key",
    "revoked_key",
    "key_not_yet_valid",
    "expired_key",
    "algorithm_not_allowed",
    "downgrade_refused",
    "bad_timestamp",
    "timestamp_out_of_window",
    "bad_nonce",
    "bad_expires",
    "insufficient_coverage",
    "malformed_signature",
    "malformed_signature_input",
    "bad_signature",
    "digest_mismatch",
    "malformed_digest",
    "digest_algorithm_not_allowed",
    "non_canonical_target",
    "bad_target",
    "bad_method",
    "audience_mismatch",
    "replayed",
    "bad_scope",
    "scope_not_allowed",
    "org_mismatch",
    "policy_refused",
    "frozen",
    "body_too_large",
    "content_encoding_not_allowed",
    "rate_limited",
    "replay_store_unavailable",
]


def test_exported_names():
    assert set(protocol.__all__) == {
        "Request", "Key", "Keyring", "Policy", "Principal", "Refused", "ReplayStore", "MemoryReplayStore", "sign",
        "verify", "Response", "sign_response", "verify_response", "answer_key", "Ratchet", "MemoryRatchet", "CannotSign",
    }  # fmt: skip
    assert all(
        getattr(protocol, name).__module__.startswith("provider_federation.protocol")
        for name in protocol.__all__
    )


def test_the_contracts_calls_work_as_written():
    request = Request("GET", "/api/billing/list", "acme.example", [], b"")
    key = Key("key-1", "sha256", b"s" * 32, b"", "provider", None, None, None, None)
    headers = sign(request, key, now=1_790_000_000.5, scope="provider", instance="acme", org=None, nonce=None)
    assert [name for name, _ in headers] == [
        "X-Provider-KeyId", "X-Provider-Timestamp", "X-Provider-Signature", "X-Provider-Scope",
    ]  # fmt: skip
    signed = Request("GET", "/api/billing/list", "acme.example", headers, b"")
    policy = Policy(instance=None, authorities=(), accept=("sha256",), skew=300, development=False)
    principal = verify(signed, Keyring([key]), policy, now=1_790_000_000.5, replay=None)
    assert principal == Principal("key-1", "provider", None, "sha256")


def test_every_code_of_the_contract_has_a_status():
    assert set(CONTRACT_CODES) <= set(STATUS_BY_CODE)
    expected = {"replayed": 401, "ambiguous_auth": 400, "frozen": 403, "body_too_large": 413, "rate_limited": 429,
                "content_encoding_not_allowed": 415, "headers_too_large": 431, "replay_store_unavailable": 503}  # fmt: skip
    assert {code: STATUS_BY_CODE[code] for code in expected} == expected


@pytest.mark.parametrize("code", ["unknown_key", "revoked_key", "expired_key", "key_not_yet_valid"])
def test_the_caller_is_not_told_what_is_wrong_with_a_key(code):
    refused = Refused(code, key_id="key-1")
    assert refused.code == code
    assert (refused.status, refused.body()) == (401, Refused("unknown_key").body())
    assert refused.public_code == "unknown_key"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""}, {"id": "a b"}, {"id": "a,b"}, {"id": "é"}, {"id": "x" * 129}, {"algorithm": "md5"},
        {"secret": b""}, {"scope": "admin"}, {"public_key": bytes(32)},
        {"algorithm": "ed25519", "secret": b"short"}, {"algorithm": "ed25519", "secret": b""},
        {"algorithm": "ed25519", "secret": b"", "public_key": bytes(31)},
    ],
)  # fmt: skip
def test_a_key_that_makes_no_sense_is_not_made(fields):
    with pytest.raises(ValueError):
        Key(**{"id": "key-1", "algorithm": "sha256", "secret": b"s" * 32} | fields)


def test_secrets_are_not_in_the_repr():
    assert "hunter2" not in repr(Key("key-1", "sha256", b"hunter2" * 5))


def test_one_id_stands_for_one_key():
    with pytest.raises(ValueError, match="two keys"):
        Keyring([Key("a", "sha256", b"1"), Key("a", "sha256", b"2")])


def test_a_policy_knows_its_algorithms():
    with pytest.raises(ValueError, match="sha1"):
        Policy(accept=("sha1",))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "é", "\0"])
def test_nothing_is_signed_into_a_header_that_would_break_it(value):
    request = Request("GET", "/", "a", [], b"")
    with pytest.raises(ValueError):
        sign(request, Key("k", "sha256", b"s"), now=0, org=value)


def test_the_page_for_implementers_says_what_the_code_does():
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    for code, status in STATUS_BY_CODE.items():
        assert f"| {status} | `{code}` |" in page
    legacy, modern = (
        Key(name, algorithm, b"q7Jc2mXv9TzL4bHs8WnK")
        for name, algorithm in (("key-1", "sha256"), ("key-2", "hmac-sha256"))
    )
    sent = [("Content-Type", "application/json"), ("Idempotency-Key", "0b6a2f3e")]
    request = Request("POST", "/api/billing/invoices.create?range=d30", "acme.example", sent, b"{}")
    options = {"now": 1758823200.0, "org": "org-1", "instance": "acme", "nonce": "3vGmG0xk2b8Vb0qY1rJtSw"}
    for name, value in sign(request, legacy, **options) + sign(request, modern, **options):
        assert f"    {name}: {value}\n" in page
