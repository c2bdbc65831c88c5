"""Other libraries beside ours on comparable work: one POST with a query, an idempotency key and a 2 KB JSON body.

    python bench/peers.py [--rounds 9]

Both sides of a pair run in the same round, one after the other; what counts is the median of the rounds' ratios
(theirs / ours: above 1, ours is faster). Keys are loaded beforehand on both sides. `theirs` and `ours` say what an
operation covers and what it leaves to the caller, because no two of these libraries do the same.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import importlib.metadata
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, Policy, Request, sign, verify

BODY = json.dumps({"lines": [{"leadId": f"lead-{number:04d}", "text": "x" * 36} for number in range(29)]})[
    :2048
].encode()
TARGET = "/api/billing/invoices.create?range=d30"
URL = f"https://acme.example{TARGET}"
SECRET = bytes(range(100, 132))
SEED = hashlib.sha256(b"bench: a seed").digest()
CONTENT = [("Content-Type", "application/json"), ("Idempotency-Key", "0b7a7d4e-0f1f-4f9c-9d39-5c2f2b1f9a10")]
NONCE = "q83vEjRWeJq83vEjRWeJqw"
COVERED = (
    "@method", "@authority", "@path", "@query", "x-provider-instance", "x-provider-scope",
    "idempotency-key", "content-digest", "content-type",
)  # fmt: skip
OURS_V2 = "method, host, path, query, audience, scope, idempotency key, body digest; grammar, time, key, audience, scope checked"
OURS_LEGACY = "method, target and time; grammar, time, key, scope checked"


@dataclass(frozen=True)
class Pair:
    """One operation of a library and ours beside it. Both are called without arguments."""

    library: str
    operation: str
    theirs_covers: str
    ours_covers: str
    comparable: bool
    theirs: Callable[[], object]
    ours: Callable[[], object]


_now = time.time  # noqa: TID251  the other libraries read the machine's clock as well


@dataclass(frozen=True)
class Row:
    """Medians in microseconds; `ratio` is the median of the rounds' theirs / ours."""

    library: str
    operation: str
    theirs_covers: str
    ours_covers: str
    comparable: bool
    theirs_us: float
    ours_us: float
    ratio: float


def _public_key() -> bytes:
    import nacl.signing

    return bytes(nacl.signing.SigningKey(SEED).verify_key)


KEYS = {
    "sha256": Key("bench", "sha256", SECRET),
    "hmac-sha256": Key("bench", "hmac-sha256", SECRET),
    "ed25519": Key("bench", "ed25519", SEED, _public_key()),
}


def _ours(algorithm: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our sign and our verify of the same request, without a replay store: the others have none either."""
    key = KEYS[algorithm]
    legacy = algorithm == "sha256"
    bare = Request("POST", TARGET, "acme.example", [("Host", "acme.example"), *CONTENT], BODY)
    options: dict[str, Any] = {} if legacy else {"instance": "acme"}
    headers = [*bare.headers, *sign(bare, key, now=_now(), **options)]
    signed = Request(bare.method, bare.target, bare.authority, headers, BODY)
    keyring, policy = (
        Keyring([key]),
        Policy(instance="acme", authorities=("acme.example",), accept=(algorithm,)),
    )
    return (
        lambda: sign(bare, key, now=_now(), **options),
        lambda: verify(signed, keyring, policy, now=_now()),
    )


def _pem(public: bool) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(SEED)
    if public:
        return private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_objects(algorithm: str) -> tuple[Any, Any]:
    """Private and public key as the other libraries like them best: already loaded."""
    if algorithm != "ed25519":
        return SECRET, SECRET
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(_pem(public=False), None), serialization.load_pem_public_key(
        _pem(public=True)
    )


def _http_message_signatures(algorithm: str) -> Iterator[Pair]:
    from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, algorithms
    from http_message_signatures.resolvers import MappingKeyResolver

    private, public = _key_objects(algorithm)
    resolver = MappingKeyResolver(private_keys={"bench": private}, public_keys={"bench": public})
    chosen = algorithms.HMAC_SHA256 if algorithm == "hmac-sha256" else algorithms.ED25519
    signer = HTTPMessageSigner(signature_algorithm=chosen, key_resolver=resolver)
    verifier = HTTPMessageVerifier(signature_algorithm=chosen, key_resolver=resolver)
    more = [("X-Provider-Instance", "acme"), ("X-Provider-Scope", "provider")]

    def signed() -> Any:
        message = SimpleNamespace(method="POST", url=URL, headers=dict([*CONTENT, *more]))
        now = clock.now()
        signer.sign(
            message, key_id="bench", created=now, expires=now + timedelta(seconds=300), nonce=NONCE, label="pf",
            tag="provider-federation-v2", covered_component_ids=COVERED, body=BODY,
        )  # fmt: skip
        return message

    message = signed()
    covers = (
        "the same components and parameters, body digest; time checked; caller checks audience, scope, replay"
    )
    ours_sign, ours_verify = _ours(algorithm)
    name = "http-message-signatures"
    yield Pair(name, f"sign {algorithm}", covers, OURS_V2, True, signed, ours_sign)
    yield Pair(
        name, f"verify {algorithm}", covers, OURS_V2, True,
        lambda: verifier.verify(message, expect_tag="provider-federation-v2", require_components=COVERED, body=BODY), ours_verify,
    )  # fmt: skip


def _requests_http_signature(algorithm: str) -> Iterator[Pair]:
    import requests
    from http_message_signatures.resolvers import MappingKeyResolver
    from requests_http_signature import HTTPSignatureAuth
    from requests_http_signature import algorithms as known

    private, public = _key_objects(algorithm)
    resolver = MappingKeyResolver(private_keys={"bench": private}, public_keys={"bench": public})
    chosen = known.HMAC_SHA256 if algorithm == "hmac-sha256" else known.ED25519
    auth = HTTPSignatureAuth(
        signature_algorithm=chosen, key_id="bench", key_resolver=resolver, covered_component_ids=COVERED[:7],
        use_nonce=True, expires_in=timedelta(seconds=300), label="pf", tag="provider-federation-v2",
    )  # fmt: skip
    headers = {**dict(CONTENT), "X-Provider-Instance": "acme", "X-Provider-Scope": "provider"}
    prepared = requests.Request("POST", URL, headers=headers, data=BODY).prepare()

    def signed() -> Any:
        return auth(prepared.copy())

    message = signed()
    covers = "the same components, body digest, Date; time checked; caller checks audience, scope, replay"
    ours_sign, ours_verify = _ours(algorithm)
    name = "requests-http-signature"
    yield Pair(name, f"sign {algorithm}", covers, OURS_V2, True, signed, ours_sign)
    yield Pair(
        name, f"verify {algorithm}", covers, OURS_V2, True,
        lambda: HTTPSignatureAuth.verify(
            message, signature_algorithm=chosen, key_resolver=resolver, require_components=COVERED[:7],
            expect_tag="provider-federation-v2"),
        ours_verify,
    )  # fmt: skip


def _botocore() -> Iterator[Pair]:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    auth = SigV4Auth(Credentials("bench", SECRET.hex()), "billing", "eu-central-1")

    def signed() -> object:
        request = AWSRequest("POST", URL, headers=dict(CONTENT), data=BODY)
        auth.add_auth(request)
        return request

    covers = "method, host, path, sorted query, headers, body digest, time (SigV4; four key derivations); has no verifier"
    yield Pair("botocore SigV4", "sign hmac-sha256", covers, OURS_V2, True, signed, _ours("hmac-sha256")[0])


def _mohawk() -> Iterator[Pair]:
    import mohawk

    logging.getLogger("mohawk").setLevel(logging.ERROR)
    credentials = {"id": "bench", "key": SECRET.hex(), "algorithm": "sha256"}
    content: dict[str, Any] = {"content": BODY, "content_type": "application/json"}

    def signed() -> Any:
        return mohawk.Sender(credentials, URL, "POST", **content).request_header

    header = signed()
    covers = "method, host, port, target, body hash, nonce; time checked; scope and audience unknown to it"
    ours_sign, ours_verify = _ours("hmac-sha256")
    yield Pair("mohawk", "sign hmac-sha256", covers, OURS_V2, True, signed, ours_sign)
    yield Pair(
        "mohawk", "verify hmac-sha256", covers, OURS_V2, True,
        lambda: mohawk.Receiver(lambda _: credentials, header, URL, "POST", timestamp_skew_in_seconds=3600, **content),
        ours_verify,
    )  # fmt: skip


def _pyjwt(algorithm: str) -> Iterator[Pair]:
    import jwt

    private, public = _key_objects(algorithm)
    name = "HS256" if algorithm == "hmac-sha256" else "EdDSA"

    def signed() -> str:
        now = int(_now())
        claims = {
            "iss": "bench", "aud": "acme", "iat": now, "exp": now + 300, "jti": NONCE, "scope": "provider", "htm": "POST",
            "htu": URL, "idem": CONTENT[1][1], "digest": base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
        }  # fmt: skip
        return jwt.encode(claims, private, algorithm=name)

    token = signed()
    required = ["exp", "iat", "jti", "aud", "iss"]

    def verified() -> object:
        claims = jwt.decode(
            token, public, algorithms=[name], audience="acme", issuer="bench", options={"require": required}
        )
        if (
            claims["digest"] != base64.b64encode(hashlib.sha256(BODY).digest()).decode()
            or claims["htu"] != URL
        ):
            raise AssertionError
        return claims

    covers = "a token with the same facts as claims, the body's digest added and compared by hand; time, audience checked"
    ours_sign, ours_verify = _ours(algorithm)
    yield Pair("PyJWT", f"sign {name}", covers, OURS_V2, True, signed, ours_sign)
    yield Pair("PyJWT", f"verify {name}", covers, OURS_V2, True, verified, ours_verify)


def _itsdangerous() -> Iterator[Pair]:
    from itsdangerous import TimestampSigner

    signer = TimestampSigner(SECRET, salt="bench", digest_method=hashlib.sha256)
    line = f"POST {TARGET}"
    token = signer.sign(line)
    covers = "method, target and time as one text; time checked; no key id, no scope"
    ours_sign, ours_verify = _ours("sha256")
    yield Pair(
        "itsdangerous", "sign HMAC-SHA256", covers, OURS_LEGACY, True, lambda: signer.sign(line), ours_sign
    )
    yield Pair(
        "itsdangerous", "verify HMAC-SHA256", covers, OURS_LEGACY, True,
        lambda: signer.unsign(token, max_age=300), ours_verify,
    )  # fmt: skip


def _standardwebhooks() -> Iterator[Pair]:
    from standardwebhooks import Webhook

    hook = Webhook(base64.b64encode(SECRET).decode())
    text = BODY.decode()
    now = clock.now()
    headers = {
        "webhook-id": NONCE, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": hook.sign(NONCE, now, text),
    }  # fmt: skip
    covers = "id, time and body only: no method, target, host, scope or key id; time checked"
    ours_sign, ours_verify = _ours("hmac-sha256")
    yield Pair(
        "standardwebhooks", "sign HMAC-SHA256", covers, OURS_V2, False,
        lambda: hook.sign(NONCE, clock.now(), text), ours_sign,
    )  # fmt: skip
    yield Pair(
        "standardwebhooks", "verify HMAC-SHA256", covers, OURS_V2, False,
        lambda: hook.verify(BODY, headers, json_parse=False), ours_verify,
    )  # fmt: skip


def _stripe() -> Iterator[Pair]:
    from stripe import WebhookSignature

    secret = "whsec_" + SECRET.hex()
    header = _stripe_header(WebhookSignature, secret)
    text = BODY.decode()
    covers = "time and body only: no method, target, host, scope or key id; time checked; the event is not parsed here"
    yield Pair(
        "stripe webhook check", "verify HMAC-SHA256", covers, OURS_V2, False,
        lambda: WebhookSignature.verify_header(text, header, secret, 300), _ours("hmac-sha256")[1],
    )  # fmt: skip


def _stripe_header(webhook: Any, secret: str) -> str:
    stamp = int(_now())
    tag = webhook._compute_signature(f"{stamp}.{BODY.decode()}", secret)  # noqa: SLF001  there is no public way
    return f"t={stamp},v1={tag}"


def pairs() -> list[Pair]:
    """Every pair; each is tried once, so that a failure shows before anything is timed."""
    found = [
        *_http_message_signatures("hmac-sha256"), *_http_message_signatures("ed25519"),
        *_requests_http_signature("hmac-sha256"), *_requests_http_signature("ed25519"),
        *_botocore(), *_mohawk(), *_pyjwt("hmac-sha256"), *_pyjwt("ed25519"),
        *_itsdangerous(), *_standardwebhooks(), *_stripe(),
    ]  # fmt: skip
    for pair in found:
        pair.theirs()
        pair.ours()
    return found


def _time(call: Callable[[], object], count: int) -> float:
    """Microseconds per call."""
    started = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - started) / count / 1000


def rows(rounds: int = 9) -> list[Row]:
    """One row per pair, medians of `rounds` interleaved rounds."""
    found = pairs()
    counts = [[max(20, int(8000 / _time(call, 20))) for call in (pair.theirs, pair.ours)] for pair in found]
    samples: list[list[tuple[float, float]]] = [[] for _ in found]
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for pair, (theirs, ours), sample in zip(found, counts, samples, strict=True):
            sample.append((_time(pair.theirs, theirs), _time(pair.ours, ours)))
    gc.unfreeze()
    return [_row(pair, sample) for pair, sample in zip(found, samples, strict=True)]


def _row(pair: Pair, sample: list[tuple[float, float]]) -> Row:
    return Row(
        pair.library, pair.operation, pair.theirs_covers, pair.ours_covers, pair.comparable,
        statistics.median(theirs for theirs, _ in sample), statistics.median(ours for _, ours in sample),
        statistics.median(theirs / ours for theirs, ours in sample),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """The installed version of each library."""
    names = (
        "http-message-signatures", "requests-http-signature", "botocore", "mohawk", "pyjwt", "itsdangerous",
        "standardwebhooks", "stripe", "pynacl", "cryptography",
    )  # fmt: skip
    return {name: importlib.metadata.version(name) for name in names}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    for row in rows(parser.parse_args().rounds):
        less = "" if row.comparable else "   (covers less)"
        print(
            f"{row.library:26} {row.operation:20} {row.theirs_us:9.1f} {row.ours_us:9.1f} {row.ratio:7.2f}{less}"
        )


if __name__ == "__main__":
    main()
