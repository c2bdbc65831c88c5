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
from provider_federation.protocol.grammar import FORWARDED, read_headers
from provider_federation.protocol.responses import asked_by, sign_bytes, sign_response
from provider_federation.protocol.shapes import SAID, SHAPES, read_fields

NOW = 1_790_000_000.0
HMAC = Key("hmac", "hmac-sha256", b"a secret of 32 bytes for v2 ....")
POLICY = Policy(instance="acme", max_headers=8, max_header=64)
NAMES = ["host", "Host", "signature", "X-Provider-Scope", "content-length", "transfer-encoding", "forwarded",
         "x-real-ip", "cookie", "x" * 257, "x-\xe9"]  # fmt: skip

texts = st.text(st.characters(max_codepoint=255), max_size=12)
signatures = st.sampled_from(
    [["signature", "signature-input"], ["X-Provider-KeyId", "x-provider-timestamp", "x-provider-signature"]]
)


@st.composite
def heads(draw) -> list[tuple[str, str]]:
    """The names of a signature, mostly all of them, among others."""
    names = [*draw(signatures), *draw(st.lists(st.sampled_from(NAMES), max_size=4))]
    if draw(st.integers(0, 5)) == 0:
        del names[0]
    return [(name, draw(texts)) for name in draw(st.permutations(names))]


@given(heads())
def test_headers_as_bytes_are_read_as_headers_or_not_at_all(headers) -> None:
    fields = {name.encode("latin-1"): value.encode("latin-1") for name, value in headers}
    many = len(headers) > POLICY.max_headers or len(fields) < len(headers)
    long = sum(len(value) + 1 for _, value in headers) > POLICY.max_header
    try:
        shape, values = read_fields(fields, len(headers), POLICY)
    except ValueError:
        is_unclear = not SHAPES[tuple(dict(headers))].names
        assert many or long or is_unclear or any("\n" in value for _, value in headers)
    else:
        assert not many
        read = read_headers(Request("GET", "/a", "acme.example", headers, b""), POLICY)
        assert dict(zip(shape.names, values, strict=True)) == {name: read[name] for name in shape.names}
        assert values == shape.pick(dict(headers))
        assert values[shape.said] == tuple(read[name] for name in SAID if name in read)
        assert shape.is_forwarded == (FORWARDED in read)


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
