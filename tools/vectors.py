"""The test vectors of v2, for other languages: `tools/vectors.py` writes vectors/{v2,responses,refusals}.json again,
`--check` compares. vectors/README.md explains the fields. Everything is fixed: keys, nonces, the clock.

What a good signer makes comes from `sign` and `sign_response`. What no good signer makes (less coverage, another
order, odd parameters) is put together here, line by line, by the RFC and not by our own code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from provider_federation.protocol import Key, Refused, Request, Response, sign, sign_response

FOLDER = Path(__file__).resolve().parent.parent / "vectors"
NOW = 1_790_000_000
NONCE = "dGVzdC1ub25jZS0wMDAwMDAw"
HOST = "acme.example"
JSON = ("Content-Type", "application/json")
BODY = '{"lines": [{"leadId": "17"}], "note": "Zürich, 5 €"}'.encode()
INVOICES = "/api/billing/invoices.create?range=d30"
INSTANCE, ORG = "acme", "org-1"

# For tests only, and refused at start outside development: a guessable text, and the seeds that RFC 9421 (B.1.4)
# and RFC 8032 (section 7.1, TEST 1 and TEST 2) print.
_SECRET = b"provider-federation-test-secret-1"
_SEEDS = {
    "portal-ed25519": (
        "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=",
        "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=",
    ),
    "instance-ed25519": (
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    ),
    "stranger": (
        "TM0Imyj/ltqdtsNG7BFOD1uKMZ81araksk7fRu+KzPs=",
        "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
    ),
}


def _pair(name: str, **more: Any) -> Key:
    seed, public = (base64.b64decode(text) for text in _SEEDS[name])
    return Key(name, "ed25519", seed, public, **more)


HMAC = Key("portal-hmac", "hmac-sha256", _SECRET, instance=INSTANCE)
ED25519 = _pair("portal-ed25519", instance=INSTANCE)
ANSWERING = _pair("instance-ed25519")
STRANGER = _pair("stranger", instance=INSTANCE)
LEGACY = Key("portal-legacy", "sha256", b"provider-federation-test-secret-2")
OTHERS = (
    Key(
        "portal-reader", "hmac-sha256", b"provider-federation-test-secret-3", scope="read", instance=INSTANCE
    ),
    Key(
        "portal-revoked", "hmac-sha256", b"provider-federation-test-secret-4", instance=INSTANCE, revoked=True
    ),
    Key(
        "portal-later",
        "hmac-sha256",
        b"provider-federation-test-secret-5",
        instance=INSTANCE,
        not_before=NOW + 1,
    ),
    Key(
        "portal-earlier",
        "hmac-sha256",
        b"provider-federation-test-secret-6",
        instance=INSTANCE,
        not_after=NOW - 1,
    ),
    Key("portal-elsewhere", "hmac-sha256", b"provider-federation-test-secret-7", instance="globex"),
    Key("portal-org", "hmac-sha256", b"provider-federation-test-secret-8", instance=INSTANCE, org="org-2"),
)
READER, REVOKED, LATER, EARLIER, ELSEWHERE, BOUND = OTHERS
POLICY = {
    "instance": INSTANCE,
    "org": ORG,
    "authorities": [HOST],
    "accept": ["sha256", "hmac-sha256", "ed25519"],
    "skew": 300,
}


# Writing down


def key_fields(key: Key) -> dict[str, Any]:
    """A key as the files write it; what has its default is left out."""
    fields: dict[str, Any] = {"id": key.id, "algorithm": key.algorithm, "scope": key.scope}
    fields["secret_base64"] = base64.b64encode(key.secret).decode()
    if key.public_key:
        fields["public_key_base64"] = base64.b64encode(key.public_key).decode()
    optional = {
        name: getattr(key, name) for name in ("instance", "org", "not_before", "not_after", "revoked")
    }
    return fields | {name: value for name, value in optional.items() if value}


def _request_fields(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": request.target,
        "authority": request.authority,
        "headers": [list(pair) for pair in request.headers],
        "body_base64": base64.b64encode(request.body).decode(),
    }


def _response_fields(response: Response) -> dict[str, Any]:
    return {
        "status": response.status,
        "headers": [list(pair) for pair in response.headers],
        "body_base64": base64.b64encode(response.body).decode(),
    }


# Making by hand what `sign` does not


def _bare(
    method: str = "GET",
    target: str = "/api/billing/list?limit=5",
    body: bytes = b"",
    *headers: tuple[str, str],
) -> Request:
    content = [JSON] if body and not any(name == "Content-Type" for name, _ in headers) else []
    return Request(method, target, HOST, [*content, *headers], body)


def _tag(key: Key, base: bytes) -> bytes:
    if key.algorithm == "hmac-sha256":
        return hmac.digest(key.secret, base, "sha256")
    import nacl.signing

    return nacl.signing.SigningKey(key.secret).sign(base).signature


def _value(name: str, request: Request) -> str:
    path, _, query = request.target.partition("?")
    derived = {"@method": request.method, "@path": path, "@query": f"?{query}", "@authority": request.authority.lower(),
               "@request-target": request.target, "@target-uri": f"https://{request.authority}{request.target}"}  # fmt: skip
    return derived.get(name) or ", ".join(value for given, value in request.headers if given.lower() == name)


def base_of(request: Request, names: list[str], parameters: str) -> str:
    """The signature base of RFC 9421, section 2.5."""
    lines = [f"{name}: {_value(name.split(chr(34))[1], request)}" for name in names]
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


def _federated(
    request: Request, *, scope: str | None = "provider", instance: str = INSTANCE, org: str | None = None
) -> Request:
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    named = {"X-Provider-Instance": instance, "X-Provider-Scope": scope, "X-Provider-Org": org}
    if request.body and not any(name == "Content-Digest" for name, _ in request.headers):
        named["Content-Digest"] = f"sha-256=:{digest}:"
    return replace(
        request,
        headers=request.headers + [(name, value) for name, value in named.items() if value is not None],
    )


def _names(request: Request) -> list[str]:
    names = ["@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope"]
    names += ["x-provider-org", "idempotency-key", "content-digest"]
    sent = {name.lower() for name, _ in request.headers}
    names = [name for name in names if name.startswith("@") or name in sent]
    return [f'"{name}"' for name in [*names, *(["content-type"] if request.body else [])]]


def _sealed(
    request: Request,
    key: Key,
    *,
    names: list[str] | None = None,
    label: str = "pf",
    quoted: bool = False,
    **changed: int | str | None,
) -> Request:
    """`request` signed by hand: `names` are the components as written, `changed` parameters (None leaves one out)."""
    names = _names(request) if names is None else names
    given: dict[str, int | str | None] = {
        "created": NOW, "expires": NOW + 300, "nonce": NONCE, "keyid": key.id, "alg": key.algorithm,
        "tag": "provider-federation-v2",
    } | changed  # fmt: skip
    written = [
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"
        for name, value in given.items()
        if value is not None
    ]
    parameters = ";".join([f"({' '.join(names)})", *written])
    tag = base64.b64encode(_tag(key, base_of(request, names, parameters).encode())).decode()
    signature = f'{label}="{tag}"' if quoted else f"{label}=:{tag}:"
    return replace(
        request,
        headers=[*request.headers, ("Signature-Input", f"{label}={parameters}"), ("Signature", signature)],
    )


def _signed(request: Request, key: Key, *, now: float = NOW, nonce: str = NONCE, **more: Any) -> Request:
    more = more if key.algorithm in {"h31", "sha256"} else {"instance": INSTANCE, "nonce": nonce, **more}
    return replace(request, headers=request.headers + sign(request, key, now=now, **more))


def _header(request: Request | Response, name: str) -> str:
    return next(value for given, value in request.headers if given.lower() == name)


def _base(request: Request) -> str:
    parameters = _header(request, "signature-input").partition("=")[2]
    return base_of(request, parameters[1 : parameters.index(")")].split(" "), parameters)


def _with(request: Request, name: str, value: str | None) -> Request:
    """The header `name` replaced in its place; None takes it away."""
    headers = [
        (given, old if given.lower() != name.lower() else value)
        for given, old in request.headers
        if given.lower() != name.lower() or value is not None
    ]
    return replace(request, headers=headers)


def _plus(request: Request, *headers: tuple[str, str]) -> Request:
    return replace(request, headers=[*request.headers, *headers])


# v2.json: what must be accepted


def _shapes() -> Iterator[tuple[str, Request, dict[str, Any]]]:
    """Name, request before it is signed, options of `sign`."""
    idempotent = ("Idempotency-Key", "0b7a7d4e-0f1f-4f9c-9d39-5c2f2b1f9a10")
    yield "read", _bare("GET", "/api/billing/list"), {"scope": "read"}
    yield "read with a query", _bare(), {"scope": "read"}
    yield "write with a body", _bare("POST", INVOICES, BODY), {}
    yield "write without a body", _bare("POST", INVOICES), {}
    yield "org", _bare(), {"org": ORG}
    yield "idempotency key", _bare("POST", INVOICES, BODY, idempotent), {}
    yield "everything", _bare("POST", INVOICES, BODY, idempotent), {"org": ORG}
    yield (
        "body of bytes",
        _bare("PUT", "/api/files/1", bytes(range(256)), ("Content-Type", "application/octet-stream")),
        {},
    )
    sha512 = base64.b64encode(hashlib.sha512(BODY).digest()).decode()
    yield "sha-512 digest", _bare("POST", INVOICES, BODY, JSON, ("Content-Digest", f"sha-512=:{sha512}:")), {}
    yield "empty query", _bare("GET", "/api/billing/list?"), {}
    yield "root", _bare("GET", "/"), {}
    yield "slash at the end", _bare("DELETE", "/api/items/17/"), {}
    for name, query in {
        "name twice": "x=1&x=2", "plus": "q=a+b", "escaped space": "q=a%20b", "question mark at the end": "q=1?",
        "empty parts": "&&a=&=b&", "unicode, escaped": "q=caf%C3%A9%20%E2%82%AC%20%F0%9F%92%B6", "lower-case escapes": "q=%e2%82%ac",
        "slash and colon": "next=/a//../b:c@d", "escaped slash": "next=%2Fa%2F..%2Fb",
    }.items():  # fmt: skip
        yield f"query: {name}", _bare("GET", f"/api/search?{query}"), {}
    yield "path: unicode, escaped", _bare("GET", "/api/caf%C3%A9/%E2%82%AC"), {}
    yield "host in capitals with a port", replace(_bare(), authority="ACME.example:8443"), {}
    yield "host with the default port", replace(_bare(), authority="acme.example:443"), {}


def _accepted(name: str, request: Request, key: Key, options: dict[str, Any] | None) -> dict[str, Any]:
    signed = _signed(request, key, **options) if options is not None else request
    added = signed.headers[len(request.headers) :] if options is not None else []
    return {
        "name": f"{key.algorithm}: {name}",
        "key": key.id,
        **(
            {}
            if options is None
            else {"sign": {"scope": "provider", "org": None, **options, "instance": INSTANCE, "nonce": NONCE}}
        ),
        "request": _request_fields(request),
        "added": [list(pair) for pair in added],
        "signature_base": _base(_normal(signed)),
    }


def _normal(request: Request) -> Request:
    return replace(request, authority=request.authority.removesuffix(":443"))


def v2() -> dict[str, Any]:
    """Requests and what a signer adds to them."""
    cases = [
        _accepted(name, request, key, options)
        for key in (HMAC, ED25519)
        for name, request, options in _shapes()
    ]
    for key in (HMAC, ED25519):
        whole = _federated(_bare("POST", INVOICES, BODY, ("Date", "Mon, 21 Sep 2026 14:13:20 GMT")))
        cases.append(_accepted("any order", _sealed(whole, key, names=_names(whole)[::-1]), key, None))
        cases.append(
            _accepted("more coverage", _sealed(whole, key, names=[*_names(whole), '"date"']), key, None)
        )
    policy = POLICY | {"authorities": [HOST, "acme.example:8443"]}
    return {
        "scheme": "v2",
        "now": NOW,
        "policy": policy,
        "keys": [key_fields(HMAC), key_fields(ED25519)],
        "cases": cases,
    }


# responses.json


def _answer(status: int, content: dict[str, Any]) -> Response:
    return Response(status, [JSON], json.dumps(content).encode())


def _signed_answer(response: Response, request: Request, key: Key, now: float = NOW) -> Response:
    return replace(response, headers=response.headers + sign_response(response, request, key, now=now))


def _response_base(response: Response, request: Request) -> str:
    parameters = _header(response, "signature-input").partition("=")[2]
    bound = _header(request, "signature").partition("=")[2]
    return "\n".join([
        f'"@status": {response.status}', f'"content-digest": {_header(response, "content-digest")}',
        f'"content-type": {_header(response, "content-type")}', f'"signature";req;key="pf": {bound}',
        f'"@signature-params": {parameters}',
    ])  # fmt: skip


def _answers() -> Iterator[tuple[str, Request, Response, str | None]]:
    """Name, request, response as it arrives, and the code to refuse it with."""
    ok = _answer(200, {"ok": True, "items": []})
    late = _answer(
        401,
        {
            "ok": False,
            "error": "The timestamp is too far from this server's clock.",
            "reason": "timestamp_out_of_window",
        },
    )
    for key, answering in ((HMAC, HMAC), (ED25519, ANSWERING)):
        name = key.algorithm
        request = _signed(_bare("POST", INVOICES, BODY), key)
        other = _signed(_bare("POST", INVOICES, BODY), key, nonce=NONCE[::-1])
        early = _signed(_bare("POST", INVOICES, BODY), key, now=NOW - 3600)
        good = _signed_answer(ok, request, answering)
        yield f"{name}: good", request, good, None
        yield (
            f"{name}: good, empty",
            request,
            _signed_answer(replace(ok, status=204, body=b""), request, answering),
            None,
        )
        yield (
            f"{name}: signed refusal of a request that came late",
            early,
            _signed_answer(late, early, answering),
            None,
        )
        yield f"{name}: the answer to another request", other, good, "bad_signature"
        yield f"{name}: body changed", request, replace(good, body=good.body + b" "), "digest_mismatch"
        yield f"{name}: status changed", request, replace(good, status=201), "bad_signature"
        yield (
            f"{name}: content type changed",
            request,
            _answer_with(good, "Content-Type", "text/html"),
            "bad_signature",
        )
        yield f"{name}: not signed", request, ok, "missing_headers"
        yield (
            f"{name}: signed an hour ago",
            request,
            _signed_answer(ok, request, answering, NOW - 3600),
            "timestamp_out_of_window",
        )
    yield "signed by a stranger", request, _signed_answer(ok, request, STRANGER), "unknown_key"
    cut = _answer_with(
        good, "Signature-Input", _header(good, "signature-input").replace(' "content-type"', "")
    )
    yield "less coverage", request, cut, "insufficient_coverage"


def _answer_with(response: Response, name: str, value: str) -> Response:
    return replace(
        response, headers=[(given, value if given == name else old) for given, old in response.headers]
    )


def responses() -> dict[str, Any]:
    """Answers, the requests that they answer, and what a portal makes of them."""
    cases = [
        {
            "name": name,
            "request": _request_fields(request),
            "response": _response_fields(response),
            "code": code,
            **({"signature_base": _response_base(response, request)} if code is None else {}),
        }
        for name, request, response, code in _answers()
    ]
    return {
        "scheme": "v2",
        "now": NOW,
        "skew": 300,
        "keys": [key_fields(HMAC), key_fields(ANSWERING)],
        "cases": cases,
    }


# refusals.json: one fault each


Case = tuple[str, Request, dict[str, Any]]
"""Code, request, and what is special: `policy` fields, `before` (requests that were accepted before this one)."""


def _shape_faults() -> Iterator[Case]:
    good = _signed(_bare("POST", INVOICES, BODY), HMAC)
    for name in ("Signature", "Signature-Input", "X-Provider-Instance", "X-Provider-Scope"):
        yield "missing_headers", _with(good, name, None), {"name": f"without {name}"}
    for name in ("X-Provider-Scope", "Content-Digest", "Signature-Input", "Signature"):
        yield "duplicate_header", _plus(good, (name, _header(good, name.lower()))), {"name": f"{name} twice"}
    yield "malformed_header", _with(good, "X-Provider-Scope", "provider\t"), {"name": "a tab in a value"}
    yield "malformed_header", _sealed(_federated(_bare()), HMAC, keyid="a,b"), {"name": "a comma in a key id"}
    yield "headers_too_large", _plus(good, ("X-Long", "x" * 9000)), {"name": "a header of 9,000 bytes"}
    yield "headers_too_large", _plus(good, *[("X-Many", "x")] * 100), {"name": "more than 100 headers"}
    yield "bad_framing", _plus(good, ("Host", HOST), ("Host", "globex.example")), {"name": "two hosts"}
    yield "bad_method", replace(good, method="post"), {}
    yield "bad_target", replace(good, target="/api/%zz"), {}
    for target in ("/api//list", "/api/../list", "/api/%2e%2e/list", "/api/a%2Fb", "/api/a;b", "/api/%7Eme"):
        yield "non_canonical_target", _sealed(_federated(_bare("GET", target)), HMAC), {"name": target}
    yield "body_too_large", good, {"policy": {"max_body": 10}}
    yield "content_encoding_not_allowed", _plus(good, ("Content-Encoding", "gzip")), {}
    yield (
        "ambiguous_auth",
        _plus(good, *_signed(_bare("POST", INVOICES, BODY), LEGACY).headers[1:4]),
        {"name": "both schemes"},
    )
    twice = _with(
        good, "Signature-Input", f"{_header(good, 'signature-input')}, x{_header(good, 'signature-input')}"
    )
    twice = _with(twice, "Signature", f"{_header(good, 'signature')}, x{_header(good, 'signature')}")
    yield "ambiguous_auth", twice, {"name": "two signatures"}


def _signature_faults() -> Iterator[Case]:
    good = _signed(_bare("POST", INVOICES, BODY), HMAC)
    whole = _federated(_bare("POST", INVOICES, BODY))
    text = _header(good, "signature-input")
    for name, odd in {
        "no list": "pf=1", "not closed": text.replace(")", "", 1), "component twice": text.replace("(", '("@path" ', 1),
        "component in capitals": text.replace('"@path"', '"@Path"'), "parameter twice": text + ";created=1",
        "created is a string": text.replace(f"created={NOW}", f'created="{NOW}"'), "created is a decimal": text.replace(f"created={NOW}", f"created={NOW}.0"),
        "created of 2^63": text.replace(f"created={NOW}", f"created={2**63}"), "negative created": text.replace(f"created={NOW}", "created=-1"),
        "two spaces": text.replace('" "', '"  "', 1),
    }.items():  # fmt: skip
        yield "malformed_signature_input", _with(good, "Signature-Input", odd), {"name": name}
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
            _sealed(whole, HMAC, names=[*_names(whole), name]),
            {"name": f"covers {name}"},
        )
    yield "malformed_signature_input", _sealed(whole, HMAC, tag=None), {"name": "without tag"}
    yield "malformed_signature_input", _sealed(whole, HMAC, tag="another"), {"name": "another tag"}
    yield "malformed_signature_input", _sealed(whole, HMAC, alg=None), {"name": "without alg"}
    yield "malformed_signature_input", _sealed(whole, HMAC, label="sig1"), {"name": "another label"}
    yield "malformed_signature", _sealed(whole, HMAC, quoted=True), {"name": "a string"}
    yield (
        "malformed_signature",
        _with(good, "Signature", _header(good, "signature").replace("=:", "=:*", 1)),
        {"name": "no base64"},
    )
    yield (
        "malformed_signature",
        _with(good, "Signature", "x" + _header(good, "signature")),
        {"name": "label differs"},
    )
    for name in _names(whole):
        less = [other for other in _names(whole) if other != name]
        yield "insufficient_coverage", _sealed(whole, HMAC, names=less), {"name": f"without {name}"}
    yield "insufficient_coverage", _sealed(whole, HMAC, names=[]), {"name": "nothing covered"}
    asked = _federated(_bare("POST", INVOICES, BODY, ("Idempotency-Key", "k-1")), org=ORG)
    for name in ('"idempotency-key"', '"x-provider-org"'):
        less = [other for other in _names(asked) if other != name]
        yield "insufficient_coverage", _sealed(asked, HMAC, names=less), {"name": f"{name} sent, not covered"}
    for key in (HMAC, ED25519):
        signed = _signed(_bare("POST", INVOICES, BODY), key)
        tag = bytearray(base64.b64decode(_header(signed, "signature").split(":")[1]))
        tag[5] ^= 1
        flipped = f"pf=:{base64.b64encode(tag).decode()}:"
        yield (
            "bad_signature",
            _with(signed, "Signature", flipped),
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
            _with(signed, "X-Provider-Scope", "read"),
            {"name": f"{key.algorithm}: another scope"},
        )
        yield (
            "bad_signature",
            _with(signed, "Signature", "pf=:AAAA:"),
            {"name": f"{key.algorithm}: a short signature"},
        )
    swapped = Key("portal-ed25519", "hmac-sha256", ED25519.public_key)
    yield (
        "bad_signature",
        _sealed(whole, swapped, alg="ed25519"),
        {"name": "HMAC keyed with the ed25519 public key"},
    )


def _key_faults() -> Iterator[Case]:
    yield "unknown_key", _signed(_bare(), replace(HMAC, id="nobody")), {}
    yield "revoked_key", _signed(_bare(), REVOKED), {}
    yield "key_not_yet_valid", _signed(_bare(), LATER), {}
    yield "expired_key", _signed(_bare(), EARLIER), {}
    other = _sealed(_federated(_bare()), HMAC, alg="ed25519")
    yield "algorithm_not_allowed", other, {"name": "names another algorithm than the key's"}
    yield (
        "algorithm_not_allowed",
        _signed(_bare(), HMAC),
        {"name": "not accepted here", "policy": {"accept": ["ed25519"]}},
    )
    yield (
        "downgrade_refused",
        _signed(_bare(), LEGACY),
        {"name": "legacy is over", "policy": {"legacy_until": NOW}},
    )
    yield (
        "downgrade_refused",
        _signed(_bare(), LEGACY),
        {"name": "the pair has used v2", "before": [_signed(_bare(), HMAC)]},
    )
    yield (
        "bad_timestamp",
        _with(_signed(_bare(), LEGACY), "X-Provider-Timestamp", "2026-09-21 14:13:20.000Z"),
        {},
    )
    for key, drift in ((HMAC, -301), (ED25519, 301), (LEGACY, -301)):
        yield (
            "timestamp_out_of_window",
            _signed(_bare(), key, now=NOW + drift),
            {"name": f"{key.algorithm}: {drift:+d} s"},
        )
    for name, expires in {"not after created": NOW, "301 seconds after": NOW + 301, "absent": None}.items():
        yield "bad_expires", _sealed(_federated(_bare()), HMAC, expires=expires), {"name": name}
    yield (
        "bad_expires",
        _sealed(_federated(_bare()), HMAC, created=NOW - 100, expires=NOW - 1),
        {"name": "over"},
    )
    for name, nonce in {
        "absent": None,
        "empty": "",
        "short": "A" * 21,
        "long": "A" * 200,
        "odd": "!" * 22,
    }.items():
        yield "bad_nonce", _sealed(_federated(_bare()), HMAC, nonce=nonce), {"name": name}


def _content_faults() -> Iterator[Case]:
    good = _signed(_bare("POST", INVOICES, BODY), HMAC)
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
        asked = _federated(_bare("POST", INVOICES, BODY, JSON, ("Content-Digest", field)))
        yield code, _sealed(asked, HMAC), {"name": name}
    yield (
        "audience_mismatch",
        _sealed(_federated(_bare(), instance="globex"), HMAC),
        {"name": "meant for another instance"},
    )
    yield "audience_mismatch", _signed(_bare(), ELSEWHERE), {"name": "the key of another instance"}
    yield (
        "audience_mismatch",
        _signed(replace(_bare(), authority="globex.example"), HMAC),
        {"name": "another host"},
    )
    yield "bad_scope", _sealed(_federated(_bare(), scope="admin"), HMAC), {}
    yield "scope_not_allowed", _sealed(_federated(_bare(), scope="provider"), READER), {}
    yield "org_mismatch", _signed(_bare(), HMAC, org="org-2"), {"name": "not the instance's"}
    yield "org_mismatch", _signed(_bare(), BOUND, org=ORG), {"name": "not the key's"}
    for key in (HMAC, ED25519, LEGACY):
        once = _signed(_bare("POST", INVOICES, BODY), key)
        yield "replayed", once, {"name": f"{key.algorithm}: the same request again", "before": [once]}
    changed = _signed(_bare("POST", INVOICES, b"{}"), HMAC)
    yield "replayed", changed, {"name": "another request with a used nonce", "before": [good]}


def _refused(code: str, request: Request, more: dict[str, Any]) -> dict[str, Any]:
    name = ": ".join(filter(None, (code, more.get("name"))))
    refused = Refused(code)
    told = {"code": code, "status": refused.status, "reason": refused.public_code}
    case: dict[str, Any] = {"name": name, **told, "request": _request_fields(request)}
    if "policy" in more:
        case["policy"] = more["policy"]
    if "before" in more:
        case["before"] = [_request_fields(before) for before in more["before"]]
    return case


def refusals() -> dict[str, Any]:
    """Requests with one fault each, and the code to refuse them with."""
    faults = [*_shape_faults(), *_signature_faults(), *_key_faults(), *_content_faults()]
    keys = [key_fields(key) for key in (HMAC, ED25519, LEGACY, *OTHERS)]
    return {"now": NOW, "policy": POLICY, "keys": keys, "cases": [_refused(*fault) for fault in faults]}


FILES = {"v2.json": v2, "responses.json": responses, "refusals.json": refusals}


def text_of(name: str) -> str:
    """What the file of that name has to hold."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    stale = [
        name for name in FILES if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text_of(name)
    ]
    if "--check" not in arguments:
        for name in stale:
            (FOLDER / name).write_text(text_of(name))
    print(f"vectors: {', '.join(stale) or 'none'} {'differ' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
