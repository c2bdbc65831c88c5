"""Area A, v2 over real sockets: fields that are malformed, cover too little, or were made with what is no key."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pytest
from nacl.signing import SigningKey
from tests.attacks.servers.wire import raw
from tests.attacks.threats_a.world import (
    BODY,
    ED25519,
    HMAC,
    HOST,
    LEGACY,
    NOW,
    READER,
    RESPONSE,
    bare,
    federated,
    header_of,
    made,
    names_of,
    plus_headers,
    running,
    sealed,
    signed,
    with_header,
)
from tests.unit.protocol.vector_files import keyring_of, load, policy_of, request_of
from tools.vector_making import base_as_signed

from provider_federation.protocol import (
    Key,
    Keyring,
    Request,
    verify,
)

BOTH = pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
REFUSALS = load("refusals.json")
RFC = load("rfc9421.json")
FEDERATION = ["Signature", "Signature-Input", "X-Provider-Instance", "X-Provider-Scope"]
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point, RFC 8032, section 5.1


def _good() -> Request:
    return signed(HMAC, "POST", "/a", BODY)


def _with_input(request: Request, old: str, new: str) -> Request:
    value = header_of(request, "signature-input")
    assert old in value
    return with_header(request, "Signature-Input", value.replace(old, new, 1))


@pytest.mark.parametrize("name", [*FEDERATION, "Content-Digest", "X-Provider-Org"])
def test_threats_029_049_a_header_twice(instance, name):
    request = signed(HMAC, "POST", "/a", BODY, org="org-1")
    twice = plus_headers(request, (name.lower(), header_of(request, name.lower())))
    instance.refuses(twice, "duplicate_header", 400)


def test_threat_050_the_case_of_header_names(instance):
    request = _good()
    instance.accepts(replace(request, headers=[(name.swapcase(), value) for name, value in request.headers]))


@pytest.mark.parametrize("name", ["X-Provider-Scope", "X-Provider-Instance", "Signature-Input", "Signature"])
@pytest.mark.parametrize("character", ["\0", "\x01", "\t", "\x7f", "\xe9", "\r"])
def test_threat_051_odd_characters_in_values(instance, name, character):
    value = header_of(_good(), name.lower())
    answer = instance.call(with_header(_good(), name, value[:3] + character + value[3:]))
    assert answer.status in {400, 401}  # a tab in Signature is a signature that cannot be read
    codes = {"malformed_header", "malformed_signature", "malformed_signature_input"}
    assert answer.json.get("reason", "malformed_header") in codes
    assert instance.app.seen == []


def test_threat_051_spaces_around_values_are_no_part_of_them(instance):
    """Whitespace before a value every server takes away; behind it h11 does, httptools leaves it to be refused."""
    request = _good()
    instance.accepts(replace(request, headers=[(name, f" \t {value}") for name, value in request.headers]))
    instance.memory.forget()
    behind = instance.call(replace(request, headers=[(name, f"{value} ") for name, value in request.headers]))
    assert behind.outcome in {(200, None), (400, "malformed_header"), (400, "bad_framing")}


def test_threat_051_a_folded_line(instance):
    answer = instance.call(with_header(_good(), "X-Provider-Scope", "provider\r\n read"))
    assert answer.status in {400, 401}
    assert instance.app.seen == []


def test_threat_053_a_megabyte_of_signature_input(instance):
    answer = instance.call(with_header(_good(), "Signature-Input", "x" * 1_000_000))
    assert answer.status in {400, 431}
    instance.refuses(with_header(_good(), "Signature-Input", "x" * 9_000), "headers_too_large", 431)
    assert instance.app.seen == []


def test_threat_054_a_hundred_signatures_and_a_thousand_components(instance):
    many = ", ".join(f's{n}=("@path");created=1;keyid="k"' for n in range(100))
    instance.refuses(with_header(_good(), "Signature-Input", many), "malformed_signature_input", 400)
    tags = ", ".join(f"s{n}=:YQ==:" for n in range(100))
    instance.refuses(with_header(_good(), "Signature", tags), "malformed_signature", 401)
    long = "pf=(" + " ".join(f'"{n:x}"' for n in range(1000)) + ');created=1;keyid="k"'
    instance.refuses(with_header(_good(), "Signature-Input", long), "malformed_signature_input", 400)


@pytest.mark.parametrize("name", FEDERATION)
def test_threat_055_each_required_header_is_required(instance, name):
    instance.refuses(with_header(_good(), name, None), "missing_headers", 401)


@pytest.mark.parametrize(
    "created",
    [
        "-1",
        str(2**63),
        str(2**64),
        f'"{NOW:.0f}"',
        "?1",
        "1790000000.0",
        "1e9",
        "",
        "01790000000",
        "*tok",
        ":YQ==:",
    ],
)
def test_threat_061_created_is_a_plain_integer(instance, created):
    odd = _with_input(_good(), f"created={NOW:.0f}", f"created={created}")
    instance.refuses(odd, "malformed_signature_input", 400)


@pytest.mark.parametrize("created", [0, 1, 999_999_999_999_000])
def test_threat_061_created_that_no_clock_shows(instance, created):
    instance.refuses(made(created=created, expires=created + 60), "timestamp_out_of_window", 401)


@pytest.mark.parametrize(
    ("created", "expires"),
    [(0, -1), (0, 0), (-200, -1), (0, None), (0, 301), (0, 365 * 86_400), (-300, 1)],
)
def test_threat_062_expires(instance, created, expires):
    request = made(created=round(NOW) + created, expires=None if expires is None else round(NOW) + expires)
    instance.refuses(request, "bad_expires", 401)


def test_threat_062_expires_is_no_string(instance):
    instance.refuses(made(expires=str(round(NOW) + 60)), "malformed_signature_input", 400)


def test_threat_065_the_key_decides_the_algorithm(instance):
    instance.refuses(made(alg="ed25519"), "algorithm_not_allowed", 401)
    instance.refuses(made(key=ED25519, alg="hmac-sha256"), "algorithm_not_allowed", 401)
    instance.refuses(made(alg="rsa-v1_5-sha256"), "algorithm_not_allowed", 401)
    instance.refuses(made(keyid=LEGACY.id), "algorithm_not_allowed", 401)
    instance.refuses(made(alg=None), "malformed_signature_input", 400)


def test_threat_070_almost_a_signature(instance):
    tag = header_of(_good(), "signature").split(":")[1]
    for odd in ("pf=", "pf=::::", f'pf="{tag}"', f"pf=:{tag[:-1]}:", f"pf=:{tag}", f"pf={tag}", f":{tag}:", f"pf=:{tag}:;x",
                f"PF=:{tag}:", f"pf=:{tag}: x", f"pf=: {tag}:", "pf=:*:", f"pf=:{tag.replace('=', '')}:"):  # fmt: skip
        instance.refuses(with_header(_good(), "Signature", odd), "malformed_signature", 401)
    for wrong in ("pf=::", "pf=:YQ==:", f"pf=:{base64.b64encode(bytes(32)).decode()}:"):
        instance.refuses(with_header(_good(), "Signature", wrong), "bad_signature", 401)


def _pem(raw_key: bytes) -> bytes:
    der = bytes.fromhex("302a300506032b6570032100") + raw_key
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("material", [ED25519.public_key, _pem(ED25519.public_key)], ids=["raw", "pem"])
def test_threat_071_hmac_keyed_with_the_ed25519_public_key(instance, material):
    confused = Key(ED25519.id, "hmac-sha256", material)
    instance.refuses(made(key=confused), "algorithm_not_allowed", 401)
    instance.refuses(made(key=confused, alg="ed25519"), "bad_signature", 401)


def _tag(request: Request) -> bytes:
    return base64.b64decode(header_of(request, "signature").split(":")[1])


def _tagged(request: Request, tag: bytes) -> Request:
    return with_header(request, "Signature", f"pf=:{base64.b64encode(tag).decode()}:")


def test_threat_073_a_malleated_ed25519_signature(instance):
    request = signed(ED25519, "POST", "/a", BODY)
    tag = _tag(request)
    more = int.from_bytes(tag[32:], "little") + ORDER
    instance.refuses(_tagged(request, tag[:32] + more.to_bytes(32, "little")), "bad_signature", 401)
    for size in (0, 63, 65, 128):
        instance.refuses(_tagged(request, (tag + tag)[:size]), "bad_signature", 401)
    instance.refuses(_tagged(request, bytes(64)), "bad_signature", 401)
    instance.accepts(request)


LOW_ORDER = [
    bytes(32), b"\1" + bytes(31), b"\1" + bytes(30) + b"\x80", bytes([0xEC, *[0xFF] * 30, 0x7F]), bytes([0xED, *[0xFF] * 30, 0x7F]),
    bytes([0xEE, *[0xFF] * 30, 0x7F]), bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]  # fmt: skip


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_threat_073_a_public_key_of_low_order_is_no_key(point):
    with pytest.raises(ValueError, match="low order"):
        Key("k", "ed25519", public_key=point)


@pytest.mark.parametrize("extra", ["X-Provider-KeyId", "X-Provider-Timestamp", "X-Provider-Signature"])
def test_threat_074_both_schemes(instance, extra):
    value = header_of(signed(LEGACY), extra.lower())
    instance.refuses(plus_headers(_good(), (extra, value)), "ambiguous_auth", 400)


@pytest.mark.parametrize("vector", RFC["vectors"], ids=lambda vector: vector["id"])
def test_threat_075_the_rfcs_own_signatures_cover_too_little(vector):
    seed = base64.urlsafe_b64decode(RFC["keys"]["test-key-ed25519"]["jwk"]["d"] + "=")
    shared = base64.b64decode(RFC["keys"]["test-shared-secret"]["secret_base64"])
    keys = Keyring(
        [
            Key("test-shared-secret", "hmac-sha256", shared),
            Key("test-key-ed25519", "ed25519", public_key=bytes(SigningKey(seed).verify_key)),
        ]
    )
    source = RFC["request"]
    headers = [tuple(pair) for pair in source["headers"] if pair[0] != "Content-Length"]
    headers += [("Signature-Input", vector["signature_input"]), ("Signature", vector["signature"])]
    request = Request("POST", "/foo?param=Value&Pet=dog", "example.com", headers, source["body"].encode())
    with running(keyring=keys, now=lambda: float(vector["created"])) as instance:
        instance.refuses(request, "insufficient_coverage", 401)


@pytest.mark.parametrize(
    "name", [*names_of(federated(bare("POST", "/a", BODY, ("Idempotency-Key", "k")), org="org-1")), ""]
)
def test_threat_077_less_coverage(instance, name):
    request = federated(bare("POST", "/a", BODY, ("Idempotency-Key", "k")), org="org-1")
    names = [other for other in names_of(request) if other != name] if name else []
    instance.refuses(sealed(request, HMAC, names=names), "insufficient_coverage", 401)


@pytest.mark.parametrize(
    "odd",
    ['"@path"', '"Content-Type"', '"@status"', '"@target-uri"', '"@request-target"', '"@scheme"', '"@query-param";name="x"',
     '"content-type";sf', '"content-type";bs', '"content-digest";key="sha-256"', '"@method";req', '"content-type";tr', '"@signature-params"',
     '""'],
)  # fmt: skip
def test_threat_077_components_that_we_do_not_take(instance, odd):
    request = federated(bare("POST", "/a", BODY))
    instance.refuses(sealed(request, HMAC, names=[*names_of(request), odd]), "malformed_signature_input", 400)


@pytest.mark.parametrize("odd", ["content-type", "1", ":YQ==:", "?1", '"x" "y', '("x")'])
def test_threat_077_components_that_are_no_strings(instance, odd):
    instance.refuses(
        _with_input(_good(), '("@method"', f'({odd} "@method"'), "malformed_signature_input", 400
    )


def test_threat_077_a_covered_header_that_is_sent_twice_or_not_at_all(instance):
    request = federated(bare("POST", "/a", BODY, ("Date", "today")))
    whole = sealed(request, HMAC, names=[*names_of(request), '"date"'])
    instance.refuses(plus_headers(whole, ("Date", "tomorrow")), "duplicate_header", 400)
    instance.refuses(with_header(whole, "Date", None), "missing_headers", 401)
    instance.refuses(with_header(whole, "Date", "tomorrow"), "bad_signature", 401)
    instance.accepts(whole)


def test_threat_078_labels_and_tags(instance):
    good = _good()
    instance.refuses(made(label="sig1"), "malformed_signature_input", 400)
    instance.refuses(
        with_header(good, "Signature", "x" + header_of(good, "signature")), "malformed_signature", 401
    )
    instance.refuses(made(quoted=True), "malformed_signature", 401)
    for tag in (None, "", "provider-federation-v1", "provider-federation-v2-response"):
        instance.refuses(made(tag=tag), "malformed_signature_input", 400)
    collision = f"{header_of(good, 'signature-input')}, {header_of(good, 'signature-input')}"
    instance.refuses(with_header(good, "Signature-Input", collision), "malformed_signature_input", 400)


def test_threat_079_two_signatures_are_never_mixed(instance):
    """The attacker's own valid one with a reader's key, and an invalid one with the provider's."""
    request = federated(bare(), scope="read")
    own = sealed(request, READER, label="own")
    forged = sealed(request, replace(HMAC, secret=b"not the secret"))
    both = own
    for name in ("signature-input", "signature"):
        both = with_header(both, name, f"{header_of(own, name)}, {header_of(forged, name)}")
    instance.refuses(both, "ambiguous_auth", 400)
    for label in ("pf", "own"):
        instance.refuses(sealed(request, replace(HMAC, secret=b"not the secret"), label=label),
                         "bad_signature" if label == "pf" else "malformed_signature_input", 401 if label == "pf" else 400)  # fmt: skip


def test_threat_081_a_revoked_key_is_refused_at_once(instance):
    instance.accepts(signed(HMAC))
    instance.keys.live[HMAC.id] = replace(HMAC, revoked=True)
    instance.refuses(signed(HMAC), "revoked_key", 401, told="unknown_key")
    del instance.keys.live[HMAC.id]
    instance.refuses(signed(HMAC), "unknown_key", 401)
    instance.keys.live[HMAC.id] = HMAC
    instance.accepts(signed(HMAC))


def test_threat_082_keys_have_their_days(instance):
    old = replace(HMAC, not_after=NOW + 10)
    new = Key("hmac-next", "hmac-sha256", b"the secret that comes after it..", not_before=NOW - 10)
    instance.keys.live |= {old.id: old, new.id: new}
    for moment in (NOW - 10, NOW, NOW + 10):
        instance.now[0] = moment
        for key in (old, new):
            instance.accepts(signed(key, now=moment))
    instance.now[0] = NOW + 11
    instance.refuses(signed(old, now=NOW + 11), "expired_key", 401, told="unknown_key")
    instance.now[0] = NOW - 11
    instance.refuses(signed(new, now=NOW - 11), "key_not_yet_valid", 401, told="unknown_key")


@pytest.mark.parametrize(
    "key_id",
    ["hma", "hmac1", "HMAC", "hmac ", "__proto__", "constructor", "../hmac", "hmac'--", "%68mac", "hmac%00"],
)
def test_threat_083_almost_a_key_id(instance, key_id):
    code, status = ("malformed_header", 400) if " " in key_id else ("unknown_key", 401)
    instance.refuses(made(keyid=key_id), code, status)


@pytest.mark.parametrize("key_id", ["", "' OR 1=1 --", "hmac,hmac", "k" * 129])
def test_threat_083_no_key_id_at_all(instance, key_id):
    instance.refuses(made(keyid=key_id), "malformed_header", 400)


def test_threat_083_a_key_id_of_10_kb(instance):
    instance.refuses(made(keyid="k" * 10_000), "headers_too_large", 431)


@pytest.mark.parametrize("name", FEDERATION)
def test_threat_090_half_a_signature_never_falls_through_to_cookies(instance, name):
    alone = Request("GET", "/a", HOST, [(name, header_of(_good(), name.lower()))], b"")
    answer = instance.call(alone, "Cookie: session=owner")
    assert answer.outcome == (401, "missing_headers")
    assert instance.app.seen == []


def test_threat_091_a_good_one_acts_as_the_machine_only(instance):
    seen = instance.accepts(_good(), "Cookie: session=owner", "Authorization: Bearer owner")
    assert (seen["key"], seen["cookie"]) == (HMAC.id, "")


def test_threat_093_the_signed_host_is_the_one_that_was_sent(instance):
    request = _good()
    without = raw(replace(request, headers=request.headers[1:]), line="POST /a HTTP/1.0")
    assert instance.send(without).outcome == (400, "bad_framing")
    two = instance.send(raw(request, "Host: acme.example"))
    assert two.status == 400
    instance.refuses(with_header(request, "Host", "acme.example:8080"), "bad_signature", 401)
    instance.accepts(with_header(request, "Host", "ACME.example"))


@BOTH
def test_threat_094_a_bad_signature_is_refused_before_the_body_is_asked_for(instance, key):
    forged = with_header(signed(key, "POST", "/a", BODY), "X-Provider-Scope", "read")
    head = raw(forged, "Expect: 100-continue", f"Content-Length: {len(BODY)}", length=False)
    answer = instance.send(head)
    assert answer.outcome == (401, "bad_signature")
    assert b"100 Continue" not in answer.received
    good = raw(
        signed(key, "POST", "/a", BODY), "Expect: 100-continue", f"Content-Length: {len(BODY)}", length=False
    )
    assert instance.send(good, then=BODY).status == 200


def test_the_refusals_of_the_vectors_are_those_of_a_running_instance():
    """Every request of vectors/refusals.json that has no policy of its own, as bytes to a real server."""
    keys, policy = keyring_of(REFUSALS), policy_of(REFUSALS["policy"])
    compared = 0
    with running(keyring=keys, policy=policy) as instance:
        for case in REFUSALS["cases"]:
            if "policy" in case or case["request"]["target"] == "/api/%zz" or "before" in case:
                continue
            instance.memory.forget()
            answer = instance.call(request_of(case["request"]))
            told = answer.json.get("reason", case["reason"])
            assert (answer.status, told) == (case["status"], case["reason"]), case["name"]
            compared += 1
        assert instance.app.seen == []
    assert compared > 80


def test_what_is_compared_is_what_is_signed():
    """The tests' own signature base, against the library's, so that a refusal here is for the reason it says."""
    request = made()
    principal = verify(request, Keyring([HMAC]), policy_of({"instance": "acme"}), now=NOW)
    assert principal.key_id == HMAC.id
    base = base_as_signed(request).encode()
    assert hmac.digest(HMAC.secret, base, "sha256") == _tag(request)
    assert RESPONSE.algorithm == "ed25519"
