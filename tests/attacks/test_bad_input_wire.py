"""Bad input below JSON: bodies over the limit, framing, HTTP versions, methods that ask about a route, websockets."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest
from tests.attacks.bad_input_cases import Operation, operations, taken_methods
from tests.attacks.bad_input_wire import Answer, read_answer
from tests.attacks.bad_input_world import Service
from tests.attacks.test_bad_input_routes import SERVICES, check_refusal, every_route

LIMIT = 1_048_576
every_service = pytest.mark.parametrize("service", list(SERVICES), indirect=True)


def head(service: Service, operation: Operation, *lines: str, version: str = "1.1") -> bytes:
    """The head of a good request to the route, with these lines instead of a Content-Length."""
    sample = operation.sample
    target = sample.target(service, operation.path)
    proof = {} if sample.is_webhook else service.credentials("full", operation.method, target)
    host = [f"Host: 127.0.0.1:{service.port}"] if version == "1.1" else []
    headers = [
        *host,
        *(f"{name}: {value}" for name, value in proof.items()),
        "Content-Type: application/json",
        *lines,
    ]
    return "\r\n".join((f"{operation.method} {target} HTTP/{version}", *headers, "", "")).encode()


def before_the_body(operation: Operation) -> tuple[int, str]:
    """Enrolment takes a code's key, and no other gets as far as a body."""
    return (403, "enrolment_closed") if operation.sample.anonymous == 403 else (413, "body_too_large")


@every_route
def test_a_body_over_the_limit(service: Service, operation: Operation) -> None:
    """Honest, or lying with too small a length; nothing is written, and the server goes on."""
    before = service.state_before()
    big = b'{"notes": "' + b"A" * LIMIT + b'"}'
    announced = service.wire.raw(head(service, operation, f"Content-Length: {len(big)}") + big)
    unsent = service.wire.raw(head(service, operation, f"Content-Length: {10**9}"))
    absurd = service.wire.raw(head(service, operation, f"Content-Length: {'9' * 18}"))
    if operation.method != "GET":
        for answer in (announced, unsent, absurd):
            check_refusal(answer, operation.name)
            assert (answer.status, answer.json["reason"]) == before_the_body(operation), operation.name
    assert max(announced.status, unsent.status, absurd.status) < 500
    short = service.wire.raw(head(service, operation, "Content-Length: 500") + b'{"a": ', half_close=True)
    assert short.status < 500, operation.name  # nothing (0) is a good answer to a caller who left
    if operation.method != "GET":
        rest = service.wire.raw(head(service, operation, "Content-Length: 3") + big)
        assert 400 <= rest.status < 500, rest
    assert service.state() == before


@every_route
def test_an_endless_chunked_body_is_cut_off(service: Service, operation: Operation) -> None:
    if operation.method == "GET":
        return
    before = service.state_before()
    answer, sent = _endless(service, head(service, operation, "Transfer-Encoding: chunked"))
    assert sent < 24 * LIMIT, operation.name  # sockets on both ends hold some; it does not go on
    if answer.status:
        check_refusal(answer, operation.name)
        assert (answer.status, answer.json["reason"]) == before_the_body(operation)
    assert service.state() == before


@pytest.mark.parametrize("service", ["portal"], indirect=True)
def test_threat_158_slow_bodies_hold_nobody_up(service: Service) -> None:
    """So many webhooks stay half-way that every thread of the portal would be taken; others are answered meanwhile."""
    before = service.state_before()
    start = f"POST /api/webhooks/provider-stripe HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Length: 500\r\n\r\n{{"
    with contextlib.ExitStack() as held:
        for _ in range(100):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=20))
            slow.sendall(start.encode())
        answer = service.send("GET", "/api/provider/instances", b"", {}, "full")
        assert answer.status == 200
    assert service.state() == before


def _endless(service: Service, start: bytes) -> tuple[Answer, int]:
    chunk = b"10000\r\n" + b"A" * 65_536 + b"\r\n"
    sent = 0
    service.wire.sent += 1
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        try:
            connection.sendall(start + b'9\r\n{"notes":\r\n')
            while sent < 64 * LIMIT:
                connection.sendall(chunk)
                sent += len(chunk)
        except ConnectionError:
            pass  # cut off, as it should be
        return read_answer(connection), sent


@every_route
def test_options_and_head_say_what_the_route_takes(service: Service, operation: Operation) -> None:
    target = operation.sample.target(service, operation.path)
    for method in ("OPTIONS", "HEAD"):
        answer = service.send(method, target, who="nobody")
        assert answer.status == 405, answer
        assert taken_methods(operation) <= set(answer.headers["allow"].replace(" ", "").split(","))
        assert (answer.body == b"") == (method == "HEAD")


@every_service
@pytest.mark.parametrize(
    "line",
    [
        "BREW {} HTTP/1.1",
        "get {} HTTP/1.1",
        "GET {} HTTP/9.9",
        "\x16\x03\x01\x02",
        "GET {}\x00 HTTP/1.1",
        "PRI * HTTP/2.0",
    ],
)
def test_what_is_no_http(service: Service, line: str) -> None:
    path = operations(service.side)[0].path
    answer = service.wire.raw(
        f"{line.format(path)}\r\nHost: 127.0.0.1:{service.port}\r\n\r\n".encode("latin-1"), half_close=True
    )
    check_refusal(answer, line)


@every_service
@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Content-Length: 3"), ("Content-Length: 2", "Transfer-Encoding: chunked"), ("Content-Length: -1",), ("Content-Length: 1e3",),
        ("Content-Length: 2", "X-Broken"), ("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding: nonsense",), ("Content-Length: 0x10",),
    ],
)  # fmt: skip
def test_bad_framing(service: Service, lines: tuple[str, ...]) -> None:
    before = service.state_before()
    operation = next(
        one for one in operations(service.side) if one.method == "POST" and not one.sample.is_webhook
    )
    answer = service.wire.raw(head(service, operation, *lines) + b"{}", half_close=True)
    assert answer.status == 0 or 400 <= answer.status < 500, answer
    assert service.state() == before


@every_service
def test_http_1_0_without_host(service: Service) -> None:
    """A load balancer's old-fashioned probe: answered in JSON; a route of the API without a Host is a 400."""
    live = service.wire.raw(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert live.status in {200, 400}, live
    for operation in operations(service.side):
        lines, body = ((), b"") if operation.method == "GET" else (("Content-Length: 2",), b"[]")
        answer = service.wire.raw(head(service, operation, *lines, version="1.0") + body)
        assert answer.status < 500, answer
        assert (
            isinstance(answer.json["ok"], bool)
            if "json" in answer.headers.get("content-type", "")
            else answer.status == 200
        )


@every_service
@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.example",),
        ("127.0.0.1", "evil.example"),
        ("",),
        ("a b",),
        ("127.0.0.1:99999999",),
        ("[::1",),
        ("\xe9\xff",),
    ],
)
def test_a_bad_host(service: Service, hosts: tuple[str, ...]) -> None:
    path = operations(service.side)[0].path
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = service.wire.raw(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
    check_refusal(answer, str(hosts))


@every_service
def test_a_websocket_is_refused(service: Service) -> None:
    for path in ("/", operations(service.side)[0].path):
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        answer = service.wire.raw(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n{upgrade}\r\n".encode()
        )
        assert answer.status != 101, answer
        assert answer.status < 500, answer


@every_service
def test_addresses_that_are_not_there(service: Service) -> None:
    for path in (
        "/api/",
        "/api/nothing",
        "/api//provider",
        "/api/../api",
        "/api/%2e%2e/",
        "/api/provider/%00",
        "/api/" + "a" * 10_000,
        "/api/%ff",
        "/api/provider/usage/",
        "/api/billing/list/x",
    ):
        for who in ("full", "nobody"):
            answer = service.send("GET", path, who=who)
            check_refusal(answer, f"{who} {path}")
            assert answer.status in {400, 404}, answer


@every_service
def test_the_document_is_the_committed_one(service: Service) -> None:
    served = service.send("GET", "/api/openapi.json").json
    assert (
        json.loads(json.dumps(served))["paths"].keys()
        == {one.path: 1 for one in operations(service.side)}.keys()
    )


@every_service
def test_nothing_of_all_this_was_a_fault(service: Service) -> None:
    """The server's own log of this run has no traceback in it, whatever it answered."""
    text = service.log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]
