"""The two readers of headers, and the two ways to an answer, say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider_federation.protocol import (
    Key,
    Keyring,
    Policy,
    Request,
    Response,
    sign,
    verify_response,
)
from provider_federation.protocol.fields import content_digest
from provider_federation.protocol.responses import asked_by, sign_bytes, sign_response
from provider_federation.protocol.shapes import read_fields

NOW = 1_790_000_000.0
HMAC = Key("hmac", "hmac-sha256", b"a secret of 32 bytes for v2 ....")
POLICY = Policy(instance="acme", max_headers=8, max_header=64)
NAMES = ["host", "Host", "signature", "X-Provider-Scope", "content-length", "transfer-encoding", "forwarded",
         "x-real-ip", "cookie", "x" * 257, "x-\xe9"]  # fmt: skip

pairs = st.lists(
    st.tuples(st.sampled_from(NAMES), st.text(st.characters(max_codepoint=255), max_size=70)), max_size=10
)


@given(pairs)
def test_headers_as_bytes_are_read_as_headers_or_not_at_all(headers) -> None:
    fields = {name.encode("latin-1"): value.encode("latin-1") for name, value in headers}
    try:
        read = read_fields(fields, len(headers), POLICY)
    except ValueError:
        many = len(headers) > 8 or len({name for name, _ in headers}) < len(headers) or not headers
        assert (
            many
            or sum(len(value) + 1 for _, value in headers) > 64
            or any("\n" in value for _, value in headers)
        )
    else:
        assert list(read.items()) == headers


def test_signing_bytes_signs_the_same_answer() -> None:
    bare = Request("POST", "/a", "acme.example", [("Host", "acme.example")], b"")
    request = Request(
        "POST", "/a", "acme.example", bare.headers + sign(bare, HMAC, now=NOW, instance="acme"), b""
    )
    for status, body in ((200, b"{}"), (404, b""), (599, b"x" * 5000)):
        answer = Response(status, [("Content-Type", "application/json")], body)
        digest = content_digest(body)
        field, signature = sign_bytes(
            status, digest.encode(), b"application/json", asked_by(request).encode(), HMAC, now=NOW
        )
        added = [
            ("Content-Digest", digest),
            ("Signature-Input", field.decode()),
            ("Signature", signature.decode()),
        ]
        assert sign_response(answer, request, HMAC, now=NOW) == added
        answer.headers.extend(added)
        assert verify_response(answer, request, Keyring([HMAC]), now=NOW) == HMAC
