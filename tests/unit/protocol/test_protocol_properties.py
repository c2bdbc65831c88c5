"""For all inputs: what is signed verifies, any changed signed byte refuses, nothing raises anything but Refused."""

from __future__ import annotations

import ast
import hmac
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import provider_federation.protocol
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Refused,
    Request,
    primitives,
    sign,
    verify,
)
from provider_federation.protocol.grammar import target_fault

NOW = 1_790_000_000.0
POLICY = Policy(accept=("h31", "sha256"), development=True)
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]

segments = st.from_regex(r"[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~-]{0,8}", fullmatch=True)
queries = st.from_regex(r"(\?[A-Za-z0-9._~=&%/?+-]{0,30})?", fullmatch=True).filter(
    lambda text: target_fault("/" + text) is None
)
targets = st.builds(
    lambda parts, query: "/" + "/".join(parts) + query, st.lists(segments, max_size=5), queries
)
instants = st.integers(0, 32_500_000_000_000).map(lambda milliseconds: milliseconds / 1000)
keys = st.builds(
    Key,
    id=st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True),
    algorithm=st.sampled_from(["h31", "sha256"]),
    secret=st.binary(min_size=1, max_size=100),
    scope=st.sampled_from(["read", "provider"]),
)


def _on_the_wire(method: str, target: str, headers: list[tuple[str, str]]) -> Request:
    return Request(method, target, "acme.example", headers, b"", peer="::1")


@given(st.sampled_from(METHODS), targets, keys, instants, st.floats(-300, 300))
def test_what_is_signed_verifies(method, target, key, now, drift):
    headers = sign(_on_the_wire(method, target, []), key, now=now, scope=None)
    request = _on_the_wire(method, target, headers)
    later = round(now + drift, 3) if abs(drift) < 299 else now
    principal = verify(request, Keyring([key]), POLICY, now=later, replay=MemoryReplayStore())
    assert (principal.key_id, principal.scope, principal.algorithm) == (key.id, key.scope, key.algorithm)


def _changed(text: str, position: int, character: str) -> str:
    position %= len(text)
    return text[:position] + character + text[position + 1 :]


@given(
    st.sampled_from(["method", "target", "timestamp", "signature", "key"]),
    st.integers(0, 200),
    st.characters(min_codepoint=0x20, max_codepoint=0x7E),
    targets,
)
def test_a_change_of_any_signed_byte_refuses(where, position, character, target):
    key = Key("key-1", "sha256", b"k" * 32)
    parts = {"method": "POST", "target": target}
    headers = dict(sign(_on_the_wire("POST", target, []), key, now=NOW))
    parts |= {
        "timestamp": headers["X-Provider-Timestamp"],
        "signature": headers["X-Provider-Signature"],
        "key": key.id,
    }
    before = dict(parts)
    parts[where] = _changed(parts[where], position, character)
    assume(parts != before)
    sent = [
        ("X-Provider-KeyId", parts["key"]),
        ("X-Provider-Timestamp", parts["timestamp"]),
        ("X-Provider-Signature", parts["signature"]),
    ]
    with pytest.raises(Refused):
        verify(_on_the_wire(parts["method"], parts["target"], sent), Keyring([key]), POLICY, now=NOW)


hostile_text = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "sha256:",
        "h31:0",
        "h31:" + "f" * 8,
        "sha256:" + "0" * 64,
        "٣",
        "9" * 5000,
        "K" * 9000,
        "2025-09-25T18:00:00.000Z",
        "0000-00-00T00:00:00.000Z",
        "2025-02-31T00:00:00.000Z",
        "//",
        "/a/../b",
        "/%",
        "/%2e",
    ]
)
header_names = (
    st.sampled_from(
        [
            "X-Provider-KeyId",
            "x-provider-timestamp",
            "X-PROVIDER-SIGNATURE",
            "x-provider-scope",
            "x-provider-org",
            "x-provider-instance",
            "signature",
            "signature-input",
            "content-digest",
            "content-length",
            "host",
            "transfer-encoding",
            "content-encoding",
            "x-forwarded-for",
            "X-Provider-\u212aeyId",
        ]
    )
    | hostile_text
)
numbers = st.floats() | st.integers() | st.sampled_from([10**400, -(10**400), sys.maxsize, True])
junk = st.none() | st.integers() | st.binary(max_size=5) | st.lists(st.integers(), max_size=2)
hostile_requests = st.builds(
    Request,
    method=st.sampled_from([*METHODS, "get", "TRACE"]) | hostile_text | junk,
    target=targets | hostile_text | junk,
    authority=hostile_text,
    headers=st.lists(st.tuples(header_names, hostile_text | junk) | junk, max_size=8) | junk,
    body=st.binary(max_size=20) | junk,
    peer=st.none() | hostile_text | st.sampled_from(["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1"]),
)
ALL_KEYS = Keyring([
    Key("h", "h31", b"x"), Key("s", "sha256", b"x"), Key("m", "hmac-sha256", b"x"),
    Key("e", "ed25519", public_key=bytes(range(32))),
])  # fmt: skip


@given(hostile_requests, numbers)
def test_no_input_raises_anything_but_refused(request_, now):
    with pytest.raises(Refused):
        verify(request_, ALL_KEYS, POLICY, now=now, replay=MemoryReplayStore())


@given(
    st.sampled_from(["h", "s", "m", "e", "nobody"]),
    hostile_text,
    hostile_text,
    hostile_text,
    numbers,
    targets,
)
@example("s", "2025-09-25T18:00:00.000Z", "sha256:" + "0" * 64, "provider", 10**400, "/")
def test_no_header_value_raises_anything_but_refused(key_id, timestamp, signature, scope, now, target):
    headers = [
        ("x-provider-keyid", key_id), ("x-provider-timestamp", timestamp), ("x-provider-signature", signature),
        ("x-provider-scope", scope), ("x-provider-org", scope),
    ]  # fmt: skip
    with pytest.raises(Refused):
        verify(_on_the_wire("GET", target, headers), ALL_KEYS, POLICY, now=now)


@given(st.text(st.sampled_from(list("/.%2eEfF5cCaZ?;\\ #\n\0é")), max_size=12).map("/".__add__))
def test_an_accepted_path_means_one_thing_only(target):
    """Whatever decodes or resolves it: no dot segment, empty segment, separator or control character comes out."""
    from urllib.parse import unquote

    if target_fault(target) is not None:
        return
    path = target.partition("?")[0]
    decoded = unquote(path)
    assert decoded.count("/") == path.count("/")
    assert not {".", ".."} & set(decoded.split("/"))
    assert "" not in decoded.split("/")[1:-1]
    assert unquote(decoded) == decoded
    assert not set(decoded) & set("\\;\0\n #?")


SECRET_NAMES = {
    "tag", "_tag", "signature", "signatures", "digest", "mac", "expected", "secret", "hexdigest", "hex", "_h31",
    "hmac_sha256", "states", "ed25519", "make_signature", "content_digest", "sha256", "sha512", "seed", "public",
}  # fmt: skip


def _names(node: ast.AST) -> set[str]:
    """The names in an expression; a length is no secret, nor is the parameter that RFC 9421 calls tag."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        return set()
    own = {node.id} if isinstance(node, ast.Name) else set()
    if isinstance(node, ast.Attribute) and node.attr != "tag":
        own.add(node.attr)
    return own.union(*(_names(child) for child in ast.iter_child_nodes(node)))


def test_tags_are_never_compared_with_equals():
    """No `==` or `!=` in the package touches a tag, a digest or a secret; what does is `hmac.compare_digest`."""
    compared = 0
    for path in Path(provider_federation.protocol.__file__).parent.glob("*.py"):
        text = path.read_text()
        compared += text.count("compare_digest(")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                assert not _names(node) & SECRET_NAMES, f"{path.name}:{node.lineno}"
    assert compared >= 4


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_our_hmac_is_hmac(secret, payload):
    ours = primitives.hmac_sha256(secret)(payload).hexdigest()
    assert ours == hmac.new(secret, payload, "sha256").hexdigest()
