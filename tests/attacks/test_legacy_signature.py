"""Area A of the threat list, as far as the legacy scheme is concerned: what `verify` itself refuses."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest

from provider_federation.adapters.replay import SqliteReplayStore
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Principal,
    Refused,
    Request,
    sign,
    verify,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC).timestamp()
KEY = Key("key-1", "sha256", b"a secret of thirty-two bytes ...")
POLICY = Policy(accept=("sha256", "hmac-sha256", "ed25519"))


def _signed(
    method: str = "GET",
    target: str = "/api/billing/list?limit=5",
    *,
    key: Key = KEY,
    now: float = NOW,
    scope: str | None = None,
    org: str | None = None,
    body: bytes = b"",
    **replaced: str | None,
) -> Request:
    """A good request; `replaced` exchanges headers by name (`timestamp=…`), None leaves one out."""
    headers = dict(
        sign(Request(method, target, "acme.example", [], body), key, now=now, scope=scope, org=org)
    )
    for name, value in replaced.items():
        full = "X-Provider-" + {"keyid": "KeyId"}.get(name, name.title())
        headers.pop(full, None)
        if value is not None:
            headers[full] = value
    return Request(method, target, "acme.example", list(headers.items()), body)


def _plus(request: Request, *headers: tuple[str, str]) -> Request:
    return Request(
        request.method, request.target, request.authority, [*request.headers, *headers], request.body
    )


def _verify(
    request: Request, *keys: Key, policy: Policy = POLICY, now: float = NOW, replay=None
) -> Principal:
    return verify(request, Keyring(keys or (KEY,)), policy, now=now, replay=replay)


def _refusal(request: Request, *keys: Key, policy: Policy = POLICY, now: float = NOW, replay=None) -> Refused:
    with pytest.raises(Refused) as caught:
        _verify(request, *keys, policy=policy, now=now, replay=replay)
    return caught.value


def _code(request: Request, *keys: Key, **options) -> tuple[str, int]:
    refused = _refusal(request, *keys, **options)
    return refused.code, refused.status


def test_a_good_request_passes():
    assert _verify(_signed()) == Principal("key-1", "provider", None, "sha256")


# Replay


def _race(path: str, request: Request, gate, results) -> None:
    store = SqliteReplayStore(path)
    gate.wait()
    try:
        verify(request, Keyring([KEY]), POLICY, now=NOW, replay=store)
        results.put("accepted")
    except Refused as refused:
        results.put(refused.code)
    finally:
        store.close()


def test_threat_003_a_second_process_knows_what_the_first_accepted(tmp_path):
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(2), context.Queue()
    arguments = (str(tmp_path / "replay.sqlite3"), _signed("POST"), gate, results)
    processes = [context.Process(target=_race, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
        process.close()
    results.close()
    results.join_thread()
    assert outcomes == ["accepted", "replayed"]


class _Broken:
    def remember(self, *_: object) -> bool:
        raise OSError("the disk is gone")


@pytest.mark.parametrize("store", [_Broken(), MemoryReplayStore(capacity=0)], ids=["down", "full"])
def test_threat_005_no_memory_no_write(store):
    assert _code(_signed("POST"), replay=store) == ("replay_store_unavailable", 503)
    assert _verify(_signed("GET"), replay=store)


def test_threat_009_a_write_is_used_once_whatever_its_body():
    store = MemoryReplayStore()
    assert _verify(_signed("POST", body=b'{"amount": 1}'), replay=store)
    assert _code(_signed("POST", body=b'{"amount": 1000}'), replay=store) == ("replayed", 401)
    assert _verify(_signed("GET"), replay=store)
    assert _verify(_signed("GET"), replay=store)


def test_threat_006_the_memory_is_kept_per_key():
    store = MemoryReplayStore()
    other = Key("key-2", "sha256", KEY.secret)
    assert _verify(_signed("POST"), KEY, other, replay=store)
    assert _verify(_signed("POST", key=other), KEY, other, replay=store)


def test_threat_063_a_clock_that_steps_back_forgets_nothing():
    store = MemoryReplayStore(capacity=1)
    first = _signed("POST")
    assert _verify(first, replay=store)
    assert _verify(_signed("POST", now=NOW + 301), now=NOW + 301, replay=store)  # sweeps the first away
    assert _code(first, now=NOW - 299, replay=store) == ("replayed", 401)


# Body and headers


def test_threat_022_an_encoded_body():
    assert _code(_plus(_signed("POST"), ("Content-Encoding", "gzip"))) == (
        "content_encoding_not_allowed",
        415,
    )
    assert _verify(_plus(_signed("POST"), ("Content-Encoding", "identity")))


def test_threat_023_a_body_over_the_limit():
    assert _code(_signed("POST", body=bytes(1_048_577))) == ("body_too_large", 413)
    assert _verify(_signed("POST", body=bytes(1_048_576)))


@pytest.mark.parametrize(
    "name",
    [
        "X-Provider-KeyId",
        "x-provider-timestamp",
        "X-PROVIDER-SIGNATURE",
        "x-Provider-Scope",
        "X-Provider-Org",
    ],
)
def test_threats_029_and_049_a_header_sent_twice(name):
    request = _signed(scope="provider", org="org-1")
    value = next(value for header, value in request.headers if header.lower() == name.lower())
    assert _code(_plus(request, (name, value))) == ("duplicate_header", 400)
    assert _code(_plus(request, (name, "other"))) == ("duplicate_header", 400)


def test_threat_021_two_ways_of_framing():
    request = _signed("POST")
    assert _code(_plus(request, ("Content-Length", "0"), ("Transfer-Encoding", "chunked"))) == (
        "bad_framing",
        400,
    )
    assert _code(_plus(request, ("Content-Length", "0"), ("content-length", "0"))) == ("bad_framing", 400)


def test_threat_037_two_hosts():
    assert _code(_plus(_signed(), ("Host", "a"), ("host", "b"))) == ("bad_framing", 400)


def test_threat_050_the_case_of_header_names_does_not_matter():
    request = _signed(scope="read", org="org-1")
    for change in (str.upper, str.lower, str.swapcase):
        headers = [(change(name), value) for name, value in request.headers]
        assert _verify(Request("GET", request.target, "acme.example", headers, b"")).scope == "read"


@pytest.mark.parametrize("name", ["keyid", "timestamp", "signature", "org"])
@pytest.mark.parametrize(
    "shape", [" {}", "{} ", "\t{}", "{}\r\n x", "{}\0", "{}\n", "é{}", "{}\u00a0", "{}\ud800"]
)
def test_threat_051_odd_characters_in_values(name, shape):
    request = _signed(org="org-1")
    values = {header.lower().removeprefix("x-provider-"): value for header, value in request.headers}
    if name == "org":
        odd = _plus(_signed(), ("X-Provider-Org", shape.format("org-1")))
    else:
        odd = _signed(**{name: shape.format(values[name])})
    assert _code(odd) == ("malformed_header", 400)


@pytest.mark.parametrize(
    "headers",
    [[("X-Long", "v" * 9000)], [("X-" + "n" * 9000, "v")], [(f"X-{number}", "v") for number in range(200)],
     [("Signature-Input", "x" * 1_000_000)], [("X-Provider-KeyId", "k" * 10_000)]],
    ids=["value", "name", "count", "signature-input", "key id"],
)  # fmt: skip
def test_threat_053_too_many_or_too_long_headers(headers):
    assert _code(_plus(_signed(), *headers)) == ("headers_too_large", 431)


@pytest.mark.parametrize("missing", ["keyid", "timestamp", "signature"])
def test_threat_055_a_required_header_is_missing(missing):
    assert _code(_signed(**{missing: None})) == ("missing_headers", 401)


def test_threat_055_no_header_at_all():
    assert _code(Request("GET", "/", "acme.example", [], b"")) == ("missing_headers", 401)
    assert (
        _code(Request("GET", "/", "acme.example", [("X-Provider-Scope", "read")], b""))[0]
        == "missing_headers"
    )


@pytest.mark.parametrize("modern", [("Signature-Input", "pf=()"), ("Signature", "pf=:AA==:")])
def test_threat_074_both_schemes_at_once(modern):
    assert _code(_plus(_signed(), modern)) == ("ambiguous_auth", 400)
    assert _code(_plus(_signed(signature=None), modern)) == ("ambiguous_auth", 400)


# Scope and org

READER = Key("key-1", "sha256", KEY.secret, scope="read")


def test_threat_026_scope_above_the_ceiling():
    assert _code(_signed(scope="provider"), READER) == ("scope_not_allowed", 403)
    changed = _signed(scope="read")
    assert _code(_plus(Request("GET", changed.target, "a", changed.headers[:3], b""), ("X-Provider-Scope", "provider")),
                 READER) == ("scope_not_allowed", 403)  # fmt: skip


def test_threat_027_a_removed_scope_is_the_ceiling_and_no_more():
    assert _verify(_signed(scope=None), READER).scope == "read"
    assert _verify(_signed(scope=None)).scope == "provider"
    assert _verify(_signed(scope="read")).scope == "read"


@pytest.mark.parametrize("scope", ["", "admin", "Provider", "provider ", "read,provider", "provider\0", "é"])
def test_an_unknown_scope(scope):
    request = _plus(_signed(), ("X-Provider-Scope", scope))
    assert _code(request) == ("bad_scope", 400)


def test_another_org_than_the_keys_or_the_instances():
    bound = Key("key-1", "sha256", KEY.secret, org="org-1")
    assert _code(_signed(org="org-2"), bound) == ("org_mismatch", 403)
    assert _verify(_signed(org="org-1"), bound).org == "org-1"
    assert _verify(_signed(), bound).org == "org-1"
    ours = Policy(accept=("sha256",), org="org-1")
    assert _code(_signed(org="org-2"), policy=ours) == ("org_mismatch", 403)
    assert _code(_signed(), Key("key-1", "sha256", KEY.secret, org="org-2"), policy=ours) == (
        "org_mismatch",
        403,
    )
    assert _verify(_signed(org="org-1"), policy=ours).org == "org-1"
    assert _verify(_signed(), policy=ours).org is None


def test_threat_034_a_request_for_another_instance_finds_no_key():
    assert _code(_signed(), Key("key-of-b", "sha256", b"another secret, quite another")) == (
        "unknown_key",
        401,
    )


def test_threat_035_a_key_that_is_bound_to_another_instance():
    bound = Key("key-1", "sha256", KEY.secret, instance="acme")
    here, there = (Policy(instance=name, accept=("sha256",)) for name in ("acme", "globex"))
    assert _verify(_signed(), bound, policy=here).instance == "acme"
    assert _code(_signed(), bound, policy=there) == ("audience_mismatch", 401)
    assert _code(_plus(_signed(), ("X-Provider-Instance", "acme")), policy=there) == (
        "audience_mismatch",
        401,
    )


# Method and target


def test_threat_038_another_method():
    request = _signed("GET")
    for method in ("POST", "HEAD", "DELETE", "OPTIONS"):
        assert _code(Request(method, request.target, "a", request.headers, b"")) == ("bad_signature", 401)
    overridden = _plus(request, ("X-HTTP-Method-Override", "DELETE"))
    assert _verify(overridden)


@pytest.mark.parametrize("method", ["get", "Get", "TRACE", "CONNECT", "", "GET ", "PURGE", "GE\0T", "\ud800"])
def test_a_method_that_we_do_not_serve(method):
    request = _signed()
    assert _code(Request(method, request.target, "a", request.headers, b"")) == ("bad_method", 400)


@pytest.mark.parametrize(
    ("signed", "sent"),
    [("/a", "/a/"), ("/a/", "/a"), ("/a", "/b"), ("/a", "/A"), ("/a?x=1&y=2", "/a?y=2&x=1"), ("/a?x=1", "/a?x=1&x=2"),
     ("/a?x=1+2", "/a?x=1%202"), ("/a?x=1", "/a?X=1"), ("/a", "/a?"), ("/a?", "/a"), ("/a?x=%2f", "/a?x=%2F"),
     ("/a?x=%7E", "/a?x=~"), ("/a?x=%252e", "/a?x=%2e"), ("/a%C3%A9", "/a%c3%a9"), ("/x/api/a", "/api/a")],
)  # fmt: skip
def test_threats_041_045_046_047_another_target(signed, sent):
    request = _signed(target=signed)
    assert _verify(request)
    assert _code(Request("GET", sent, "a", request.headers, b"")) == ("bad_signature", 401)


@pytest.mark.parametrize("target", ["/a%zz", "/a%", "/a%2", "/a%00b", "/a?x=%00", "/a?x=%zz", "/%252e%252e/", "/a%0d%0ab",
                                    "/a b", "/a#b", "/a?x=1#b", "/é", "", "a", "*", "?a", "http://acme.example/a",
                                    "/a\r\nX: 1", "/a\0", "/a\x7f", "/\ud800", "/" + "a" * 9000])  # fmt: skip
def test_threat_042_a_target_that_cannot_be_read_one_way(target):
    request = _signed()
    assert _code(Request("GET", target, "a", request.headers, b"")) == ("bad_target", 400)


@pytest.mark.parametrize(
    "target",
    ["//a", "//", "/a//b", "/a//", "/a/../b", "/a/./b", "/..", "/.", "/a/..", "/a/.?x=1", "/%2e%2e/", "/a/%2E%2e/b",
     "/a/.%2e/b", "/a;x", "/a;x/b", "/a\\b", "/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb", "/a%3Bb", "/%7Ea", "/%61", "/a%2D"],
)  # fmt: skip
def test_threats_042_043_a_correctly_signed_target_that_servers_read_in_more_than_one_way(target):
    assert _code(_signed(target=target)) == ("non_canonical_target", 400)


@pytest.mark.parametrize(
    "target", ["/", "/a/", "/...", "/a/..b/.c", "/a?x=../b;c//d", "/a%20b", "/a?x=a%2Fb%20c", "/caf%C3%A9"]
)
def test_ordinary_targets_pass(target):
    assert _verify(_signed(target=target))


# Time


@pytest.mark.parametrize(
    "timestamp",
    ["2026-03-01", "2026-W09-7T12:00:00.250Z", "20260301T120000.250Z", "2026-03-01T12:00:00.250", "2026-03-01 12:00:00.250Z",
     "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.25Z", "2026-03-01T12:00:00.250000Z", "2026-03-01t12:00:00.250z",
     "2026-03-01T12:00:00,250Z", "2026-03-01T24:00:00.000Z", "2026-03-01T12:60:00.000Z", "2026-03-01T12:00:60.000Z",
     "2026-02-29T12:00:00.000Z", "2026-13-01T12:00:00.000Z", "2026-03-00T12:00:00.000Z", "1772366400", "now"],
)  # fmt: skip
def test_threat_057_another_way_of_writing_time(timestamp):
    assert _code(_signed(timestamp=timestamp)) == ("bad_timestamp", 401)


@pytest.mark.parametrize(
    "timestamp",
    ["2026-03-01T17:30:00.250+05:30", "2026-03-01T12:00:00.250+00:00", "2026-03-01T12:00:00.250-00:00"],
)
def test_threat_058_the_same_instant_with_an_offset(timestamp):
    assert _code(_signed(timestamp=timestamp)) == ("bad_timestamp", 401)


@pytest.mark.parametrize("edge", [-300, 300])
def test_threat_059_both_edges_are_inside(edge):
    request = _signed()
    assert _verify(request, now=NOW + edge)
    beyond = edge + (0.001 if edge > 0 else -0.001)
    assert _code(request, now=NOW + beyond) == ("timestamp_out_of_window", 401)


@pytest.mark.parametrize("skew", [1, 60, 900])
def test_threat_059_whatever_the_width(skew):
    policy = Policy(accept=("sha256",), skew=skew)
    for milliseconds in range(0, 1000, 37):
        request = _signed(now=NOW + milliseconds / 1000)
        exact = datetime.fromisoformat(dict(request.headers)["X-Provider-Timestamp"])
        for sign_ in (-1, 1):
            edge = (exact + sign_ * timedelta(seconds=skew)).timestamp()
            assert _verify(request, policy=policy, now=edge)
            outside = (exact + sign_ * timedelta(seconds=skew, milliseconds=1)).timestamp()
            assert _code(request, policy=policy, now=outside)[0] == "timestamp_out_of_window"


@pytest.mark.parametrize("year", ["0000", "9999", "+010000", "1969", "-0001", "10000", "3000", "٢٠٢٦"])
def test_threat_061_years_that_no_clock_shows(year):
    code = _code(_signed(timestamp=f"{year}-03-01T12:00:00.250Z"))
    assert code in {("bad_timestamp", 401), ("malformed_header", 400)}
    assert (code[0] == "bad_timestamp") == year.isascii()


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf"), 10**400, 2**63, -(2**63)])
def test_threat_061_a_clock_that_is_no_clock(now):
    assert _code(_signed(), now=now) == ("timestamp_out_of_window", 401)


# Algorithms and signatures

WEAK = Key("key-1", "h31", KEY.secret)
LOCAL = Policy(accept=("h31", "sha256"), development=True)


def _from(peer: str | None, request: Request, *headers: tuple[str, str]) -> Request:
    return Request(
        request.method, request.target, request.authority, [*request.headers, *headers], b"", peer=peer
    )


def test_threat_065_a_key_has_one_algorithm():
    weak = _from("127.0.0.1", _signed(key=WEAK))
    assert _code(weak, KEY, policy=LOCAL) == ("algorithm_not_allowed", 401)
    assert _code(_from("127.0.0.1", _signed()), WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    assert _verify(weak, WEAK, policy=LOCAL).algorithm == "h31"


def test_h31_needs_development_and_loopback_and_to_be_accepted():
    request = _signed(key=WEAK)
    for peer in (None, "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"):
        assert _verify(_from(peer, request), WEAK, policy=LOCAL)
    for peer in (
        "",
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.0.0.1.evil.example",
        "\ud800",
    ):
        assert _code(_from(peer, request), WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP"):
        forwarded = _from("127.0.0.1", request, (header, "127.0.0.1"))
        assert _code(forwarded, WEAK, policy=LOCAL) == ("algorithm_not_allowed", 401)
    for policy in (Policy(accept=("h31",)), Policy(accept=("sha256",), development=True)):
        assert _code(_from("127.0.0.1", request), WEAK, policy=policy) == ("algorithm_not_allowed", 401)


def test_sha256_needs_to_be_accepted():
    assert _code(_signed(), policy=Policy()) == ("algorithm_not_allowed", 401)


@pytest.mark.parametrize(
    "key", [Key("key-1", "hmac-sha256", KEY.secret), Key("key-1", "ed25519", public_key=bytes(range(32)))]
)
def test_threat_066_a_modern_key_is_never_used_with_the_legacy_scheme(key):
    assert _code(_signed(), key) == ("downgrade_refused", 401)


def test_threat_066_after_the_cut_off_legacy_is_over():
    policy = Policy(accept=("sha256",), legacy_until=NOW + 10)
    assert _verify(_signed(), policy=policy, now=NOW + 9.999)
    assert _code(_signed(), policy=policy, now=NOW + 10) == ("downgrade_refused", 401)


def test_threat_069_why_h31_protects_nothing():
    """One observed request, without the secret: the tag of any other target of the same length follows by sums."""
    observed = _signed("GET", "/api/billing/list?limit=5", key=WEAK)
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
            "127.0.0.1", _signed("GET", wanted, key=WEAK, timestamp=stamp, signature=f"h31:{forged:x}")
        )
        if length == len(WEAK.secret):
            assert _verify(request, WEAK, policy=LOCAL)
        assert _code(request, KEY)[0] == "algorithm_not_allowed"


GOOD_TAG = dict(_signed().headers)["X-Provider-Signature"]


@pytest.mark.parametrize(
    "tag",
    ["sha256:pending", "sha256:", GOOD_TAG.upper(), "sha256:" + GOOD_TAG[7:].upper(), GOOD_TAG[:-1], GOOD_TAG + "0",
     GOOD_TAG + "=", "SHA256:" + GOOD_TAG[7:], "h31:0x1f", GOOD_TAG[7:], "h31:", "h31:01", "h31:123456789", "sha512:" + "0" * 128,
     "sha256=" + GOOD_TAG[7:], "sha256: " + GOOD_TAG[7:], GOOD_TAG + "," + GOOD_TAG],
)  # fmt: skip
def test_threat_070_a_signature_that_is_almost_one(tag):
    assert _code(_signed(signature=tag)) == ("malformed_signature", 401)


def test_threat_070_every_other_tag_is_wrong():
    for position in range(7, len(GOOD_TAG)):
        other = "0" if GOOD_TAG[position] != "0" else "1"
        tag = GOOD_TAG[:position] + other + GOOD_TAG[position + 1 :]
        assert _code(_signed(signature=tag)) == ("bad_signature", 401)


# Keys


def test_threat_081_a_revoked_key_is_refused_at_once():
    revoked = Key("key-1", "sha256", KEY.secret, revoked=True)
    refused = _refusal(_signed(), revoked)
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
        assert _verify(_signed(key=key), old, new)
    assert _code(_signed(key=old), old, new, now=NOW + 10.5) == ("expired_key", 401)
    assert _code(_signed(key=new), old, new, now=NOW - 10.5) == ("key_not_yet_valid", 401)
    for edge, key in ((NOW + 10, old), (NOW - 10, new)):
        assert _verify(_signed(key=key), old, new, now=edge)


@pytest.mark.parametrize(
    "key_id", ["key", "key-11", "KEY-1", "__proto__", "constructor", "../key-1", "key-1'--", "key-1%00"]
)
def test_threat_083_almost_a_key_id(key_id):
    assert _code(_signed(keyid=key_id)) == ("unknown_key", 401)


@pytest.mark.parametrize("key_id", ["", "' OR 1=1 --", "key-1,key-1", 'key"1', "k" * 200])
def test_threat_083_no_key_id_at_all(key_id):
    assert _code(_signed(keyid=key_id)) == ("malformed_header", 400)
