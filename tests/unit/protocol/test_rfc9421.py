"""RFC 9421, appendix B: our core comes to the same bytes, and our profile refuses what covers too little."""

from __future__ import annotations

import base64

import pytest
from tests.unit.protocol.vector_files import load

from provider_federation.protocol import Key, Keyring, Policy, Refused, Request, verify
from provider_federation.protocol.fields import (
    FieldError,
    components,
    content_digest,
    digest_fault,
    read_byte_sequences,
    read_signature_input,
    signature_base,
)
from provider_federation.protocol.signing import is_good, make_signature

RFC = load("rfc9421.json")
VECTORS = {vector["id"]: vector for vector in RFC["vectors"]}


def _key(name: str) -> Key:
    material = RFC["keys"][name]
    if material["alg"] == "hmac-sha256":
        return Key(name, "hmac-sha256", base64.b64decode(material["secret_base64"]))
    seed, public = (base64.urlsafe_b64decode(material["jwk"][part] + "=") for part in ("d", "x"))
    return Key(name, "ed25519", seed, public)


KEYS = Keyring([_key(name) for name in RFC["keys"]])


def _request(vector: dict, **changed: str) -> Request:
    source = RFC["request"]
    fields = {"signature_input": vector["signature_input"], "signature": vector["signature"]} | changed
    headers = [(name, value) for name, value in source["headers"] if name != "Content-Length"]
    headers += [
        ("Content-Length", "18"),
        ("Signature-Input", fields["signature_input"]),
        ("Signature", fields["signature"]),
    ]
    return Request(
        "POST", source["path"] + source["query"], source["authority"], headers, source["body"].encode()
    )


def _base(vector: dict, request: Request) -> bytes:
    given = read_signature_input(vector["signature_input"])[0]
    values = {name.lower(): value for name, value in request.headers}
    values |= {"@method": request.method, "@path": "/foo", "@authority": request.authority}
    return signature_base(components(given.covered), values, given.text)


@pytest.mark.parametrize("name", ["B.2.5", "B.2.6"])
def test_threat_075_the_core_reproduces_the_rfc_to_the_byte(name):
    vector = VECTORS[name]
    key = KEYS.get(vector["keyid"])
    base = _base(vector, _request(vector))
    assert base == vector["signature_base"].encode()
    signature = make_signature(key, base)
    assert base64.b64encode(signature).decode() == vector["signature_base64"]
    assert is_good(key, base, signature)
    assert not is_good(key, base, bytes([signature[0] ^ 1]) + signature[1:])
    assert read_byte_sequences(vector["signature"]) == {vector["label"]: signature}


@pytest.mark.parametrize("name", ["B.2.5", "B.2.6"])
def test_threat_075_the_profile_refuses_what_covers_too_little(name):
    vector = VECTORS[name]
    with pytest.raises(Refused) as caught:
        verify(_request(vector), KEYS, Policy(), now=vector["created"])
    assert (caught.value.code, caught.value.status, caught.value.signer) == (
        "insufficient_coverage",
        401,
        None,
    )


@pytest.mark.parametrize("case", RFC["negative"], ids=lambda case: f"{case['of']}: {case['mutation']}")
def test_the_core_refuses_every_mutation(case):
    """In the core, because the profile refuses all of these for their coverage already."""
    vector = VECTORS[case["of"]] | {
        name: case[name] for name in ("signature", "signature_input") if name in case
    }
    try:
        signatures = read_byte_sequences(vector["signature"])
        given = read_signature_input(vector["signature_input"])[0]
        base = _base(vector, _request(vector))
    except FieldError:
        assert case["expect"] in {"malformed_signature", "malformed_signature_input"}
        return
    key = KEYS.get(given.keyid)
    if given.label not in signatures:
        assert case["expect"] == "malformed_signature"
    elif given.alg not in {None, key.algorithm}:
        assert case["expect"] == "algorithm_mismatch"
    else:
        assert case["expect"] == "bad_signature"
        assert not is_good(key, base, signatures[given.label])


@pytest.mark.parametrize("case", RFC["negative"], ids=lambda case: f"{case['of']}: {case['mutation']}")
def test_the_profile_refuses_every_mutation(case):
    changed = {name: case[name] for name in ("signature", "signature_input") if name in case}
    with pytest.raises(Refused):
        verify(_request(VECTORS[case["of"]], **changed), KEYS, Policy(), now=VECTORS[case["of"]]["created"])


@pytest.mark.parametrize("case", RFC["content_digest"], ids=lambda case: case["body"] or "empty")
def test_content_digests(case):
    body = case["body"].encode()
    assert content_digest(body) == case["sha-256"]
    for name in ("sha-256", "sha-512"):
        if name in case:
            assert digest_fault(case[name], body) is None
            assert digest_fault(case[name], body + b"!") == "digest_mismatch"


def test_a_further_vector_of_another_implementation():
    (vector,) = RFC["extra_vectors_not_in_rfc"]
    base = _base(vector, _request(vector | {"signature": "sig-b27=:AAAA:"}))
    assert base == vector["signature_base"].encode()
    assert (
        base64.b64encode(make_signature(KEYS.get(vector["keyid"]), base)).decode()
        == vector["signature_base64"]
    )
