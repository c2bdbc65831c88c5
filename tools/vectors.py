"""The test vectors of v2, for other languages: `python -m tools.vectors` writes vectors/{v2,responses,refusals}.json
again, `--check` compares. vectors/README.md explains the fields. Everything is fixed: keys, nonces, the clock.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.vector_making import (
    ANSWERING,
    BODY,
    ED25519,
    HMAC,
    HOST,
    INSTANCE,
    INVOICES,
    JSON,
    NONCE,
    NOW,
    ORG,
    POLICY,
    STRANGER,
    bare,
    base_as_signed,
    federated,
    header_of,
    key_fields,
    names_of,
    request_fields,
    response_fields,
    sealed,
    signed_by,
)
from tools.vector_refusals import refusals

from provider_federation.protocol import Key, Request, Response, sign_response

FOLDER = Path(__file__).resolve().parent.parent / "vectors"

# v2.json: what must be accepted


def _shapes() -> Iterator[tuple[str, Request, dict[str, Any]]]:
    """Name, request before it is signed, options of `sign`."""
    idempotent = ("Idempotency-Key", "0b7a7d4e-0f1f-4f9c-9d39-5c2f2b1f9a10")
    yield "read", bare("GET", "/api/billing/list"), {"scope": "read"}
    yield "read with a query", bare(), {"scope": "read"}
    yield "write with a body", bare("POST", INVOICES, BODY), {}
    yield "write without a body", bare("POST", INVOICES), {}
    yield "org", bare(), {"org": ORG}
    yield "idempotency key", bare("POST", INVOICES, BODY, idempotent), {}
    yield "everything", bare("POST", INVOICES, BODY, idempotent), {"org": ORG}
    yield (
        "body of bytes",
        bare("PUT", "/api/files/1", bytes(range(256)), ("Content-Type", "application/octet-stream")),
        {},
    )
    sha512 = base64.b64encode(hashlib.sha512(BODY).digest()).decode()
    yield "sha-512 digest", bare("POST", INVOICES, BODY, JSON, ("Content-Digest", f"sha-512=:{sha512}:")), {}
    yield "empty query", bare("GET", "/api/billing/list?"), {}
    yield "root", bare("GET", "/"), {}
    yield "slash at the end", bare("DELETE", "/api/items/17/"), {}
    for name, query in {
        "name twice": "x=1&x=2", "plus": "q=a+b", "escaped space": "q=a%20b", "question mark at the end": "q=1?",
        "empty parts": "&&a=&=b&", "unicode, escaped": "q=caf%C3%A9%20%E2%82%AC%20%F0%9F%92%B6", "lower-case escapes": "q=%e2%82%ac",
        "slash and colon": "next=/a//../b:c@d", "escaped slash": "next=%2Fa%2F..%2Fb",
    }.items():  # fmt: skip
        yield f"query: {name}", bare("GET", f"/api/search?{query}"), {}
    yield "path: unicode, escaped", bare("GET", "/api/caf%C3%A9/%E2%82%AC"), {}
    yield "host in capitals with a port", replace(bare(), authority="ACME.example:8443"), {}
    yield "host with the default port", replace(bare(), authority="acme.example:443"), {}


def _accepted(name: str, request: Request, key: Key, options: dict[str, Any] | None) -> dict[str, Any]:
    signed = signed_by(request, key, **options) if options is not None else request
    added = signed.headers[len(request.headers) :] if options is not None else []
    return {
        "name": f"{key.algorithm}: {name}",
        "key": key.id,
        **(
            {}
            if options is None
            else {"sign": {"scope": "provider", "org": None, **options, "instance": INSTANCE, "nonce": NONCE}}
        ),
        "request": request_fields(request),
        "added": [list(pair) for pair in added],
        "signature_base": base_as_signed(_normal(signed)),
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
        whole = federated(bare("POST", INVOICES, BODY, ("Date", "Mon, 21 Sep 2026 14:13:20 GMT")))
        cases.append(_accepted("any order", sealed(whole, key, names=names_of(whole)[::-1]), key, None))
        cases.append(
            _accepted("more coverage", sealed(whole, key, names=[*names_of(whole), '"date"']), key, None)
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
    parameters = header_of(response, "signature-input").partition("=")[2]
    bound = header_of(request, "signature").partition("=")[2]
    return "\n".join([
        f'"@status": {response.status}', f'"content-digest": {header_of(response, "content-digest")}',
        f'"content-type": {header_of(response, "content-type")}', f'"signature";req;key="pf": {bound}',
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
        request = signed_by(bare("POST", INVOICES, BODY), key)
        other = signed_by(bare("POST", INVOICES, BODY), key, nonce=NONCE[::-1])
        early = signed_by(bare("POST", INVOICES, BODY), key, now=NOW - 3600)
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
        good, "Signature-Input", header_of(good, "signature-input").replace(' "content-type"', "")
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
            "request": request_fields(request),
            "response": response_fields(response),
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
