"""The short way, the long way and the way of headers as bytes: one answer, one computation, bounded memory."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.protocol.v2_world import (
    HERE,
    JSON,
    MAC,
    NEW,
    NOW,
    OLD,
    PAIR,
    PUBLIC,
    RING,
    long_way,
    outcome,
    refusal,
    signed,
    value_of,
    verified,
    with_header,
)

from provider_federation.protocol import (
    Key,
    Keyring,
    Policy,
    Principal,
    Refused,
    Request,
    core,
    grammar,
    legacy,
    primitives,
    quick,
    shapes,
    sign,
    signing,
    verify,
)
from provider_federation.protocol.grammar import NAMES
from provider_federation.protocol.shapes import SHAPES
from provider_federation.protocol.values import Head

near = st.sampled_from([
    "", " ", "\t", "\n", "\0", "é", "pf=", "pf", "()", "=", ":", ";", ",", '"', "\\", "0", "A", "a", "==", ';alg="ed25519"',
    "@query", "x-provider-org", "1790000000", "acme", "other", "provider", "read", "org-1", "org-2", "application/json",
])  # fmt: skip
policies = st.builds(
    Policy,
    instance=st.sampled_from([None, "acme", "other"]),
    authorities=st.sampled_from([(), ("acme.example",), ("ACME.example:443",), ("other.example",)]),
    accept=st.sampled_from([("sha256", "hmac-sha256", "ed25519"), ("ed25519",), ("hmac-sha256",)]),
    org=st.sampled_from([None, "org-1", "org-2"]),
    legacy_until=st.sampled_from([None, NOW, NOW + 1]),
)


@st.composite
def nearly_good(draw) -> Request:
    """A signed request, with up to two of its headers changed, dropped, doubled or moved."""
    key = draw(
        st.sampled_from([MAC, PAIR, OLD, NEW, replace(MAC, secret=b"other" * 8), replace(OLD, id="who")])
    )
    body = draw(st.sampled_from([b"", b'{"a":1}']))
    sent = draw(st.sampled_from([[], JSON, [*JSON, ("Idempotency-Key", "abc")], [("Host", "acme.example")]]))
    request = signed(
        key, body, sent, scope=draw(st.sampled_from(["provider", "read", None])), org=draw(st.sampled_from([None, "org-1", "org-2"])),
    )  # fmt: skip
    headers = list(request.headers)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(headers) - 1))
        name, value = headers[place]
        at = draw(st.integers(0, len(value)))
        cut = draw(st.integers(0, 2))
        choice = draw(st.sampled_from(["change", "replace", "drop", "double", "case", "move"]))
        if choice == "drop" and len(headers) > 1:
            del headers[place]
        elif choice == "double":
            headers.append((name, value))
        elif choice == "move":
            headers.append(headers.pop(place))
        elif choice == "case":
            headers[place] = (name.lower(), value)
        elif choice == "replace":
            headers[place] = (name, draw(near))
        else:
            headers[place] = (name, value[:at] + draw(near) + value[at + cut :])
    return replace(
        request,
        headers=headers,
        body=draw(st.sampled_from([request.body, b"", b"x"])),
        authority=draw(st.sampled_from(["acme.example", "Acme.Example:443", "other.example", "", "a b"])),
        target=draw(st.sampled_from(["/a/b?x=1", "/a/b", "/a//b"])),
    )


def _from_bytes(request: Request, policy: Policy, now: float) -> Principal | None:
    fields = {name.encode(): value.encode("latin-1") for name, value in request.headers}
    head, count = _head(request), len(request.headers)
    return core.verify_fields(head, fields, count, RING, policy, now=now, replay=None, ratchet=None)


def _head(request: Request) -> Head:
    return Head(request.method, request.target, request.authority, request.body, request.peer)


@settings(max_examples=600)
@given(
    nearly_good(), policies, st.sampled_from([NOW, NOW + 299, NOW + 300, NOW + 300.5, NOW - 300, NOW - 301])
)
def test_the_short_way_and_the_long_way_agree(request_, policy, now):
    expected = outcome(long_way, request_, policy, now)
    assert outcome(verified, request_, policy, now) == expected
    assert outcome(_from_bytes, request_, policy, now) in {None, expected}


@pytest.mark.parametrize("body", [b"", b'{"a":1}'])
@pytest.mark.parametrize("key", [MAC, OLD], ids=["v2", "legacy"])
def test_a_plain_request_takes_the_short_way(key, body):
    request = signed(key, body)
    expected = long_way(request, HERE, NOW)
    for headers in (request.headers, [(name.lower(), value) for name, value in request.headers]):
        shape = SHAPES[tuple(dict(headers))]
        assert (
            quick.verify(request, shape, shape.pick(dict(headers)), RING, HERE, NOW, None, None) == expected
        )


class Counting:
    """What is computed with the keys of a keyring, and with nobody's, by algorithm."""

    def __init__(self, monkeypatch, ring: Keyring) -> None:
        self.spent: list[str] = []
        for key in (*ring, *signing.NOBODY.values()):
            if key.algorithm != "ed25519":
                monkeypatch.setitem(key.__dict__, "mac", self._counted(key.algorithm, key.mac))
        ed25519 = self._counted("ed25519", primitives.is_good_ed25519)
        monkeypatch.setattr(primitives, "is_good_ed25519", ed25519)

    def _counted(self, algorithm, compute):
        def counted(*given):
            self.spent.append("hmac" if algorithm != "ed25519" else algorithm)
            return compute(*given)

        return counted

    def of(self, way, request: Request) -> list[str]:
        self.spent.clear()
        with pytest.raises(Refused):
            way(request)
        return list(self.spent)


def _spoilt(request: Request) -> Request:
    name = "Signature" if any(name == "Signature" for name, _ in request.headers) else "X-Provider-Signature"
    value = value_of(request, name)
    return with_header(request, name, value[:12] + ("1" if value[12] == "0" else "0") + value[13:])


@pytest.mark.parametrize(
    "state", [{}, {"revoked": True}, {"not_before": NOW + 1}, {"not_after": NOW - 1}, None]
)
@pytest.mark.parametrize("signer", [OLD, MAC, PAIR], ids=["legacy", "hmac", "ed25519"])
def test_a_bad_signature_costs_one_computation_whoever_is_named(monkeypatch, signer, state):
    """By a known key, one out of force and an unknown one (None): time must not tell which of them there are."""
    key = PUBLIC if signer is PAIR else signer
    ring = Keyring([] if state is None else [replace(key, **state)])
    counting = Counting(monkeypatch, ring)
    request = _spoilt(signed(signer))
    fields = {name.encode(): value.encode() for name, value in request.headers}
    expected = ["ed25519" if signer is PAIR else "hmac"]
    assert counting.of(lambda asked: verify(asked, ring, HERE, now=NOW), request) == expected
    assert counting.of(lambda asked: core.check_head(asked, ring, HERE, NOW), request) == expected
    by_bytes = {"now": NOW, "replay": None, "ratchet": None}
    assert (
        counting.of(
            lambda asked: core.verify_fields(_head(asked), fields, len(fields), ring, HERE, **by_bytes),
            request,
        )
        == expected
    )


def test_the_names_we_remember_are_bounded():
    for number in range(3000):
        assert NAMES[f"X-{number}"] is None
    assert len(NAMES) <= 1024


def test_shapes_targets_and_seconds_are_bounded():
    names = [name for name, _ in signed(MAC).headers]
    for number in range(700):
        shapes.SHAPES[(*names, f"X-{number}")]
        shapes.UNSIGNED[(f"X-{number}",)]
        shapes.read_fields({name.encode(): b"a" for name in (*names, f"X-{number}")}, len(names) + 1, HERE)
        grammar.FAULTS[f"/{number}"]
        legacy.SECONDS[f"2026-01-01T{number // 60:02}:{number % 60:02}:00"]
    for many in (
        (*names, *("X" for _ in range(200))),
        (*names, "X" * 3000),
        (*names, *("x" * 250 for _ in range(9))),
    ):
        assert shapes.SHAPES[many] is shapes.SHAPES[many] is None or many not in shapes.SHAPES
        assert many not in shapes.SHAPES
    grammar.FAULTS["/" + "a" * 2000]
    assert "/" + "a" * 2000 not in grammar.FAULTS
    with pytest.raises(KeyError):
        legacy.SECONDS["2026-02-31T00:00:00"]
    assert "2026-02-31T00:00:00" not in legacy.SECONDS
    assert max(len(shapes.SHAPES), len(shapes.UNSIGNED), len(shapes.FIELD_SHAPES)) <= 256
    assert len(grammar.FAULTS) <= 512
    assert len(legacy.SECONDS) <= 1024


@pytest.mark.parametrize("key", [MAC, OLD, PAIR], ids=["hmac", "legacy", "ed25519"])
def test_what_a_key_works_out_is_never_shown_compared_or_copied(key):
    fresh = replace(key)
    verify(signed(fresh), Keyring([fresh]), HERE, now=NOW)
    assert fresh.last[3] is not None
    for other in (pickle.loads(pickle.dumps(fresh)), copy.copy(fresh), copy.deepcopy(fresh), replace(fresh)):
        assert other == fresh == key
        assert hash(other) == hash(key)
        assert other.last == (None, None, None, None)
        assert other.mac is not fresh.mac or key.algorithm == "ed25519"
    assert repr(fresh) == repr(replace(key))
    assert key.secret.hex() not in repr(fresh)
    assert str(key.secret) not in repr(fresh)


def test_a_key_in_two_rings_answers_by_the_policy_that_is_asked():
    """What was found for one policy, shape and scope is not another's."""
    request, read = signed(MAC, b""), signed(MAC, b"", scope="read")
    for _ in range(2):
        assert verify(request, RING, HERE, now=NOW).scope == "provider"
        assert verify(read, RING, HERE, now=NOW).scope == "read"
        assert refusal(request, Policy(instance="other")).code == "audience_mismatch"
        assert refusal(request, replace(HERE, org="org-2")).code == "org_mismatch"
        weaker = Keyring([replace(MAC, scope="read")])
        with pytest.raises(Refused, match="scope_not_allowed"):
            verify(request, weaker, HERE, now=NOW)


def test_an_end_of_legacy_that_is_no_number_has_come():
    request = signed(OLD, b"")
    for now in (NOW, float("inf"), float("nan")):
        with pytest.raises(Refused):
            verify(request, RING, replace(HERE, legacy_until=float("nan")), now=now)
        with pytest.raises(Refused):
            long_way(request, replace(HERE, legacy_until=float("nan")), now)


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "(forwarded)"])
def test_h31_behind_a_proxy_is_refused_in_every_way(name):
    key = Key("dev", "h31", b"d" * 16)
    policy = Policy(accept=("h31",), development=True)
    bare = Request("GET", "/a", "acme.example", [], b"", "127.0.0.1")
    good = replace(bare, headers=sign(bare, key, now=NOW))
    assert verify(good, Keyring([key]), policy, now=NOW).key_id == "dev"
    behind = replace(good, headers=[*good.headers, (name, "203.0.113.9")])
    fields = {name.encode(): value.encode() for name, value in behind.headers}
    with pytest.raises(Refused, match="algorithm_not_allowed"):
        verify(behind, Keyring([key]), policy, now=NOW)
    by_bytes = {"now": NOW, "replay": None, "ratchet": None}
    assert core.verify_fields(_head(behind), fields, len(fields), Keyring([key]), policy, **by_bytes) is None


@pytest.mark.parametrize("name", ["", "\0", "(none)"])
def test_a_header_with_an_odd_name_is_no_part_of_what_is_signed(name):
    request = Request("POST", "/a", "acme.example", [(name, "application/json")], b"{}")
    added = dict(sign(request, MAC, now=NOW, instance="acme"))
    assert added["Content-Type"] == "application/octet-stream"
