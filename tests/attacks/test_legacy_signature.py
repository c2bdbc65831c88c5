"""Area A of the planned attacks, the legacy scheme: replay, bodies and headers, scope and org."""

from __future__ import annotations

import multiprocessing

import pytest
from tests.attacks.legacy_requests import KEY, NOW, POLICY, code_of, plus, signed, verified

from provider_federation.adapters.replay import SqliteReplayStore
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Principal,
    Refused,
    Request,
    verify,
)


def test_a_good_request_passes():
    assert verified(signed()) == Principal("key-1", "provider", None, "sha256")


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
    arguments = (str(tmp_path / "replay.sqlite3"), signed("POST"), gate, results)
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
    assert code_of(signed("POST"), replay=store) == ("replay_store_unavailable", 503)
    assert verified(signed("GET"), replay=store)


def test_threat_009_a_write_is_used_once_whatever_its_body():
    store = MemoryReplayStore()
    assert verified(signed("POST", body=b'{"amount": 1}'), replay=store)
    assert code_of(signed("POST", body=b'{"amount": 1000}'), replay=store) == ("replayed", 401)
    assert verified(signed("GET"), replay=store)
    assert verified(signed("GET"), replay=store)


def test_threat_006_the_memory_is_kept_per_key():
    store = MemoryReplayStore()
    other = Key("key-2", "sha256", KEY.secret)
    assert verified(signed("POST"), KEY, other, replay=store)
    assert verified(signed("POST", key=other), KEY, other, replay=store)


def test_threat_063_a_clock_that_steps_back_forgets_nothing():
    store = MemoryReplayStore(capacity=1)
    first = signed("POST")
    assert verified(first, replay=store)
    assert verified(signed("POST", now=NOW + 301), now=NOW + 301, replay=store)  # sweeps the first away
    assert code_of(first, now=NOW - 299, replay=store) == ("replayed", 401)


# Body and headers


def test_threat_022_an_encoded_body():
    assert code_of(plus(signed("POST"), ("Content-Encoding", "gzip"))) == (
        "content_encoding_not_allowed",
        415,
    )
    assert verified(plus(signed("POST"), ("Content-Encoding", "identity")))


def test_threat_023_a_body_over_the_limit():
    assert code_of(signed("POST", body=bytes(1_048_577))) == ("body_too_large", 413)
    assert verified(signed("POST", body=bytes(1_048_576)))


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
    request = signed(scope="provider", org="org-1")
    value = next(value for header, value in request.headers if header.lower() == name.lower())
    assert code_of(plus(request, (name, value))) == ("duplicate_header", 400)
    assert code_of(plus(request, (name, "other"))) == ("duplicate_header", 400)


def test_threat_021_two_ways_of_framing():
    request = signed("POST")
    assert code_of(plus(request, ("Content-Length", "0"), ("Transfer-Encoding", "chunked"))) == (
        "bad_framing",
        400,
    )
    assert code_of(plus(request, ("Content-Length", "0"), ("content-length", "0"))) == ("bad_framing", 400)


def test_threat_037_two_hosts():
    assert code_of(plus(signed(), ("Host", "a"), ("host", "b"))) == ("bad_framing", 400)


def test_threat_050_the_case_of_header_names_does_not_matter():
    request = signed(scope="read", org="org-1")
    for change in (str.upper, str.lower, str.swapcase):
        headers = [(change(name), value) for name, value in request.headers]
        assert verified(Request("GET", request.target, "acme.example", headers, b"")).scope == "read"


@pytest.mark.parametrize("name", ["keyid", "timestamp", "signature", "org"])
@pytest.mark.parametrize(
    "shape", [" {}", "{} ", "\t{}", "{}\r\n x", "{}\0", "{}\n", "é{}", "{}\u00a0", "{}\ud800"]
)
def test_threat_051_odd_characters_in_values(name, shape):
    request = signed(org="org-1")
    values = {header.lower().removeprefix("x-provider-"): value for header, value in request.headers}
    if name == "org":
        odd = plus(signed(), ("X-Provider-Org", shape.format("org-1")))
    else:
        odd = signed(**{name: shape.format(values[name])})
    assert code_of(odd) == ("malformed_header", 400)


@pytest.mark.parametrize(
    "headers",
    [[("X-Long", "v" * 9000)], [("X-" + "n" * 9000, "v")], [(f"X-{number}", "v") for number in range(200)],
     [("Signature-Input", "x" * 1_000_000)], [("X-Provider-KeyId", "k" * 10_000)]],
    ids=["value", "name", "count", "signature-input", "key id"],
)  # fmt: skip
def test_threat_053_too_many_or_too_long_headers(headers):
    assert code_of(plus(signed(), *headers)) == ("headers_too_large", 431)


@pytest.mark.parametrize("missing", ["keyid", "timestamp", "signature"])
def test_threat_055_a_required_header_is_missing(missing):
    assert code_of(signed(**{missing: None})) == ("missing_headers", 401)


def test_threat_055_no_header_at_all():
    assert code_of(Request("GET", "/", "acme.example", [], b"")) == ("missing_headers", 401)
    assert (
        code_of(Request("GET", "/", "acme.example", [("X-Provider-Scope", "read")], b""))[0]
        == "missing_headers"
    )


@pytest.mark.parametrize("modern", [("Signature-Input", "pf=()"), ("Signature", "pf=:AA==:")])
def test_threat_074_both_schemes_at_once(modern):
    assert code_of(plus(signed(), modern)) == ("ambiguous_auth", 400)
    assert code_of(plus(signed(signature=None), modern)) == ("ambiguous_auth", 400)


# Scope and org

READER = Key("key-1", "sha256", KEY.secret, scope="read")


def test_threat_026_scope_above_the_ceiling():
    assert code_of(signed(scope="provider"), READER) == ("scope_not_allowed", 403)
    changed = signed(scope="read")
    assert code_of(plus(Request("GET", changed.target, "a", changed.headers[:3], b""), ("X-Provider-Scope", "provider")),
                 READER) == ("scope_not_allowed", 403)  # fmt: skip


def test_threat_027_a_removed_scope_is_the_ceiling_and_no_more():
    assert verified(signed(scope=None), READER).scope == "read"
    assert verified(signed(scope=None)).scope == "provider"
    assert verified(signed(scope="read")).scope == "read"


@pytest.mark.parametrize("scope", ["", "admin", "Provider", "provider ", "read,provider", "provider\0", "é"])
def test_an_unknown_scope(scope):
    request = plus(signed(), ("X-Provider-Scope", scope))
    assert code_of(request) == ("bad_scope", 400)


def test_another_org_than_the_keys_or_the_instances():
    bound = Key("key-1", "sha256", KEY.secret, org="org-1")
    assert code_of(signed(org="org-2"), bound) == ("org_mismatch", 403)
    assert verified(signed(org="org-1"), bound).org == "org-1"
    assert verified(signed(), bound).org == "org-1"
    ours = Policy(accept=("sha256",), org="org-1")
    assert code_of(signed(org="org-2"), policy=ours) == ("org_mismatch", 403)
    assert code_of(signed(), Key("key-1", "sha256", KEY.secret, org="org-2"), policy=ours) == (
        "org_mismatch",
        403,
    )
    assert verified(signed(org="org-1"), policy=ours).org == "org-1"
    assert verified(signed(), policy=ours).org is None


def test_threat_034_a_request_for_another_instance_finds_no_key():
    assert code_of(signed(), Key("key-of-b", "sha256", b"another secret, quite another")) == (
        "unknown_key",
        401,
    )


def test_threat_035_a_key_that_is_bound_to_another_instance():
    bound = Key("key-1", "sha256", KEY.secret, instance="acme")
    here, there = (Policy(instance=name, accept=("sha256",)) for name in ("acme", "globex"))
    assert verified(signed(), bound, policy=here).instance == "acme"
    assert code_of(signed(), bound, policy=there) == ("audience_mismatch", 401)
    assert code_of(plus(signed(), ("X-Provider-Instance", "acme")), policy=there) == (
        "audience_mismatch",
        401,
    )
