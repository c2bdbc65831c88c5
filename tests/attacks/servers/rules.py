"""What every adapter on every server says to a request: one table, and where a server is known to differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.attacks.servers.keys import LEGACY, LEGACY_READER, MAX_BODY, READER
from tests.attacks.servers.wire import raw, signed

from provider_federation.protocol import Key, Request

Bytes = bytes | tuple[bytes, bytes]
Outcome = tuple[int, str | None]


@dataclass(frozen=True)
class Rule:
    """`build` makes the bytes to send (and those to send a moment later), signed with a key.

    A server may say `status` itself; then there is no reason in the answer. `at` is what is expected instead
    on one server, or on one server by one scheme.
    """

    name: str
    status: int
    code: str | None
    build: Callable[[Key], Bytes]
    at: dict[str, Outcome] = field(default_factory=dict)

    def expected(self, server: str, key: Key) -> Outcome:
        """Status and reason."""
        scheme = "legacy" if key is LEGACY else "v2"
        return self.at.get(f"{server} {scheme}") or self.at.get(server) or (self.status, self.code)


def with_header(request: Request, name: str, value: str | None) -> Request:
    """Another value for a header it has; None takes it away."""
    headers = [(n, value if n.lower() == name.lower() else v) for n, v in request.headers]
    return replace(request, headers=[(n, v) for n, v in headers if v is not None])


def signature_header(key: Key) -> str:
    return "X-Provider-Signature" if key.algorithm == "sha256" else "Signature"


def badly_signed(key: Key, method: str = "GET", target: str = "/a", body: bytes = b"") -> Request:
    """Well-formed, and by nobody."""
    wrong = "sha256:" + "0" * 64 if key.algorithm == "sha256" else "pf=:" + "A" * 86 + "==:"
    return with_header(signed(key, method, target, body), signature_header(key), wrong)


def chunked(request: Request, *pieces: bytes) -> bytes:
    """The request with these bytes for its chunked body."""
    return raw(request, "Transfer-Encoding: chunked", length=False) + b"".join(pieces)


def _sent_as(method_and_target: str, *, method: str = "GET", target: str = "/a") -> Callable[[Key], bytes]:
    return lambda key: raw(signed(key, method, target), line=f"{method_and_target} HTTP/1.1")


def _plus(*extra: str) -> Callable[[Key], bytes]:
    return lambda key: raw(signed(key), *extra)


def _name_value(key: Key, value: bytes) -> bytes:
    """The request with an odd value where a name is expected."""
    known = b"X-Provider-KeyId: legacy" if key is LEGACY else b"X-Provider-Instance: acme"
    name, good = known.split(b": ")
    return raw(signed(key)).replace(known, name + b": " + value.replace(b"NAME", good))


def _again(key: Key) -> bytes:
    lines = [f"{name}: {value}" for name, value in signed(key).headers if name == signature_header(key)]
    return raw(signed(key), *lines)


def _reader(key: Key) -> Key:
    return LEGACY_READER if key is LEGACY else READER


_CANONICAL = ["//a", "/a//b", "/a/../b", "/a/./b", "/%2e%2e/", "/a;x", "/a\\b", "/a%2Fb", "/a%5Cb", "/%7Ea"]


def _framing() -> Iterator[Rule]:
    two_ways = ("Content-Length: 5", "Transfer-Encoding: chunked")
    five = b"5\r\nhello\r\n0\r\n\r\n"
    # granian takes the Content-Length away before anybody sees it; what was signed is what arrives, all the same.
    yield Rule("021 two ways of framing", 400, "bad_framing",
               lambda key: raw(signed(key, "POST", "/a", b"hello"), *two_ways, length=False) + five,
               at={"granian": (200, None)})  # fmt: skip
    yield Rule("021 two transfer encodings", 400, "bad_framing",
               lambda key: raw(signed(key, "POST", "/a", b"hello"), "Transfer-Encoding: chunked",
                               "Transfer-Encoding: identity", length=False) + five)  # fmt: skip
    yield Rule(
        "021 two lengths",
        400,
        "bad_framing",
        lambda key: raw(signed(key, "POST", "/a", b"hello"), "Content-Length: 6"),
    )
    for length in ("-1", "+5", "5 5", "0x5"):
        yield Rule(f"021 length {length}", 400, "bad_framing",
                   lambda key, length=length: raw(signed(key, "POST", "/a", b"hello"), f"Content-Length: {length}", length=False) + b"hello")  # fmt: skip
    yield Rule("021 a chunk without a size", 400, "bad_framing",
               lambda key: chunked(signed(key, "POST", "/a", b"hello"), b"zz\r\nhello\r\n"),
               at={"granian": (500, None)})  # fmt: skip
    yield Rule("037 two hosts", 400, "bad_framing", _plus("Host: other.example"))
    yield Rule("037 the same host twice", 400, "bad_framing", _plus("Host: acme.example"))
    yield Rule("093 HTTP/1.0 without a host", 400, "bad_framing",
               lambda key: raw(with_header(signed(key), "Host", None), line="GET /a HTTP/1.0"))  # fmt: skip
    yield Rule(
        "093 HTTP/1.1 without a host",
        400,
        "bad_framing",
        lambda key: raw(with_header(signed(key), "Host", None)),
    )
    yield Rule("093 HTTP/1.0 with a host", 200, None, lambda key: raw(signed(key), line="GET /a HTTP/1.0"))
    yield Rule("019 odd chunks", 200, None,
               lambda key: (chunked(signed(key, "POST", "/a", b"hello"), b"1\r\nh\r\n3;x=y\r\nell\r\n"), b"1\r\no\r\n0\r\n\r\n"))  # fmt: skip
    yield Rule("022 an encoded body", 415, "content_encoding_not_allowed",
               lambda key: raw(signed(key, "POST", "/a", b"\x1f\x8b"), "Content-Encoding: gzip"))  # fmt: skip
    yield Rule(
        "023 a body over the limit",
        413,
        "body_too_large",
        lambda key: raw(signed(key, "POST", "/a", bytes(MAX_BODY + 1))),
    )
    yield Rule("023 a chunked body over the limit", 413, "body_too_large",
               lambda key: chunked(signed(key, "POST", "/a", bytes(MAX_BODY + 1)), b"186a1\r\n", bytes(MAX_BODY + 1), b"\r\n0\r\n\r\n"))  # fmt: skip


def _headers() -> Iterator[Rule]:
    for name in ("X-Provider-Scope", "x-provider-org"):
        twice = (f"{name}: provider", f"{name}: provider")
        yield Rule(f"029 {name} twice", 400, "duplicate_header", _plus(*twice))
    # WSGI joins what was sent twice; in Signature the comma has a meaning of its own.
    yield Rule(
        "049 the signature twice",
        400,
        "duplicate_header",
        _again,
        at={"gunicorn v2": (401, "malformed_signature")},
    )
    yield Rule("050 the case of names", 200, None,
               lambda key: raw(signed(key)).replace(b"X-Provider", b"x-pROVIDER").replace(b"Signature", b"sIGNATURE"))  # fmt: skip
    for name, value in {
        "NUL": b"NAME\0",
        "no ASCII": b"NAME\xe9",
        "a bare CR": b"NAME\rX: y",
        "a tab": b"NA\tME",
    }.items():
        yield Rule(
            f"051 {name} in a value",
            400,
            "malformed_header",
            lambda key, value=value: _name_value(key, value),
        )
    yield Rule("053 a long header", 431, "headers_too_large", _plus("X-Long: " + "v" * 9000))
    yield Rule("053 many headers", 431, "headers_too_large", _plus(*(f"X-{n}: v" for n in range(200))))
    # h11 gives up on what it holds, 64 kB, with a 400.
    yield Rule(
        "053 a megabyte",
        431,
        "headers_too_large",
        _plus("Signature-Input: " + "x" * 1_000_000),
        at={"h11": (400, None)},
    )
    yield Rule("074 both schemes", 400, "ambiguous_auth",
               lambda key: raw(signed(key), *(("Signature-Input: pf=()", "Signature: pf=:AA==:") if key is LEGACY
                                              else ("X-Provider-KeyId: legacy",))))  # fmt: skip
    yield Rule(
        "079 an unknown key", 401, "unknown_key", lambda _key: raw(signed(Key("nobody", "sha256", b"x" * 32)))
    )


def _methods_and_targets() -> Iterator[Rule]:
    yield Rule(
        "030 a reader writes",
        403,
        "scope_not_allowed",
        lambda key: raw(signed(_reader(key), "POST", scope="read")),
    )
    yield Rule("030 a reader reads", 200, None, lambda key: raw(signed(_reader(key), scope="read")))
    yield Rule("038 POST with the signature of a GET", 401, "bad_signature", _sent_as("POST /a"))
    yield Rule("038 HEAD with the signature of a GET", 401, "bad_signature", _sent_as("HEAD /a"))
    yield Rule("038 an overridden method", 200, None, _plus("X-HTTP-Method-Override: DELETE"))
    yield Rule("038 lower case", 400, "bad_method", _sent_as("get /a"))
    yield Rule("038 a method of nobody", 400, "bad_method", _sent_as("PURGE /a"))
    yield Rule("039 OPTIONS", 200, None, lambda key: raw(signed(key, "OPTIONS")))
    yield Rule("039 OPTIONS with the signature of a GET", 401, "bad_signature", _sent_as("OPTIONS /a"))
    yield Rule("039 OPTIONS *", 400, "bad_target", _sent_as("OPTIONS *", method="OPTIONS"))
    yield Rule("041 another path", 401, "bad_signature", _sent_as("GET /a/"))
    for sent, meant in (("/a?y=2&x=1", "/a?x=1&y=2"), ("/a?x=%2f", "/a?x=%2F"), ("/a?x=1+2", "/a?x=1%202"),
                        ("/a?x=1&x=2", "/a?x=1"), ("/caf%c3%a9", "/caf%C3%A9")):  # fmt: skip
        yield Rule(f"045 {sent} for {meant}", 401, "bad_signature", _sent_as(f"GET {sent}", target=meant))
    for target in ("/a%zz", "/a%00b", "/%252e%252e/a"):
        yield Rule(
            f"042 {target}", 400, "bad_target", lambda key, target=target: raw(signed(key, target=target))
        )
    for target in _CANONICAL:
        yield Rule(
            f"043 {target}",
            400,
            "non_canonical_target",
            lambda key, target=target: raw(signed(key, target=target)),
        )
    yield Rule("a good target", 200, None, lambda key: raw(signed(key, target="/caf%C3%A9/x?q=a%2Fb&y=%20+")))
    yield Rule("090 cookies and half a signature", 401, "missing_headers",
               lambda key: raw(with_header(signed(key, headers=[("Cookie", "session=owner")]), signature_header(key), None)))  # fmt: skip


RULES = [*_framing(), *_headers(), *_methods_and_targets()]
