"""What the vectors are made of: fixed keys and clock, and requests put together line by line, as no good signer
would (less coverage, another order, odd parameters), by the RFC and not by our own code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from typing import Any

from provider_federation.protocol import Key, Request, Response, sign

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


def request_fields(request: Request) -> dict[str, Any]:
    """A request as the files write it."""
    return {
        "method": request.method,
        "target": request.target,
        "authority": request.authority,
        "headers": [list(pair) for pair in request.headers],
        "body_base64": base64.b64encode(request.body).decode(),
    }


def response_fields(response: Response) -> dict[str, Any]:
    """A response as the files write it."""
    return {
        "status": response.status,
        "headers": [list(pair) for pair in response.headers],
        "body_base64": base64.b64encode(response.body).decode(),
    }


# Making by hand what `sign` does not


def bare(
    method: str = "GET",
    target: str = "/api/billing/list?limit=5",
    body: bytes = b"",
    *headers: tuple[str, str],
) -> Request:
    """A request before it is signed."""
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


def federated(
    request: Request, *, scope: str | None = "provider", instance: str = INSTANCE, org: str | None = None
) -> Request:
    """The headers of v2, but for the signature, added."""
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    named = {"X-Provider-Instance": instance, "X-Provider-Scope": scope, "X-Provider-Org": org}
    if request.body and not any(name == "Content-Digest" for name, _ in request.headers):
        named["Content-Digest"] = f"sha-256=:{digest}:"
    return replace(
        request,
        headers=request.headers + [(name, value) for name, value in named.items() if value is not None],
    )


def names_of(request: Request) -> list[str]:
    """The components that v2 asks for, as written."""
    names = ["@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope"]
    names += ["x-provider-org", "idempotency-key", "content-digest"]
    sent = {name.lower() for name, _ in request.headers}
    names = [name for name in names if name.startswith("@") or name in sent]
    return [f'"{name}"' for name in [*names, *(["content-type"] if request.body else [])]]


def sealed(
    request: Request,
    key: Key,
    *,
    names: list[str] | None = None,
    label: str = "pf",
    quoted: bool = False,
    **changed: int | str | None,
) -> Request:
    """`request` signed by hand: `names` are the components as written, `changed` parameters (None leaves one out)."""
    names = names_of(request) if names is None else names
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


def signed_by(request: Request, key: Key, *, now: float = NOW, nonce: str = NONCE, **more: Any) -> Request:
    """`request` signed by `sign`."""
    more = more if key.algorithm in {"h31", "sha256"} else {"instance": INSTANCE, "nonce": nonce, **more}
    return replace(request, headers=request.headers + sign(request, key, now=now, **more))


def header_of(request: Request | Response, name: str) -> str:
    """The value of a header, by its lower-case name."""
    return next(value for given, value in request.headers if given.lower() == name)


def base_as_signed(request: Request) -> str:
    """The signature base of a signed request."""
    parameters = header_of(request, "signature-input").partition("=")[2]
    return base_of(request, parameters[1 : parameters.index(")")].split(" "), parameters)


def with_header(request: Request, name: str, value: str | None) -> Request:
    """The header `name` replaced in its place; None takes it away."""
    headers = [
        (given, old if given.lower() != name.lower() else value)
        for given, old in request.headers
        if given.lower() != name.lower() or value is not None
    ]
    return replace(request, headers=headers)


def plus_headers(request: Request, *headers: tuple[str, str]) -> Request:
    """More headers at the end."""
    return replace(request, headers=[*request.headers, *headers])
