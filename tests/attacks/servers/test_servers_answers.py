"""Signed answers and signed refusals: whole, bound to their request, also when the app or the method is odd."""

from __future__ import annotations

import pytest
from tests.attacks.servers.keys import ED25519, HMAC, HOST, LEGACY, MAX_ANSWER, NOW, READER
from tests.attacks.servers.rules import badly_signed
from tests.attacks.servers.wire import Answer, Served, raw, signed

from provider_federation.protocol import Refused, Request


def _is_signed(answer: Answer) -> bool:
    return any(name.lower() == "signature" for name, _ in answer.headers)


def test_an_answer_belongs_to_its_request_only(served: Served) -> None:
    request, other = signed(ED25519), signed(ED25519)
    answer = served.call(request)
    assert answer.signer(request) == "acme-answers"
    with pytest.raises(Refused, match="bad_signature"):
        answer.signer(other)
    answer.body += b" "
    with pytest.raises(Refused, match="digest_mismatch"):
        answer.signer(request)


def test_a_legacy_request_is_answered_without(served: Served) -> None:
    assert not _is_signed(served.signed(key=LEGACY))


@pytest.mark.parametrize("late", [-1000, 1000])
def test_a_late_request_is_told_so_signed(served: Served, late: int) -> None:
    """From its `created` the portal learns the instance's clock."""
    request = signed(HMAC, now=NOW + late)
    answer = served.call(request)
    assert answer.outcome == (401, "timestamp_out_of_window")
    assert answer.signer(request) == "acme-answers"
    assert f";created={NOW:.0f};" in {n.lower(): v for n, v in answer.headers}["signature-input"]


def test_refusals_after_a_good_signature_are_signed(served: Served) -> None:
    request = signed(ED25519, "POST", body=b"{}")
    assert served.call(request).status == 200
    again = served.call(request)
    assert (again.outcome, again.signer(request)) == ((401, "replayed"), "acme-answers")
    writing = signed(READER, "POST", scope="read")
    refused = served.call(writing)
    assert (refused.outcome, refused.signer(writing)) == ((403, "scope_not_allowed"), "acme-answers")
    assert served.control()[1][-1][0] == "scope_not_allowed"


def test_refusals_of_anybody_else_are_not(served: Served) -> None:
    for request in (
        badly_signed(ED25519), badly_signed(HMAC), badly_signed(LEGACY), signed(ED25519, target="/a//b"),
        Request("GET", "/a", HOST, [("Host", HOST), ("Signature", "pf=:AA==:")], b""),
    ):  # fmt: skip
        answer = served.call(request)
        assert answer.status in {400, 401}
        assert not _is_signed(answer)


def test_a_head_request(served: Served) -> None:
    request = signed(ED25519, "HEAD")
    answer = served.call(request)
    assert (answer.status, answer.signer(request)) == (200, "acme-answers")
    late = signed(ED25519, "HEAD", now=NOW - 1000)
    refusal = served.call(late)
    assert (refusal.status, refusal.signer(late)) == (401, "acme-answers")


def test_an_answer_without_content(served: Served) -> None:
    request = signed(ED25519, target="/empty")
    answer = served.call(request)
    assert (answer.status, answer.body, answer.signer(request)) == (204, b"", "acme-answers")


def test_a_streamed_answer(served: Served) -> None:
    request = signed(ED25519, target="/stream")
    answer = served.call(request)
    assert (answer.status, answer.body, answer.signer(request)) == (200, b"x" * 5000, "acme-answers")
    assert served.signed(target="/stream", key=LEGACY).body == b"x" * 5000


def test_an_answer_that_is_too_large_to_be_signed(served: Served) -> None:
    request = signed(ED25519, target="/large")
    answer = served.call(request)
    assert (answer.outcome, answer.signer(request)) == ((500, "response_too_large"), "acme-answers")
    assert len(served.signed(target="/large", key=LEGACY).body) == 500_000 > MAX_ANSWER
    assert served.signed().status == 200


def test_threat_095_an_app_that_raises(served: Served) -> None:
    request = signed(ED25519, target="/raise")
    answer = served.call(request)
    assert (answer.status, answer.signer(request)) == (500, "acme-answers")
    assert b"house" not in answer.received
    assert served.signed(target="/raise", key=LEGACY).status == 500
    assert served.signed().status == 200


@pytest.mark.parametrize("server", ["h11", "httptools", "granian"])
def test_a_middleware_outside_that_changes_the_answer(at, server: str) -> None:
    """The portal sees it; that is why ours must be the outermost."""
    request = signed(ED25519)
    answer = at(server, "rewrites").call(request)
    assert answer.status == 200
    with pytest.raises(Refused, match="digest_mismatch"):
        answer.signer(request)


@pytest.mark.parametrize(
    ("server", "app"),
    [("h11", "fastapi"), ("httptools", "fastapi"), ("granian", "fastapi"), ("gunicorn", "flask")],
)
def test_routes_that_ask_for_a_principal(at, server: str, app: str) -> None:
    served = at(server, app)
    anonymous = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert served.send(b"GET /only-signed" + anonymous).outcome == (401, "missing_headers")
    assert served.send(b"GET /only-write" + anonymous).outcome == (401, "missing_headers")
    assert not served.control()[0]
    for key in (LEGACY, ED25519):
        assert served.signed(target="/only-signed", key=key).json["key"] == key.id
        assert served.signed("POST", "/only-write", key=key).json["key"] == key.id
    request = signed(READER, target="/only-write", scope="read")
    answer = served.call(request)
    assert (answer.outcome, answer.signer(request)) == ((403, "scope_not_allowed"), "acme-answers")
    assert served.signed(target="/only-signed", key=READER, scope="read").status == 200


def test_a_caller_who_leaves_in_the_middle_of_the_body(served: Served) -> None:
    """Nothing runs, and the next one is served."""
    import socket

    data = raw(signed(LEGACY, "POST", body=b"hello"), "Content-Length: 50", length=False)
    line, _, rest = data.partition(b"\r\n")
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(line + b"\r\nX-Test-App: " + served.app.encode() + b"\r\n" + rest + b"hel")
    assert served.signed().status == 200
    assert [fact["key"] for fact in served.control()[0]] == ["ed"]
