"""Area A of the planned attacks, the legacy scheme: methods, targets, times, algorithms, keys."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.attacks.legacy_requests import KEY, NOW, code_of, plus, refusal_of, signed, verified

from provider_federation.protocol import (
    Key,
    Policy,
    Request,
)

# Method and target


def test_threat_038_another_method():
    request = signed("GET")
    for method in ("POST", "HEAD", "DELETE", "OPTIONS"):
        assert code_of(Request(method, request.target, "a", request.headers, b"")) == ("bad_signature", 401)
    overridden = plus(request, ("X-HTTP-Method-Override", "DELETE"))
    assert verified(overridden)


@pytest.mark.parametrize("method", ["get", "Get", "TRACE", "CONNECT", "", "GET ", "PURGE", "GE\0T", "\ud800"])
def test_a_method_that_we_do_not_serve(method):
    request = signed()
    assert code_of(Request(method, request.target, "a", request.headers, b"")) == ("bad_method", 400)


@pytest.mark.parametrize(
    ("meant", "sent"),
    [("/a", "/a/"), ("/a/", "/a"), ("/a", "/b"), ("/a", "/A"), ("/a?x=1&y=2", "/a?y=2&x=1"), ("/a?x=1", "/a?x=1&x=2"),
     ("/a?x=1+2", "/a?x=1%202"), ("/a?x=1", "/a?X=1"), ("/a", "/a?"), ("/a?", "/a"), ("/a?x=%2f", "/a?x=%2F"),
     ("/a?x=%7E", "/a?x=~"), ("/a?x=%252e", "/a?x=%2e"), ("/a%C3%A9", "/a%c3%a9"), ("/x/api/a", "/api/a")],
)  # fmt: skip
def test_threats_041_045_046_047_another_target(meant, sent):
    request = signed(target=meant)
    assert verified(request)
    assert code_of(Request("GET", sent, "a", request.headers, b"")) == ("bad_signature", 401)


@pytest.mark.parametrize("target", ["/a%zz", "/a%", "/a%2", "/a%00b", "/a?x=%00", "/a?x=%zz", "/%252e%252e/", "/a%0d%0ab",
                                    "/a b", "/a#b", "/a?x=1#b", "/é", "", "a", "*", "?a", "http://acme.example/a",
                                    "/a\r\nX: 1", "/a\0", "/a\x7f", "/\ud800", "/" + "a" * 9000])  # fmt: skip
def test_threat_042_a_target_that_cannot_be_read_one_way(target):
    request = signed()
    assert code_of(Request("GET", target, "a", request.headers, b"")) == ("bad_target", 400)


@pytest.mark.parametrize(
    "target",
    ["//a", "//", "/a//b", "/a//", "/a/../b", "/a/./b", "/..", "/.", "/a/..", "/a/.?x=1", "/%2e%2e/", "/a/%2E%2e/b",
     "/a/.%2e/b", "/a;x", "/a;x/b", "/a\\b", "/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb", "/a%3Bb", "/%7Ea", "/%61", "/a%2D"],
)  # fmt: skip
def test_threats_042_043_a_correctly_signed_target_that_servers_read_in_more_than_one_way(target):
    assert code_of(signed(target=target)) == ("non_canonical_target", 400)


@pytest.mark.parametrize(
    "target", ["/", "/a/", "/...", "/a/..b/.c", "/a?x=../b;c//d", "/a%20b", "/a?x=a%2Fb%20c", "/caf%C3%A9"]
)
def test_ordinary_targets_pass(target):
    assert verified(signed(target=target))


# Time


@pytest.mark.parametrize(
    "timestamp",
    ["2026-03-01", "2026-W09-7T12:00:00.250Z", "20260301T120000.250Z", "2026-03-01T12:00:00.250", "2026-03-01 12:00:00.250Z",
     "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.25Z", "2026-03-01T12:00:00.250000Z", "2026-03-01t12:00:00.250z",
     "2026-03-01T12:00:00,250Z", "2026-03-01T24:00:00.000Z", "2026-03-01T12:60:00.000Z", "2026-03-01T12:00:60.000Z",
     "2026-02-29T12:00:00.000Z", "2026-13-01T12:00:00.000Z", "2026-03-00T12:00:00.000Z", "1772366400", "now"],
)  # fmt: skip
def test_threat_057_another_way_of_writing_time(timestamp):
    assert code_of(signed(timestamp=timestamp)) == ("bad_timestamp", 401)


@pytest.mark.parametrize(
    "timestamp",
    ["2026-03-01T17:30:00.250+05:30", "2026-03-01T12:00:00.250+00:00", "2026-03-01T12:00:00.250-00:00"],
)
def test_threat_058_the_same_instant_with_an_offset(timestamp):
    assert code_of(signed(timestamp=timestamp)) == ("bad_timestamp", 401)


@pytest.mark.parametrize("edge", [-300, 300])
def test_threat_059_both_edges_are_inside(edge):
    request = signed()
    assert verified(request, now=NOW + edge)
    beyond = edge + (0.001 if edge > 0 else -0.001)
    assert code_of(request, now=NOW + beyond) == ("timestamp_out_of_window", 401)


@pytest.mark.parametrize("skew", [1, 60, 900])
def test_threat_059_whatever_the_width(skew):
    policy = Policy(accept=("sha256",), skew=skew)
    for milliseconds in range(0, 1000, 37):
        request = signed(now=NOW + milliseconds / 1000)
        exact = datetime.fromisoformat(dict(request.headers)["X-Provider-Timestamp"])
        for sign_ in (-1, 1):
            edge = (exact + sign_ * timedelta(seconds=skew)).timestamp()
            assert verified(request, policy=policy, now=edge)
            outside = (exact + sign_ * timedelta(seconds=skew, milliseconds=1)).timestamp()
            assert code_of(request, policy=policy, now=outside)[0] == "timestamp_out_of_window"


@pytest.mark.parametrize("year", ["0000", "9999", "+010000", "1969", "-0001", "10000", "3000", "٢٠٢٦"])
def test_threat_061_years_that_no_clock_shows(year):
    code = code_of(signed(timestamp=f"{year}-03-01T12:00:00.250Z"))
    assert code in {("bad_timestamp", 401), ("malformed_header", 400)}
    assert (code[0] == "bad_timestamp") == year.isascii()


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf"), 10**400, 2**63, -(2**63)])
def test_threat_061_a_clock_that_is_no_clock(now):
    assert code_of(signed(), now=now) == ("timestamp_out_of_window", 401)


# Algorithms and signatures

WEAK = Key("key-1", "h31", KEY.secret)
LOCAL = Policy(accept=("h31", "sha256"), development=True)


def _from(peer: str | None, request: Request, *headers: tuple[str, str]) -> Request:
    return Request(
        request.method, request.target, request.authority, [*request.headers, *headers], b"", peer=peer
    )


def test_threat_065_a_key_has_one_algorithm():
    weak = _from("127.0.0.1", signed(key=WEAK))
    assert code_of(weak, KEY, policy=LOCAL) == ("algorithm_not_allowed", 401)
    assert code_of(_from("127.0.0.1", signed()), WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    assert verified(weak, WEAK, policy=LOCAL).algorithm == "h31"


def test_h31_needs_development_and_loopback_and_to_be_accepted():
    request = signed(key=WEAK)
    for peer in (None, "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"):
        assert verified(_from(peer, request), WEAK, policy=LOCAL)
    for peer in (
        "",
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.0.0.1.evil.example",
        "\ud800",
    ):
        assert code_of(_from(peer, request), WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP"):
        forwarded = _from("127.0.0.1", request, (header, "127.0.0.1"))
        assert code_of(forwarded, WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    for policy in (Policy(accept=("h31",)), Policy(accept=("sha256",), development=True)):
        assert code_of(_from("127.0.0.1", request), WEAK, policy=policy) == ("algorithm_not_allowed", 401)


def test_sha256_needs_to_be_accepted():
    assert code_of(signed(), policy=Policy()) == ("algorithm_not_allowed", 401)


@pytest.mark.parametrize(
    "key", [Key("key-1", "hmac-sha256", KEY.secret), Key("key-1", "ed25519", public_key=bytes(range(32)))]
)
def test_threat_066_a_modern_key_is_never_used_with_the_legacy_scheme(key):
    assert code_of(signed(), key) == ("downgrade_refused", 401)


def test_threat_066_after_the_cut_off_legacy_is_over():
    policy = Policy(accept=("sha256",), legacy_until=NOW + 10)
    assert verified(signed(), policy=policy, now=NOW + 9.999)
    assert code_of(signed(), policy=policy, now=NOW + 10) == ("downgrade_refused", 401)


def test_threat_069_why_h31_protects_nothing():
    """One observed request, without the secret: the tag of any other target of the same length follows by sums."""
    observed = signed("GET", "/api/billing/list?limit=5", key=WEAK)
    tag = int(dict(observed.headers)["X-Provider-Signature"].removeprefix("h31:"), 16)
    wanted = observed.target.replace("limit=5", "limit=9")
    stamp = dict(observed.headers)["X-Provider-Timestamp"]

    def roll(text: str) -> int:
        value = 0
        for byte in text.encode():
            value = (value * 31 + byte) % 2**32
        return value

    difference = roll(f"GET {wanted} {stamp}") - roll(f"GET {observed.target} {stamp}")
    for length in range(1, 65):  # the length of the secret is all there is to guess
        forged = (tag + difference * pow(31, length, 2**32)) % 2**32
        request = _from(
            "127.0.0.1", signed("GET", wanted, key=WEAK, timestamp=stamp, signature=f"h31:{forged:x}")
        )
        if length == len(WEAK.secret):
            assert verified(request, WEAK, policy=LOCAL)
        assert code_of(request, KEY)[0] == "algorithm_not_allowed"


GOOD_TAG = dict(signed().headers)["X-Provider-Signature"]


@pytest.mark.parametrize(
    "tag",
    ["sha256:pending", "sha256:", GOOD_TAG.upper(), "sha256:" + GOOD_TAG[7:].upper(), GOOD_TAG[:-1], GOOD_TAG + "0",
     GOOD_TAG + "=", "SHA256:" + GOOD_TAG[7:], "h31:0x1f", GOOD_TAG[7:], "h31:", "h31:01", "h31:123456789", "sha512:" + "0" * 128,
     "sha256=" + GOOD_TAG[7:], "sha256: " + GOOD_TAG[7:], GOOD_TAG + "," + GOOD_TAG],
)  # fmt: skip
def test_threat_070_a_signature_that_is_almost_one(tag):
    assert code_of(signed(signature=tag)) == ("malformed_signature", 401)


def test_threat_070_every_other_tag_is_wrong():
    for position in range(7, len(GOOD_TAG)):
        other = "0" if GOOD_TAG[position] != "0" else "1"
        tag = GOOD_TAG[:position] + other + GOOD_TAG[position + 1 :]
        assert code_of(signed(signature=tag)) == ("bad_signature", 401)


# Keys


def test_threat_081_a_revoked_key_is_refused_at_once():
    revoked = Key("key-1", "sha256", KEY.secret, revoked=True)
    refused = refusal_of(signed(), revoked)
    assert (refused.code, refused.public_code, refused.status, refused.key_id) == (
        "revoked_key",
        "unknown_key",
        401,
        "key-1",
    )


def test_threat_082_keys_have_their_days():
    old = Key("old", "sha256", KEY.secret, not_after=NOW + 10)
    new = Key("new", "sha256", b"the secret that comes after it..", not_before=NOW - 10)
    for key in (old, new):
        assert verified(signed(key=key), old, new)
    assert code_of(signed(key=old), old, new, now=NOW + 10.5) == ("expired_key", 401)
    assert code_of(signed(key=new), old, new, now=NOW - 10.5) == ("key_not_yet_valid", 401)
    for edge, key in ((NOW + 10, old), (NOW - 10, new)):
        assert verified(signed(key=key), old, new, now=edge)


@pytest.mark.parametrize(
    "key_id", ["key", "key-11", "KEY-1", "__proto__", "constructor", "../key-1", "key-1'--", "key-1%00"]
)
def test_threat_083_almost_a_key_id(key_id):
    assert code_of(signed(keyid=key_id)) == ("unknown_key", 401)


@pytest.mark.parametrize("key_id", ["", "' OR 1=1 --", "key-1,key-1", 'key"1', "k" * 200])
def test_threat_083_no_key_id_at_all(key_id):
    assert code_of(signed(keyid=key_id)) == ("malformed_header", 400)
