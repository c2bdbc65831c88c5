"""vectors/refusals.json: requests with one fault each, and the code to refuse them with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tools.vector_making import (
    BODY,
    BOUND,
    EARLIER,
    ED25519,
    ELSEWHERE,
    HMAC,
    HOST,
    INVOICES,
    JSON,
    LATER,
    LEGACY,
    NOW,
    ORG,
    OTHERS,
    POLICY,
    READER,
    REVOKED,
    bare,
    federated,
    header_of,
    key_fields,
    names_of,
    plus_headers,
    request_fields,
    sealed,
    signed_by,
    with_header,
)

from provider_federation.protocol import Key, Refused, Request

Case = tuple[str, Request, dict[str, Any]]
"""Code, request, and what is special: `policy` fields, `before` (requests that were accepted before this one)."""


def _shape_faults() -> Iterator[Case]:
    good = signed_by(bare("POST", INVOICES, BODY), HMAC)
    for name in ("Signature", "Signature-Input", "X-Provider-Instance", "X-Provider-Scope"):
        yield "missing_headers", with_header(good, name, None), {"name": f"without {name}"}
    for name in ("X-Provider-Scope", "Content-Digest", "Signature-Input", "Signature"):
        yield (
            "duplicate_header",
            plus_headers(good, (name, header_of(good, name.lower()))),
            {"name": f"{name} twice"},
        )
    yield (
        "malformed_header",
        with_header(good, "X-Provider-Scope", "provider\t"),
        {"name": "a tab in a value"},
    )
    yield "malformed_header", sealed(federated(bare()), HMAC, keyid="a,b"), {"name": "a comma in a key id"}
    yield "headers_too_large", plus_headers(good, ("X-Long", "x" * 9000)), {"name": "a header of 9,000 bytes"}
    yield "headers_too_large", plus_headers(good, *[("X-Many", "x")] * 100), {"name": "more than 100 headers"}
    yield "bad_framing", plus_headers(good, ("Host", HOST), ("Host", "globex.example")), {"name": "two hosts"}
    yield "bad_method", replace(good, method="post"), {}
    yield "bad_target", replace(good, target="/api/%zz"), {}
    for target in ("/api//list", "/api/../list", "/api/%2e%2e/list", "/api/a%2Fb", "/api/a;b", "/api/%7Eme"):
        yield "non_canonical_target", sealed(federated(bare("GET", target)), HMAC), {"name": target}
    yield "body_too_large", good, {"policy": {"max_body": 10}}
    yield "content_encoding_not_allowed", plus_headers(good, ("Content-Encoding", "gzip")), {}
    yield (
        "ambiguous_auth",
        plus_headers(good, *signed_by(bare("POST", INVOICES, BODY), LEGACY).headers[1:4]),
        {"name": "both schemes"},
    )
    twice = with_header(
        good,
        "Signature-Input",
        f"{header_of(good, 'signature-input')}, x{header_of(good, 'signature-input')}",
    )
    twice = with_header(
        twice, "Signature", f"{header_of(good, 'signature')}, x{header_of(good, 'signature')}"
    )
    yield "ambiguous_auth", twice, {"name": "two signatures"}


def _form_faults() -> Iterator[Case]:
    good = signed_by(bare("POST", INVOICES, BODY), HMAC)
    whole = federated(bare("POST", INVOICES, BODY))
    text = header_of(good, "signature-input")
    for name, odd in {
        "no list": "pf=1", "not closed": text.replace(")", "", 1), "component twice": text.replace("(", '("@path" ', 1),
        "component in capitals": text.replace('"@path"', '"@Path"'), "parameter twice": text + ";created=1",
        "created is a string": text.replace(f"created={NOW}", f'created="{NOW}"'), "created is a decimal": text.replace(f"created={NOW}", f"created={NOW}.0"),
        "created of 2^63": text.replace(f"created={NOW}", f"created={2**63}"), "negative created": text.replace(f"created={NOW}", "created=-1"),
        "two spaces": text.replace('" "', '"  "', 1),
    }.items():  # fmt: skip
        yield "malformed_signature_input", with_header(good, "Signature-Input", odd), {"name": name}
    for name in (
        '"@status"',
        '"@target-uri"',
        '"content-type";sf',
        '"content-type";bs',
        '"signature";key="pf"',
        '"@path";req',
        '"content-type";tr',
    ):
        yield (
            "malformed_signature_input",
            sealed(whole, HMAC, names=[*names_of(whole), name]),
            {"name": f"covers {name}"},
        )
    yield "malformed_signature_input", sealed(whole, HMAC, tag=None), {"name": "without tag"}
    yield "malformed_signature_input", sealed(whole, HMAC, tag="another"), {"name": "another tag"}
    yield "malformed_signature_input", sealed(whole, HMAC, alg=None), {"name": "without alg"}
    yield "malformed_signature_input", sealed(whole, HMAC, label="sig1"), {"name": "another label"}
    yield "malformed_signature", sealed(whole, HMAC, quoted=True), {"name": "a string"}
    yield (
        "malformed_signature",
        with_header(good, "Signature", header_of(good, "signature").replace("=:", "=:*", 1)),
        {"name": "no base64"},
    )
    yield (
        "malformed_signature",
        with_header(good, "Signature", "x" + header_of(good, "signature")),
        {"name": "label differs"},
    )


def _coverage_faults() -> Iterator[Case]:
    whole = federated(bare("POST", INVOICES, BODY))
    for name in names_of(whole):
        less = [other for other in names_of(whole) if other != name]
        yield "insufficient_coverage", sealed(whole, HMAC, names=less), {"name": f"without {name}"}
    yield "insufficient_coverage", sealed(whole, HMAC, names=[]), {"name": "nothing covered"}
    asked = federated(bare("POST", INVOICES, BODY, ("Idempotency-Key", "k-1")), org=ORG)
    for name in ('"idempotency-key"', '"x-provider-org"'):
        less = [other for other in names_of(asked) if other != name]
        yield "insufficient_coverage", sealed(asked, HMAC, names=less), {"name": f"{name} sent, not covered"}


def _bad_signatures() -> Iterator[Case]:
    whole = federated(bare("POST", INVOICES, BODY))
    for key in (HMAC, ED25519):
        signed = signed_by(bare("POST", INVOICES, BODY), key)
        tag = bytearray(base64.b64decode(header_of(signed, "signature").split(":")[1]))
        tag[5] ^= 1
        flipped = f"pf=:{base64.b64encode(tag).decode()}:"
        yield (
            "bad_signature",
            with_header(signed, "Signature", flipped),
            {"name": f"{key.algorithm}: one bit of the signature"},
        )
        yield "bad_signature", replace(signed, method="PUT"), {"name": f"{key.algorithm}: another method"}
        yield (
            "bad_signature",
            replace(signed, target=INVOICES + "&x=1"),
            {"name": f"{key.algorithm}: another query"},
        )
        yield (
            "bad_signature",
            with_header(signed, "X-Provider-Scope", "read"),
            {"name": f"{key.algorithm}: another scope"},
        )
        yield (
            "bad_signature",
            with_header(signed, "Signature", "pf=:AAAA:"),
            {"name": f"{key.algorithm}: a short signature"},
        )
    swapped = Key("portal-ed25519", "hmac-sha256", ED25519.public_key)
    yield (
        "bad_signature",
        sealed(whole, swapped, alg="ed25519"),
        {"name": "HMAC keyed with the ed25519 public key"},
    )


def _key_faults() -> Iterator[Case]:
    yield "unknown_key", signed_by(bare(), replace(HMAC, id="nobody")), {}
    yield "revoked_key", signed_by(bare(), REVOKED), {}
    yield "key_not_yet_valid", signed_by(bare(), LATER), {}
    yield "expired_key", signed_by(bare(), EARLIER), {}
    other = sealed(federated(bare()), HMAC, alg="ed25519")
    yield "algorithm_not_allowed", other, {"name": "names another algorithm than the key's"}
    yield (
        "algorithm_not_allowed",
        signed_by(bare(), HMAC),
        {"name": "not accepted here", "policy": {"accept": ["ed25519"]}},
    )
    yield (
        "downgrade_refused",
        signed_by(bare(), LEGACY),
        {"name": "legacy is over", "policy": {"legacy_until": NOW}},
    )
    yield (
        "downgrade_refused",
        signed_by(bare(), LEGACY),
        {"name": "the pair has used v2", "before": [signed_by(bare(), HMAC)]},
    )
    yield (
        "bad_timestamp",
        with_header(signed_by(bare(), LEGACY), "X-Provider-Timestamp", "2026-09-21 14:13:20.000Z"),
        {},
    )
    for key, drift in ((HMAC, -301), (ED25519, 301), (LEGACY, -301)):
        yield (
            "timestamp_out_of_window",
            signed_by(bare(), key, now=NOW + drift),
            {"name": f"{key.algorithm}: {drift:+d} s"},
        )
    for name, expires in {"not after created": NOW, "301 seconds after": NOW + 301, "absent": None}.items():
        yield "bad_expires", sealed(federated(bare()), HMAC, expires=expires), {"name": name}
    yield (
        "bad_expires",
        sealed(federated(bare()), HMAC, created=NOW - 100, expires=NOW - 1),
        {"name": "over"},
    )
    for name, nonce in {
        "absent": None,
        "empty": "",
        "short": "A" * 21,
        "long": "A" * 200,
        "odd": "!" * 22,
    }.items():
        yield "bad_nonce", sealed(federated(bare()), HMAC, nonce=nonce), {"name": name}


def _content_faults() -> Iterator[Case]:
    good = signed_by(bare("POST", INVOICES, BODY), HMAC)
    flipped = bytes([BODY[0] ^ 1]) + BODY[1:]
    yield "digest_mismatch", replace(good, body=flipped), {"name": "one bit of the body"}
    yield "digest_mismatch", replace(good, body=BODY + b"\n"), {"name": "a newline more"}
    right = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    wrong = base64.b64encode(hashlib.sha512(flipped).digest()).decode()
    for code, name, field in (
        ("digest_mismatch", "one right, one wrong", f"sha-256=:{right}:, sha-512=:{wrong}:"),
        ("malformed_digest", "no base64", "sha-256=:***:"),
        ("malformed_digest", "no bytes", f'sha-256="{right}"'),
        ("digest_algorithm_not_allowed", "md5", "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"),
    ):
        asked = federated(bare("POST", INVOICES, BODY, JSON, ("Content-Digest", field)))
        yield code, sealed(asked, HMAC), {"name": name}
    yield (
        "audience_mismatch",
        sealed(federated(bare(), instance="globex"), HMAC),
        {"name": "meant for another instance"},
    )
    yield "audience_mismatch", signed_by(bare(), ELSEWHERE), {"name": "the key of another instance"}
    yield (
        "audience_mismatch",
        signed_by(replace(bare(), authority="globex.example"), HMAC),
        {"name": "another host"},
    )
    yield "bad_scope", sealed(federated(bare(), scope="admin"), HMAC), {}
    yield "scope_not_allowed", sealed(federated(bare(), scope="provider"), READER), {}
    yield "org_mismatch", signed_by(bare(), HMAC, org="org-2"), {"name": "not the instance's"}
    yield "org_mismatch", signed_by(bare(), BOUND, org=ORG), {"name": "not the key's"}
    for key in (HMAC, ED25519, LEGACY):
        once = signed_by(bare("POST", INVOICES, BODY), key)
        yield "replayed", once, {"name": f"{key.algorithm}: the same request again", "before": [once]}
    changed = signed_by(bare("POST", INVOICES, b"{}"), HMAC)
    yield "replayed", changed, {"name": "another request with a used nonce", "before": [good]}


def _refused(code: str, request: Request, more: dict[str, Any]) -> dict[str, Any]:
    name = ": ".join(filter(None, (code, more.get("name"))))
    refused = Refused(code)
    told = {"code": code, "status": refused.status, "reason": refused.public_code}
    case: dict[str, Any] = {"name": name, **told, "request": request_fields(request)}
    if "policy" in more:
        case["policy"] = more["policy"]
    if "before" in more:
        case["before"] = [request_fields(before) for before in more["before"]]
    return case


def refusals() -> dict[str, Any]:
    """Requests with one fault each, and the code to refuse them with."""
    faults = [
        *_shape_faults(),
        *_form_faults(),
        *_coverage_faults(),
        *_bad_signatures(),
        *_key_faults(),
        *_content_faults(),
    ]
    keys = [key_fields(key) for key in (HMAC, ED25519, LEGACY, *OTHERS)]
    return {"now": NOW, "policy": POLICY, "keys": keys, "cases": [_refused(*fault) for fault in faults]}
