"""Another implementation of RFC 9421, http-message-signatures, verifies what we sign; we verify what it signs."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, InvalidSignature, algorithms
from http_message_signatures.resolvers import MappingKeyResolver
from nacl.signing import SigningKey

from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Request,
    Response,
    sign,
    sign_response,
    verify,
    verify_response,
)

SEED = bytes(range(1, 33))
HMAC = Key("portal", "hmac-sha256", b"a secret for two implementations")
ED25519 = Key("portal", "ed25519", SEED, bytes(SigningKey(SEED).verify_key))
POLICY = Policy(instance="acme", authorities=("acme.example",))
BODY = '{"note": "Zürich"}'.encode()
COVERED = (
    "@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope", "x-provider-org",
    "idempotency-key", "content-digest", "content-type",
)  # fmt: skip
TARGETS = ["/", "/api/list", "/api/list?limit=5", "/api/search?q=a+b&q=%20%C3%A9&&x=", "/api/caf%C3%A9/?a=1?"]


@dataclass
class Message:
    """What the other library takes for a request."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass
class Answer:
    """What it takes for a response."""

    status_code: int
    headers: dict[str, str]
    request: Message
    url: str = field(default="")


def _options(key: Key) -> dict:
    if key.algorithm == "hmac-sha256":
        keys = {"portal": key.secret}
        return {
            "signature_algorithm": algorithms.HMAC_SHA256,
            "key_resolver": MappingKeyResolver(private_keys=keys, public_keys=keys),
        }
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    resolver = MappingKeyResolver(
        private_keys={"portal": Ed25519PrivateKey.from_private_bytes(key.secret)},
        public_keys={"portal": Ed25519PublicKey.from_public_bytes(key.public_key)},
    )
    return {"signature_algorithm": algorithms.ED25519, "key_resolver": resolver}


def _wall_clock() -> datetime:
    """That library looks at the real clock, so these tests do too."""
    return datetime.now(UTC)  # noqa: TID251  that library cannot be given another clock


def _message(request: Request) -> Message:
    return Message(request.method, f"https://{request.authority}{request.target}", dict(request.headers))


def _ours(key: Key, target: str, body: bytes, now: float) -> Request:
    content = [("Content-Type", "application/json")] if body else []
    bare = Request("POST", target, "acme.example", [*content, ("Idempotency-Key", "k-1")], body)
    headers = sign(bare, key, now=now, instance="acme", org="org-1")
    return Request(bare.method, bare.target, bare.authority, bare.headers + headers, body)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", [b"", BODY], ids=["empty", "body"])
@pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
def test_it_verifies_what_we_sign(key, body, target):
    request = _ours(key, target, body, _wall_clock().timestamp())
    wanted = [name for name in COVERED if body or not name.startswith("content-")]
    verifier = HTTPMessageVerifier(**_options(key))
    message = _message(request)
    (result,) = verifier.verify(
        message, expect_tag="provider-federation-v2", expect_label="pf", require_components=wanted, body=body
    )
    assert result.parameters["keyid"] == "portal"
    message.headers["X-Provider-Scope"] = "read"
    with pytest.raises(InvalidSignature):
        verifier.verify(message, expect_tag="provider-federation-v2", body=body)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", [b"", BODY], ids=["empty", "body"])
@pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
def test_we_verify_what_it_signs(key, body, target):
    now = _wall_clock()
    headers = {
        "Idempotency-Key": "k-1",
        "X-Provider-Instance": "acme",
        "X-Provider-Scope": "read",
        "X-Provider-Org": "org-1",
    }
    if body:
        headers["Content-Type"] = "application/json"
    message = Message("POST", f"https://acme.example{target}", headers)
    HTTPMessageSigner(**_options(key)).sign(
        message, key_id="portal", created=now, expires=now + timedelta(seconds=60), label="pf",
        nonce=base64.urlsafe_b64encode(bytes(range(24))).decode(), tag="provider-federation-v2",
        covered_component_ids=[name for name in COVERED if body or not name.startswith("content-")],
        **({"body": body} if body else {}),
    )  # fmt: skip
    request = Request("POST", target, "acme.example", list(message.headers.items()), body)
    principal = verify(request, Keyring([key]), POLICY, now=now.timestamp(), replay=MemoryReplayStore())
    assert (principal.scope, principal.org, principal.algorithm) == ("read", "org-1", key.algorithm)


@pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
def test_it_verifies_our_answers(key):
    now = _wall_clock().timestamp()
    request = _ours(key, "/api/list?limit=5", BODY, now)
    response = Response(200, [("Content-Type", "application/json")], BODY)
    headers = response.headers + sign_response(response, request, key, now=now)
    (result,) = HTTPMessageVerifier(**_options(key)).verify(
        Answer(200, dict(headers), _message(request)),
        expect_tag="provider-federation-v2-response",
        require_components=("@status", "content-digest", "content-type", '"signature";req;key="pf"'),
        body=BODY,
    )
    assert result.label == "pf-res"


@pytest.mark.parametrize("key", [HMAC, ED25519], ids=lambda key: key.algorithm)
def test_we_verify_its_answers(key):
    now = _wall_clock()
    request = _ours(key, "/api/list?limit=5", b"", now.timestamp())
    answer = Answer(200, {"Content-Type": "application/json"}, _message(request))
    HTTPMessageSigner(**_options(key)).sign(
        answer, key_id="portal", created=now, label="pf-res", tag="provider-federation-v2-response", body=BODY,
        covered_component_ids=("@status", "content-digest", "content-type", '"signature";req;key="pf"'),
    )  # fmt: skip
    response = Response(200, list(answer.headers.items()), BODY)
    assert verify_response(response, request, Keyring([key]), now=now.timestamp()).id == "portal"
