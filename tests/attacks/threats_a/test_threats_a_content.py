"""Area A, v2 over real sockets: what is replayed, changed on its way, or meant for somebody else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from tests.attacks.threats_a.world import (
    BODY,
    ED25519,
    HMAC,
    LEGACY,
    MOVED,
    MOVES,
    NOW,
    POLICY,
    READER,
    RESPONSE,
    Memory,
    at_once,
    bare,
    federated,
    header_of,
    made,
    names_of,
    plus_headers,
    raw,
    running,
    sealed,
    signed,
    with_header,
)

from provider_federation.protocol import Refused

BOTH = pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
CHANGED = [("POST", "/b", BODY), ("PUT", "/a", BODY), ("POST", "/a?x=1", BODY)]


def _digest(body: bytes, name: str = "sha-256") -> str:
    return f"{name}=:{base64.b64encode(hashlib.new(name.replace('-', ''), body).digest()).decode()}:"


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_threat_001_the_same_request_again(instance, key, method):
    request = signed(key, method, "/a", BODY if method == "POST" else b"")
    instance.accepts(request)
    answer = instance.refuses(request, "replayed", 401)
    assert answer.signer(request) == RESPONSE.id


@BOTH
def test_threat_002_fifty_times_at_once(instance, key):
    request = signed(key, "POST", "/a", BODY)
    outcomes = sorted(answer.outcome for answer in at_once(50, lambda: instance.call(request)))
    assert outcomes == [(200, None)] + [(401, "replayed")] * 49
    assert len(instance.app.seen) == 1


class _Broken(Memory):
    def remember(self, *_):
        raise OSError("the disk is gone: /secret/path")


class _BrokenRatchet(Memory):
    def is_set(self, _pair):
        raise OSError("the disk is gone: /secret/path")


@pytest.mark.parametrize(
    "memory", [_Broken(), _BrokenRatchet(), Memory(capacity=0)], ids=["down", "ratchet down", "full"]
)
def test_threat_005_without_memory_nothing_is_accepted(memory):
    with running(replay=memory) as instance:
        for request in (signed(HMAC), signed(HMAC, "POST", "/a", BODY)):
            answer = instance.refuses(request, "replay_store_unavailable", 503)
            assert b"secret" not in answer.received
            assert answer.signer(request) == RESPONSE.id


def test_threat_006_the_same_nonce_by_another_key(instance):
    nonce = "A" * 24
    for key in (HMAC, ED25519):
        assert instance.accepts(signed(key, nonce=nonce))["key"] == key.id
    instance.refuses(signed(HMAC, nonce=nonce, target="/b"), "replayed", 401)


@pytest.mark.parametrize("nonce", [None, "", "A", "A" * 21, "A" * 200, "A" * 21 + "!"])
def test_threat_007_a_nonce_that_is_none(instance, nonce):
    instance.refuses(made(nonce=nonce), "bad_nonce", 401)


def test_threat_007_a_nonce_of_10_kb_is_too_long_a_header_already(instance):
    instance.refuses(made(nonce="A" * 10_000), "headers_too_large", 431)


@BOTH
@pytest.mark.parametrize("position", range(len(BODY)))
def test_threat_010_body_one_byte_flipped(instance, key, position):
    request = signed(key, "POST", "/a", BODY)
    flipped = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
    answer = instance.refuses(replace(request, body=flipped), "digest_mismatch", 401)
    assert answer.signer(request) == RESPONSE.id


@pytest.mark.parametrize("more", [b"\n", b" ", b"\0", BODY])
def test_threat_011_bytes_added_to_the_body(instance, more):
    request = signed(HMAC, "POST", "/a", BODY)
    instance.refuses(replace(request, body=BODY + more), "digest_mismatch", 401)
    instance.refuses(replace(request, body=more + BODY), "digest_mismatch", 401)
    instance.refuses(replace(request, body=b""), "digest_mismatch", 401)


def test_threat_011_a_body_added_to_a_request_without_one(instance):
    instance.refuses(replace(signed(HMAC, "POST", "/a"), body=BODY), "insufficient_coverage", 401)


@BOTH
def test_threat_013_body_and_digest_replaced(instance, key):
    other = b'{"amount": 1000}'
    request = with_header(signed(key, "POST", "/a", BODY), "Content-Digest", _digest(other))
    instance.refuses(replace(request, body=other), "bad_signature", 401)


def test_threat_014_no_digest_with_a_body(instance):
    request = with_header(federated(bare("POST", "/a", BODY)), "Content-Digest", None)
    names = [name for name in names_of(request) if name != '"content-digest"']
    instance.refuses(sealed(request, HMAC, names=names), "insufficient_coverage", 401)
    taken_out = with_header(signed(HMAC, "POST", "/a", BODY), "Content-Digest", None)
    instance.refuses(taken_out, "insufficient_coverage", 401)


def test_threat_014_a_digest_taken_out_of_a_large_or_waiting_request(instance):
    """Refused before its body is read: all that is known then is that what is covered is not there."""
    taken_out = with_header(signed(HMAC, "POST", "/a", BODY), "Content-Digest", None)
    instance.refuses(taken_out, "missing_headers", 401, "Expect: 100-continue")


@pytest.mark.parametrize("left_out", ['"content-digest"', '"content-type"'])
def test_threat_015_a_digest_that_is_not_covered(instance, left_out):
    request = federated(bare("POST", "/a", BODY))
    names = [name for name in names_of(request) if name != left_out]
    instance.refuses(sealed(request, HMAC, names=names), "insufficient_coverage", 401)


@pytest.mark.parametrize("wrong", ["sha-256", "sha-512"])
def test_threat_017_of_two_digests_both_count(instance, wrong):
    def field(bad: str | None) -> str:
        return ", ".join(_digest(b"other" if name == bad else BODY, name) for name in ("sha-256", "sha-512"))

    for bad, good in ((wrong, False), (None, True)):
        request = made(
            bare("POST", "/a", BODY, ("Content-Digest", field(bad))), nonce=("N" if good else "B") * 24
        )
        if good:
            instance.accepts(request)
        else:
            instance.refuses(request, "digest_mismatch", 401)


@pytest.mark.parametrize(
    "value",
    ["sha-256=:***:", "sha-256=:YQ=:", 'sha-256="YQ=="', "sha-256", "sha-256=:YQ==:;x", ":YQ==:", "SHA-256=:YQ==:",
     "sha-256=:YQ==:,", "sha-256=:YQ==:, sha-256=:YQ==:", "sha-256=:YR==:"],
)  # fmt: skip
def test_threat_018_a_digest_that_cannot_be_read(instance, value):
    instance.refuses(made(bare("POST", "/a", BODY, ("Content-Digest", value))), "malformed_digest", 400)


def test_threat_018_a_digest_by_what_we_do_not_take(instance):
    for name in ("md5", "sha", "sha-384", "adler"):
        request = made(bare("POST", "/a", BODY, ("Content-Digest", f"{name}=:YWJj:")))
        instance.refuses(request, "digest_algorithm_not_allowed", 401)


@BOTH
@pytest.mark.parametrize("pieces", [[1] * len(BODY), [len(BODY)], [5, 1, len(BODY) - 6]], ids=str)
def test_threat_019_a_chunked_body_in_odd_pieces(instance, key, pieces):
    chunks, rest = b"", BODY
    for size in pieces:
        chunks += b"%x;ext=1\r\n%s\r\n" % (size, rest[:size])
        rest = rest[size:]
    request = signed(key, "POST", "/a", BODY)
    head = raw(request, "Transfer-Encoding: chunked", length=False)
    middle = len(chunks) // 2
    answer = instance.send(head + chunks[:middle], then=chunks[middle:] + b"0\r\n\r\n")
    assert (answer.status, answer.json["body"]) == (200, BODY.decode())
    assert answer.signer(request) == RESPONSE.id


def test_threat_022_an_encoded_body(instance):
    request = signed(HMAC, "POST", "/a", BODY)
    instance.refuses(request, "content_encoding_not_allowed", 415, "Content-Encoding: gzip")


def test_threat_023_a_body_over_the_limit(instance):
    large = bytes(POLICY.max_body + 1)
    instance.refuses(signed(HMAC, "POST", "/a", large), "body_too_large", 413)
    request = signed(HMAC, "POST", "/a", BODY)
    lying = instance.send(raw(request, f"Content-Length: {10**12}", length=False))
    assert lying.outcome == (413, "body_too_large")
    endless = instance.send(
        raw(request, "Transfer-Encoding: chunked", length=False),
        then=(b"8000\r\n" + bytes(0x8000) + b"\r\n") * 8,
    )
    assert endless.outcome == (413, "body_too_large")
    assert instance.app.seen == []


@BOTH
def test_threat_025_another_scope_in_the_header(instance, key):
    request = signed(key, scope="read")
    instance.refuses(with_header(request, "X-Provider-Scope", "provider"), "bad_signature", 401)
    instance.refuses(with_header(request, "X-Provider-Scope", None), "missing_headers", 401)
    assert instance.accepts(request)["scope"] == "read"


def test_threat_026_scope_above_the_keys_ceiling(instance):
    instance.refuses(signed(READER, scope="provider"), "scope_not_allowed", 403)


def test_threat_030_a_reader_writes(instance):
    answer = instance.refuses(signed(READER, "POST", "/a", scope="read"), "scope_not_allowed", 403)
    assert answer.status == 403
    assert instance.accepts(signed(READER, scope="read"))["scope"] == "read"
    assert instance.call(signed(HMAC, "POST", "/a", scope="read")).outcome == (403, "scope_not_allowed")


@BOTH
def test_threat_031_another_org(instance, key):
    request = signed(key, org="org-1")
    instance.refuses(with_header(request, "X-Provider-Org", "org-2"), "bad_signature", 401)
    added = plus_headers(signed(key), ("X-Provider-Org", "org-1"))
    instance.refuses(added, "insufficient_coverage", 401)
    instance.refuses(signed(key, org="org-2"), "org_mismatch", 403)
    instance.accepts(request)


def test_threat_033_an_instance_serves_one_org_so_none_need_be_named(instance):
    """Listed: 400 org_required for a key of several orgs. There is no such key: it is bound to one org or to none."""
    assert instance.accepts(signed(HMAC))["key"] == HMAC.id


def test_threat_034_a_request_for_another_instance_finds_no_key(instance):
    stranger = replace(HMAC, id="hmac-of-globex")
    instance.refuses(signed(stranger), "unknown_key", 401)


@BOTH
def test_threat_035_a_shared_key_at_another_instance(instance, key):
    elsewhere = sealed(federated(bare(), instance="globex"), key)
    answer = instance.refuses(elsewhere, "audience_mismatch", 401)
    assert answer.signer(elsewhere) == RESPONSE.id
    instance.refuses(with_header(elsewhere, "X-Provider-Instance", "acme"), "bad_signature", 401)
    instance.refuses(signed(key, host="globex.example"), "audience_mismatch", 401)


@BOTH
@pytest.mark.parametrize("changed", CHANGED, ids=lambda changed: f"{changed[0]} {changed[1]}")
def test_threats_038_041_045_another_method_or_target(instance, key, changed):
    request = signed(key, "POST", "/a", BODY)
    method, target, body = changed
    instance.refuses(replace(request, method=method, target=target, body=body), "bad_signature", 401)


@pytest.mark.parametrize(
    ("meant", "sent"),
    [("/a?x=1&y=2", "/a?y=2&x=1"), ("/a?x=1", "/a?x=1&x=2"), ("/a?x=1+2", "/a?x=1%202"), ("/a?x=1", "/a?X=1"),
     ("/a?x=%2f", "/a?x=%2F"), ("/a?x=%7E", "/a?x=~"), ("/a", "/a/"), ("/caf%C3%A9", "/caf%c3%a9"), ("/a?x", "/a?x=")],
)  # fmt: skip
def test_threats_041_042_045_another_spelling_of_the_target(instance, meant, sent):
    instance.refuses(replace(signed(HMAC, target=meant), target=sent), "bad_signature", 401)


@pytest.mark.parametrize(
    "target", ["//a", "/a//b", "/a/../b", "/a/./b", "/%2e%2e/", "/a;x", "/a\\b", "/a%2Fb", "/a%5cb", "/%7Ea"]
)
def test_threats_042_043_a_correctly_signed_odd_target(instance, target):
    answer = instance.call(sealed(federated(bare(target=target)), HMAC))
    assert answer.status == 400
    assert answer.json.get("reason", "non_canonical_target") == "non_canonical_target"
    assert instance.app.seen == []


@pytest.mark.parametrize(("meant", "sent"), [("/a", "/a?"), ("/a?", "/a"), ("/a?", "/a?"), ("/a", "/a")])
def test_threat_046_an_empty_query_is_no_query(instance, meant, sent):
    """Golden, and unlike legacy: RFC 9421 gives both the same `@query`, so v2 does not depend on the server."""
    instance.accepts(replace(signed(HMAC, target=meant), target=sent))


def test_threat_047_behind_a_proxy_that_strips_a_prefix():
    stripped = replace(signed(HMAC, target="/tenant/a"), target="/a")
    with running(root_path="/tenant") as instance:
        instance.accepts(stripped)
        instance.refuses(signed(HMAC, target="/a"), "bad_signature", 401)
    with running(prefix="/tenant") as instance:
        instance.accepts(stripped)
    with running(prefix="/other") as instance:
        instance.refuses(stripped, "bad_signature", 401)


@BOTH
@pytest.mark.parametrize("drift", [-300, 300])
def test_threat_059_both_edges_of_the_window_are_inside(instance, key, drift):
    request = signed(key)
    instance.now[0] = NOW + drift + (0.001 if drift > 0 else -0.001)
    answer = instance.refuses(request, "timestamp_out_of_window", 401)
    assert answer.signer(request, now=instance.now[0]) == RESPONSE.id
    instance.now[0] = NOW + drift
    instance.accepts(request)


def test_threat_059_a_late_request_by_nobody_is_not_answered_signed(instance):
    instance.now[0] = NOW + 301
    forged = with_header(signed(HMAC), "Signature", "pf=:" + "A" * 43 + "=:")
    answer = instance.refuses(forged, "timestamp_out_of_window", 401)
    with pytest.raises(Refused, match="missing_headers"):
        answer.signer(forged)


def test_threat_063_a_clock_that_steps_back_forgets_nothing(instance):
    instance.memory.capacity = 1
    instance.memory.forget()
    first = signed(HMAC, "POST", "/a", BODY)
    instance.accepts(first)
    instance.now[0] = NOW + 601  # now the first may be forgotten, and is
    instance.accepts(signed(HMAC, "POST", "/a", BODY, now=NOW + 601))
    instance.now[0] = NOW + 1
    instance.refuses(first, "replayed", 401)
    instance.memory.capacity = 100_000


def test_threat_066_a_pair_that_has_used_v2_has_left_legacy(instance):
    instance.accepts(signed(MOVED))
    instance.accepts(signed(LEGACY))
    instance.accepts(signed(MOVES))
    instance.refuses(signed(MOVED, now=NOW + 1), "downgrade_refused", 401)
    instance.accepts(signed(LEGACY, now=NOW + 1))  # another pair
    instance.memory.ratchet.reset("moving")  # an operator
    instance.accepts(signed(MOVED, now=NOW + 2))


def test_threat_066_a_v2_key_is_never_used_with_the_legacy_scheme(instance):
    instance.refuses(signed(replace(HMAC, algorithm="sha256")), "downgrade_refused", 401)


def test_threat_066_only_a_request_that_was_accepted_moves_the_pair(instance):
    for request in (with_header(signed(MOVES), "X-Provider-Scope", "read"), signed(MOVES, org="org-2")):
        assert instance.call(request).status in {401, 403}
    instance.accepts(signed(MOVED))


def test_threat_066_a_request_that_was_refused_as_replayed_is_the_only_trace(instance):
    request = signed(HMAC)
    instance.accepts(request)
    instance.refuses(request, "replayed", 401)
    assert header_of(request, "x-provider-instance") == "acme"


def test_threat_039_options_gives_no_more_than_its_signature(instance):
    """Listed: 405 or a CORS answer without the handler. Ours: the app's own affair, as any other method; no scope unsigned."""
    assert instance.accepts(signed(HMAC, "OPTIONS"))["key"] == HMAC.id
    instance.refuses(replace(signed(HMAC), method="OPTIONS"), "bad_signature", 401)
    unsigned = instance.send(b"OPTIONS /a HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n\r\n")
    assert (unsigned.status, unsigned.json["key"], unsigned.json["scope"]) == (200, None, None)
