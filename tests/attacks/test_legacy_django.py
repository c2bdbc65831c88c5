"""The Django middleware, sync under WSGI and async under ASGI, as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks.legacy_wire import Echo, Served, signature

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def served(request) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.attacks.legacy_django_app", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(int(process.stdout.readline()), Echo(), [])
        finally:
            process.terminate()


def test_a_good_request_needs_no_csrf_token_and_has_no_cookies(served):
    status, answer = served.call("POST", "/x?q=a%2Fb", body=b"hi", extra=b"Cookie: sessionid=owner\r\n")
    assert (status, answer) == (200, {"key": "key-1", "cookies": {}, "body": "hi"})


def test_another_request_is_djangos_own_business(served):
    status, answer, _ = served.send(
        b"GET /a//b HTTP/1.1\r\nHost: a\r\nCookie: s=1\r\nConnection: close\r\n\r\n"
    )
    assert (status, answer) == (200, {"key": None, "cookies": {"s": "1"}, "body": ""})
    assert (
        served.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")[0]
        == 403
    )


@pytest.mark.parametrize(
    ("options", "code", "status"),
    [
        ({"signed_target": "/b"}, "bad_signature", 401),
        ({"target": "/a%2Fb"}, "non_canonical_target", 400),
        ({"target": "/a/../b"}, "non_canonical_target", 400),
        ({"method": "POST", "body": b"x" * 100_001}, "body_too_large", 413),
        ({"extra": b"Signature-Input: pf=()\r\n"}, "ambiguous_auth", 400),
    ],
)
def test_a_bad_one_is_refused(served, options, code, status):
    answer = served.call(**options)
    assert (answer[0], answer[1]["reason"]) == (status, code)


def test_a_header_sent_twice_is_refused_also_where_the_server_joins_them(served):
    status, answer = served.call(extra=b"X-Provider-KeyId: key-1\r\n")
    assert status in {400, 401}
    assert answer["reason"] in {"duplicate_header", "malformed_header"}


def test_bad_federation_headers_never_fall_through_to_cookies(served):
    lines = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: sessionid=owner\r\n"
    assert served.send(lines + b"X-Provider-Scope: provider\r\n\r\n")[0] == 401


def test_a_write_is_accepted_once(served):
    assert served.call("POST", "/once")[0] == 200
    assert served.call("POST", "/once")[1]["reason"] == "replayed"


def test_the_signature_is_over_the_raw_target(served):
    raw = b"GET /caf%C3%A9?x=1+2&y=%20 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    assert served.send(raw + signature("GET", "/caf%C3%A9?x=1+2&y=%20") + b"\r\n")[0] == 200
    assert served.send(raw + signature("GET", "/caf%C3%A9?x=1%202&y=%20") + b"\r\n")[0] == 401
