"""v2 for all inputs: the two ways agree, any change refuses, bases are injective, keys that everybody has are none."""

from __future__ import annotations

import base64
import hmac
import os
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.unit.protocol.v2_world import (
    HERE,
    JSON,
    MAC,
    NEW,
    NOW,
    OLD,
    ORDER,
    PAIR,
    PUBLIC,
    RING,
    refusal,
    signed,
    value_of,
    with_header,
)

from provider_federation.protocol import (
    CannotSign,
    Key,
    Keyring,
    MemoryRatchet,
    MemoryReplayStore,
    Policy,
    Refused,
    Request,
    Response,
    answer_key,
    core,
    fields,
    modern,
    primitives,
    sign,
    sign_response,
    verify,
    verify_response,
)

near = st.sampled_from([
    "", " ", "\t", "\n", "\0", "é", "pf=", "pf", "()", "=", ":", ";", ",", '"', "\\", "0", "A", "a", "==", ';alg="ed25519"',
    "@query", "x-provider-org", "1790000000", "acme", "other", "provider", "read", "org-1", "org-2", "application/json",
])  # fmt: skip


@given(st.sampled_from([MAC, PAIR]), st.sampled_from([b"", b'{"a":1}']), st.data(), st.integers(1, 255))
def test_a_flip_of_any_covered_byte_refuses(key, body, data, mask):
    sent = [*JSON, ("Idempotency-Key", "abc")] if body else []
    request = signed(key, body, sent, org="org-1")
    parts: dict[str, str | bytes] = {
        "method": request.method, "target": request.target, "authority": request.authority, "body": body,
    } | dict(request.headers)  # fmt: skip
    where = data.draw(st.sampled_from([name for name, value in parts.items() if value]))
    raw = parts[where] if isinstance(parts[where], bytes) else parts[where].encode()
    place = data.draw(st.integers(0, len(raw) - 1))
    flipped = raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]
    changed = flipped if where == "body" else flipped.decode("latin-1")
    if where in {"method", "target", "authority", "body"}:
        other = replace(request, **{where: changed})
        assume(where != "authority" or changed.lower() != request.authority)
    else:
        other = with_header(request, where, changed)
    refusal(other)


names = st.lists(
    st.from_regex(r"[a-z%][a-z0-9%-]{0,6}", fullmatch=True), min_size=0, max_size=4, unique=True
).map(tuple)
lines = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
bases = names.flatmap(
    lambda known: st.tuples(st.just(known), st.tuples(*[lines for _ in known]), st.integers(0, 3))
)


def _base(names: tuple[str, ...], values: tuple[str, ...], created: int) -> bytes:
    text = f"{fields.layout(names).listed};created={created}"
    return fields.signature_base(names, dict(zip(names, values, strict=True)), text)


@given(bases, bases)
@example((("a",), ('x"b": y',), 0), (("a",), ("x",), 0))
def test_the_signature_base_is_injective(one, other):
    assert (_base(*one) == _base(*other)) == (one == other)


@given(names.filter(len), lines, st.sampled_from(["\n", "\r", "\0", "é", "\x7f", "\u2028"]))
def test_no_value_makes_a_line_of_its_own(known, line, odd):
    with pytest.raises(ValueError):
        fields.signature_base(known, dict.fromkeys(known, line + odd), "()")


@given(st.text(st.sampled_from('pfab=():;,"\\ @0123kyeidnx-+/A'), max_size=40))
def test_what_is_read_is_written_as_it_was(text):
    """The reader takes the canonical spelling alone: writing what was read gives the text again."""
    try:
        member = fields.read_signature_input(text)
    except fields.FieldError:
        return
    listed = [fields.layout(fields.components(one.covered)).listed for one in member]
    assert listed == [one.covered for one in member]
    if len(member) == 1:
        assert f"{member[0].label}={member[0].text}" == text


def test_threat_071_a_public_key_is_no_shared_secret():
    request = signed(Key("pair", "hmac-sha256", PUBLIC.public_key))
    assert refusal(request).code == "algorithm_not_allowed"
    named = value_of(request, "Signature-Input").replace("hmac-sha256", "ed25519")
    assert refusal(with_header(request, "Signature-Input", named)).code == "bad_signature"


@pytest.mark.parametrize("change", ["S+L", "63", "65", "order-8 R"])
def test_threat_073_a_signature_is_good_in_one_way_only(change):
    request = signed(PAIR)
    good = base64.b64decode(value_of(request, "Signature")[4:-1])
    s = int.from_bytes(good[32:], "little")
    other = {
        "S+L": good[:32] + (s + ORDER).to_bytes(32, "little"),
        "63": good[:-1],
        "65": good + b"\0",
        "order-8 R": bytes([1]) + bytes(31) + good[32:],
    }[change]
    changed = with_header(request, "Signature", f"pf=:{base64.b64encode(other).decode()}:")
    assert refusal(changed).code == "bad_signature"


LOW = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    # not canonical: y + p
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("point", LOW)
def test_threat_073_a_key_of_low_order_is_no_key(point):
    with pytest.raises(ValueError, match="low order"):
        Key("low", "ed25519", public_key=bytes.fromhex(point))
    assert not primitives.is_good_ed25519(bytes.fromhex(point), b"", bytes.fromhex(point) + bytes(32))


def test_a_good_signature_with_a_bad_clock_is_told_who_signed():
    request = signed(PAIR)
    refused = refusal(request, now=NOW + 900)
    assert (refused.code, refused.signer) == ("timestamp_out_of_window", PUBLIC)
    forged = with_header(request, "Signature", f"pf=:{base64.b64encode(bytes(64)).decode()}:")
    assert (refusal(forged, now=NOW + 900).code, refusal(forged, now=NOW + 900).signer) == (
        "timestamp_out_of_window",
        None,
    )
    assert refusal(forged).signer is None
    for key in (PAIR, MAC):
        store = MemoryReplayStore()
        request = signed(key, b"")
        verify(request, RING, HERE, now=NOW, replay=store)
        refused = refusal(request, replay=store)
        assert (refused.code, refused.signer and refused.signer.id) == ("replayed", key.id)
        refused = refusal(request, Policy(instance="other"))
        assert (refused.code, refused.signer and refused.signer.id) == ("audience_mismatch", key.id)
    assert refusal(replace(signed(MAC), body=b"?")).code == "digest_mismatch"
    assert refusal(replace(signed(MAC), body=b"?")).signer == MAC


def test_expires_is_a_hard_end_and_skew_is_for_created():
    request = signed(MAC, b"", now=NOW - 299)
    assert verify(request, RING, HERE, now=NOW).scheme == "v2"
    assert refusal(request, now=NOW + 2).code == "timestamp_out_of_window"
    wide = replace(HERE, skew=900)
    assert (refusal(request, wide, NOW + 2).code, refusal(request, wide, NOW + 2).signer) == (
        "bad_expires",
        MAC,
    )


def test_a_used_nonce_is_remembered_until_it_is_of_no_use():
    kept: list[tuple[str, str, float, float]] = []

    class Store:
        def remember(self, *entry):
            kept.append(entry)
            return True

    for key in (MAC, PAIR):
        verify(signed(key, b"", nonce="n" * 22), RING, HERE, now=NOW, replay=Store())
        refusal(with_header(signed(key), "Signature", "pf=:AAAA:"), replay=Store())
        refusal(signed(key), Policy(instance="other"), replay=Store())
    assert kept == [("mac", "n" * 22, NOW // 1 + 600, NOW), ("pair", "n" * 22, NOW // 1 + 600, NOW)]


def test_the_ratchet_ends_legacy_for_the_pair_alone():
    ratchet = MemoryRatchet()
    old, other = signed(OLD, b""), Key("other", "sha256", b"q" * 32, pair="q")
    ring = Keyring([OLD, NEW, other])
    verify(old, ring, HERE, now=NOW, ratchet=ratchet)
    with pytest.raises(Refused):
        verify(with_header(signed(NEW), "Signature", "pf=:AAAA:"), ring, HERE, now=NOW, ratchet=ratchet)
    verify(old, ring, HERE, now=NOW, ratchet=ratchet)
    verify(signed(NEW, b""), ring, HERE, now=NOW, ratchet=ratchet)
    with pytest.raises(Refused, match="downgrade_refused"):
        verify(old, ring, HERE, now=NOW, ratchet=ratchet)
    verify(signed(other, b""), ring, HERE, now=NOW, ratchet=ratchet)
    ratchet.reset("p")
    verify(old, ring, HERE, now=NOW, ratchet=ratchet)


@pytest.mark.parametrize("call", ["is_set", "set"])
def test_a_ratchet_that_cannot_answer_refuses(call):
    class Broken(MemoryRatchet):
        pass

    def fail(*_: object) -> bool:
        raise OSError("disk")

    setattr(Broken, call, fail)
    assert refusal(signed(MAC), ratchet=Broken()).code == "replay_store_unavailable"


@pytest.mark.parametrize("key", [MAC, PAIR], ids=["hmac", "ed25519"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_an_answer_belongs_to_one_request(key, body):
    request, other = signed(MAC), signed(MAC)
    bare = Response(201, JSON, body)
    answer = replace(bare, headers=[*JSON, *sign_response(bare, request, key, now=NOW)])
    ring = Keyring([MAC, PUBLIC])
    assert verify_response(answer, request, ring, now=NOW + 299) == ring.get(key.id)
    changed = [
        (answer, other, "bad_signature"),
        (replace(answer, status=200), request, "bad_signature"),
        (replace(answer, body=b"!"), request, "digest_mismatch"),
        (with_header(answer, "Content-Type", "text/html"), request, "bad_signature"),
        (with_header(answer, "Content-Type", None), request, "missing_headers"),
        (with_header(answer, "Signature", None), request, "missing_headers"),
        (replace(answer, headers=[*answer.headers, ("Signature", "a")]), request, "duplicate_header"),
        (answer, with_header(request, "Signature", None), "missing_headers"),
        (replace(answer, status="200"), request, "malformed_header"),
        (replace(answer, headers=request.headers), request, "malformed_signature_input"),
    ]
    for response, asked, code in changed:
        with pytest.raises(Refused) as caught:
            verify_response(response, asked, ring, now=NOW)
        assert caught.value.code == code
    for now, code in ((NOW + 302, "timestamp_out_of_window"),):
        with pytest.raises(Refused, match=code):
            verify_response(answer, request, ring, now=now)
    with pytest.raises(Refused, match="unknown_key"):
        verify_response(answer, request, Keyring([NEW]), now=NOW)


@given(st.builds(Response, st.integers() | st.none() | st.text(), st.lists(
    st.tuples(st.sampled_from(["Signature", "Signature-Input", "Content-Digest", "Content-Type"]), near) | st.none(), max_size=5
) | st.none(), st.binary(max_size=3) | st.none()))  # fmt: skip
def test_no_answer_raises_anything_but_refused(response):
    with pytest.raises(Refused):
        verify_response(response, signed(MAC), RING, now=NOW)


def test_what_cannot_be_signed():
    request = Request("GET", "/", "a", [], b"")
    for bad in (
        {"instance": None}, {"org": "a\r\nb"}, {"scope": "é"}, {"nonce": 'x";alg="none'}, {"now": 10**400},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            sign(request, MAC, **{"now": NOW, "instance": "acme"} | bad)
    for headers in (
        [("Signature", "x")],
        [("Content-Digest", "a"), ("content-digest", "b")],
        [("X" * 300, "y")],
    ):
        with pytest.raises(CannotSign):
            sign(replace(request, headers=headers), MAC, now=NOW, instance="acme")
    with pytest.raises(CannotSign):
        sign(replace(request, authority="a b"), MAC, now=NOW, instance="acme")
    with pytest.raises(CannotSign):
        sign(request, PUBLIC, now=NOW, instance="acme")
    for response, asked in ((Response(200, [], b""), signed(MAC)), (Response(200, JSON, b""), request)):
        with pytest.raises(CannotSign):
            sign_response(response, asked, MAC, now=NOW)


def test_who_answers():
    assert answer_key(MAC, PAIR) is PAIR
    assert answer_key(MAC, None) is MAC
    assert answer_key(PUBLIC, None) is None


def test_our_hmac_signature_is_what_anybody_computes():
    request = signed(MAC, b"")
    text = value_of(request, "Signature-Input").removeprefix("pf=")
    base = (
        '"@method": GET\n"@authority": acme.example\n"@path": /a/b\n"@query": ?x=1\n'
        f'"x-provider-instance": acme\n"x-provider-scope": provider\n"@signature-params": {text}'
    )
    expected = base64.b64encode(hmac.digest(MAC.secret, base.encode(), "sha256")).decode()
    assert value_of(request, "Signature") == f"pf=:{expected}:"
    assert modern.check(request, core._read(request, HERE), RING, HERE, NOW).key is MAC


def test_nonces_are_never_given_twice():
    given_out = {modern._nonce() for _ in range(1000)}
    assert len(given_out) == 1000
    assert all(len(nonce) == 24 for nonce in given_out)


def test_a_forked_child_draws_nonces_of_its_own():
    modern._nonce()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, modern._nonce().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 24).decode() != modern._nonce()
    os.close(reading)
    os.close(writing)
