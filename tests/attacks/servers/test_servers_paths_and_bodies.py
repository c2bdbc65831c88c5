"""Prefixes and mounts, what a target becomes on its way, and bodies that somebody reads before the adapter does."""

from __future__ import annotations

import pytest
from tests.attacks.servers.keys import ED25519, HOST, LEGACY
from tests.attacks.servers.rules import chunked
from tests.attacks.servers.wire import Served, raw, signed

from provider_federation.protocol import Key, Request

SCHEMES = pytest.mark.parametrize("key", [LEGACY, ED25519], ids=["legacy", "v2"])
SERVERS = pytest.mark.parametrize("server", ["h11", "httptools", "granian", "gunicorn"])
ASGI_SERVERS = pytest.mark.parametrize("server", ["h11", "httptools", "granian"])
PLAIN = {"gunicorn": "wsgi"}


@SERVERS
@SCHEMES
def test_threat_047_behind_a_proxy_that_strips_a_prefix(at, server: str, key: Key) -> None:
    """The portal signs what it sends, /tenant/a; /a arrives; the adapter is told of the prefix, or not."""
    sent = signed(key, target="/tenant/a")
    stripped = Request("GET", "/a", HOST, sent.headers, b"")
    assert at(server, "prefix").call(stripped).status == 200
    assert at(server, "prefix").signed(key=key).outcome == (401, "bad_signature")
    plain = at(server, PLAIN.get(server, "asgi"))
    assert plain.call(stripped).outcome == (401, "bad_signature")
    assert plain.call(sent).status == 200


@SERVERS
@SCHEMES
def test_threat_047_mounted_under_a_prefix(at, server: str, key: Key) -> None:
    """The whole target is signed, however the framework takes it apart."""
    served = at(server, "mounted")
    assert served.signed(target="/sub/a?x=1", key=key).status == 200
    moved = Request("GET", "/sub/a", HOST, signed(key, target="/a").headers, b"")
    assert served.call(moved).outcome == (401, "bad_signature")


# Sent, signed: what each server makes of a question mark with nothing behind it. ASGI has no place for it; v2 signs
# "?" either way (RFC 9421, section 2.2.7), so that it is one request there.
GOLDEN_46 = {
    ("/a?", "/a", "legacy"): {"h11": 200, "httptools": 200, "granian": 200, "gunicorn": 401},
    ("/a", "/a?", "legacy"): {"h11": 401, "httptools": 401, "granian": 401, "gunicorn": 401},
    ("/a?", "/a?", "legacy"): {"h11": 401, "httptools": 401, "granian": 401, "gunicorn": 200},
    ("/a?", "/a", "v2"): {"h11": 200, "httptools": 200, "granian": 200, "gunicorn": 200},
    ("/a", "/a?", "v2"): {"h11": 200, "httptools": 200, "granian": 200, "gunicorn": 200},
    ("/a?", "/a?", "v2"): {"h11": 200, "httptools": 200, "granian": 200, "gunicorn": 200},
}


@pytest.mark.parametrize(("sent", "meant", "scheme"), GOLDEN_46)
def test_threat_046_a_bare_question_mark(served: Served, sent: str, meant: str, scheme: str) -> None:
    request = signed(LEGACY if scheme == "legacy" else ED25519, target=meant)
    status = served.send(raw(request, line=f"GET {sent} HTTP/1.1")).status
    assert status == GOLDEN_46[sent, meant, scheme][served.server]


# A target with a scheme and a host in front: some servers take the path out of it, the others hand it on.
GOLDEN_ABSOLUTE = {"h11": 400, "httptools": 200, "granian": 200, "gunicorn": 400}


@SCHEMES
def test_an_absolute_target(served: Served, key: Key) -> None:
    line = f"GET http://{HOST}/a HTTP/1.1"
    assert served.send(raw(signed(key), line=line)).status == GOLDEN_ABSOLUTE[served.server]
    assert served.send(raw(signed(key, target="/b"), line=line)).status in {400, 401}
    assert len(served.control()[0]) <= 1


# obs-fold: h11 unfolds the line, the others refuse it.
@SCHEMES
def test_threat_051_a_folded_line(served: Served, key: Key) -> None:
    data = raw(signed(key)).replace(b"X-Provider-Scope: provider", b"X-Provider-Scope: provider\r\n folded")
    answer = served.send(data)
    assert answer.status in ({400, 401} if served.server == "h11" else {400})
    assert not served.control()[0]


def test_threat_051_white_space_around_a_value(served: Served) -> None:
    """HTTP takes it off; httptools leaves what stands behind the value, and it is refused."""
    data = raw(signed(LEGACY)).replace(b"X-Provider-KeyId: legacy", b"X-Provider-KeyId: \t legacy \t")
    answer = served.send(data)
    assert answer.outcome == ((400, "malformed_header") if served.server == "httptools" else (200, None))


def test_a_signature_in_header_names_with_underscores_is_none(served: Served) -> None:
    """`X_Provider_Org` is another header; where WSGI would confuse the two, gunicorn drops it."""
    answer = served.call(signed(LEGACY), "X_Provider_Org: org-2")
    assert answer.status == 200


def test_a_body_without_a_digest_in_v2(served: Served) -> None:
    """Chunks after a signature that says there is no body."""
    answer = served.send(chunked(signed(ED25519, "POST"), b"5\r\nhello\r\n0\r\n\r\n"))
    assert answer.outcome == (401, "insufficient_coverage")
    assert not served.control()[0]


@pytest.mark.parametrize(
    ("server", "app"),
    [("h11", "fastapi-reads-first"), ("httptools", "fastapi-reads-first"), ("gunicorn", "flask-reads-first")],
)
@SCHEMES
def test_a_body_that_the_framework_keeps_when_it_reads_it_first(at, server: str, app: str, key: Key) -> None:
    request = signed(key, "POST", body=b"hello")
    answer = at(server, app).call(request)
    assert (answer.status, answer.json["body"]) == (200, "hello")


@pytest.mark.parametrize("server", ["h11", "granian", "gunicorn"])
@SCHEMES
def test_django_when_another_middleware_reads_the_body_first(at, server: str, key: Key) -> None:
    """`request.body` is kept; what was read as a stream is gone, and that is nobody's good request."""
    served = at(server, "django")
    answer = served.call(signed(key, "POST", body=b"hello"), "X-Test-Body: body")
    assert (answer.status, answer.json["body"]) == (200, "hello")
    assert served.call(signed(key, "POST", "/b", body=b"hello"), "X-Test-Body: stream").outcome == (
        500,
        "internal_error",
    )
    assert len(served.control()[0]) == 1


@ASGI_SERVERS
def test_a_middleware_outside_that_changes_the_body(at, server: str) -> None:
    served = at(server, "changes")
    assert served.signed("POST", body=b"hello").outcome == (401, "digest_mismatch")
    assert served.signed("POST", "/b", body=b"HELLO").status == 200


def test_a_middleware_outside_that_swallows_the_body(at) -> None:
    """WSGI: there is less than Content-Length said. (Under ASGI nobody ever says that the body is over; see below.)"""
    served = at("gunicorn", "swallows")
    assert served.signed("POST", body=b"hello", key=LEGACY).outcome == (400, "bad_framing")
    assert served.signed("POST", "/b", body=b"hello").outcome == (400, "bad_framing")
    assert not served.control()[0]


@pytest.mark.parametrize("server", ["h11", "httptools"])
def test_a_middleware_outside_that_swallows_the_body_under_asgi(at, server: str) -> None:
    """The caller gives up waiting; the app has never run."""
    import socket

    served = at(server, "swallows")
    data = raw(signed(ED25519, "POST", body=b"hello")).replace(b"\r\n", b"\r\nX-Test-App: swallows\r\n", 1)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""
    assert not served.control()[0]


def test_a_wsgi_server_that_tells_no_raw_target(at) -> None:
    assert at("gunicorn", "no-raw-target").signed(key=LEGACY).outcome == (400, "bad_target")


@pytest.mark.parametrize("server", ["h11", "httptools", "granian", "gunicorn"])
@SCHEMES
def test_around_django(at, server: str, key: Key) -> None:
    """The middleware around Django is taken over by the one in it."""
    served = at(server, "around-django")
    request = signed(key, "POST", body=b"hello")
    answer = served.call(request, "Cookie: sessionid=owner")
    assert (answer.status, answer.json["key"], answer.json["body"], answer.json["cookie"]) == (
        200,
        key.id,
        "hello",
        "",
    )
    if key is ED25519:
        assert answer.signer(request)
    anonymous = served.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert anonymous.status == 403  # Django's CSRF check


@pytest.mark.parametrize("server", ["h11", "gunicorn"])
def test_django_asks_a_machine_for_no_csrf_token_and_everybody_else_for_one(at, server: str) -> None:
    served = at(server, "django")
    assert served.signed("POST", body=b"x=1").status == 200
    assert (
        served.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").status
        == 403
    )
