"""Area A of the threat list where the wire matters: raw bytes to real servers, both of uvicorn's HTTP parsers."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks.legacy_wire import KEY, READER, Echo, Served, serve, signature

from provider_federation.adapters.gate import FailureCounter
from provider_federation.protocol import Key, Keyring, Policy


@pytest.fixture(scope="module", params=["h11", "httptools"])
def served(request) -> Iterator[Served]:
    with serve(request.param) as server:
        yield server


@pytest.fixture(autouse=True)
def _forget(request) -> None:
    if "served" in request.fixturenames:
        server = request.getfixturevalue("served")
        server.app.seen.clear()
        server.audit.clear()


def _refused(server: Served, answer: tuple[int, dict], code: str, status: int) -> None:
    assert (answer[0], answer[1].get("reason")) == (status, code)
    assert answer[1]["ok"] is False
    assert answer[1]["error"]
    assert server.app.seen == []
    assert server.audit[-1][0] == code


def test_a_good_request_reaches_the_app_with_its_body(served):
    status, answer = served.call("POST", "/good?x=a%2Fb", body=b"\x00raw\xff")
    assert (status, answer["key"], answer["scope"], answer["body"]) == (
        200,
        "key-1",
        "provider",
        "\x00raw\xff",
    )


def test_a_request_without_federation_headers_is_passed_on(served):
    status, answer, _ = served.send(
        b"POST /a//b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nCookie: s=1\r\n\r\nhi"
    )
    assert (status, answer["key"], answer["body"], answer["cookie"]) == (200, None, "hi", "s=1")


def test_threat_009_a_write_is_accepted_once(served):
    assert served.call("POST", "/once", body=b"{}")[0] == 200
    served.app.seen.clear()
    _refused(served, served.call("POST", "/once", body=b"[]"), "replayed", 401)


def test_threat_019_a_chunked_body_in_odd_pieces(served):
    raw = (
        b"POST /chunks HTTP/1.1\r\nHost: a\r\n"
        + signature("POST", "/chunks")
        + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    status, answer, _ = served.send(raw + b"1\r\na\r\n", then=b"3;x=y\r\nbcd\r\n0\r\n\r\n")
    assert (status, answer["body"]) == (200, "abcd")


def test_threat_021_content_length_and_transfer_encoding(served):
    raw = b"POST /two HTTP/1.1\r\nHost: a\r\n" + signature("POST", "/two")
    status, answer, _ = served.send(raw + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert status == 400
    assert answer.get("reason", "bad_framing") == "bad_framing"
    assert served.app.seen == []


def test_threat_022_an_encoded_body(served):
    _refused(served, served.call("POST", "/gzip", extra=b"Content-Encoding: gzip\r\n", body=b"\x1f\x8b"),
             "content_encoding_not_allowed", 415)  # fmt: skip


def test_threat_023_a_body_over_the_limit(served):
    start = b"POST /big HTTP/1.1\r\nHost: a\r\n" + signature("POST", "/big")
    honest = served.send(start + b"Content-Length: 100001\r\n\r\n")  # refused before a byte of it is read
    _refused(served, honest[:2], "body_too_large", 413)
    endless = served.send(
        start + b"Transfer-Encoding: chunked\r\n\r\n", then=(b"8000\r\n" + bytes(0x8000) + b"\r\n") * 4
    )
    _refused(served, endless[:2], "body_too_large", 413)
    absurd = served.send(start + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n")
    assert absurd[0] in {400, 413}
    assert served.app.seen == []


@pytest.mark.parametrize(
    "name",
    [
        "X-Provider-KeyId",
        "x-provider-timestamp",
        "X-PROVIDER-SIGNATURE",
        "X-Provider-Scope",
        "X-Provider-Org",
    ],
)
def test_threats_029_049_a_header_sent_twice(served, name):
    twice = f"{name}: provider\r\n{name}: provider\r\n".encode()
    _refused(served, served.call(extra=twice), "duplicate_header", 400)


def test_threat_030_a_reader_writes(served):
    _refused(served, served.call("POST", "/write", key=READER), "scope_not_allowed", 403)
    assert served.call("GET", "/read", key=READER)[0] == 200


def test_threat_037_two_hosts(served):
    status, answer = served.call(host=b"Host: a\r\nHost: b\r\n")
    assert status == 400
    assert answer.get("reason", "bad_framing") == "bad_framing"
    assert served.app.seen == []


def test_threat_038_head_with_the_signature_of_a_get(served):
    raw = b"HEAD /a HTTP/1.1\r\nHost: a\r\n" + signature("GET", "/a") + b"\r\n"
    _, _, received = served.send(raw)
    assert received.startswith(b"HTTP/1.1 401")
    assert served.app.seen == []
    assert served.call(extra=b"X-HTTP-Method-Override: DELETE\r\n")[1]["method"] == "GET"


@pytest.mark.parametrize(
    "target", ["//a", "/a//b", "/a/../b", "/a/./b", "/%2e%2e/", "/a;x", "/a\\b", "/a%2Fb", "/a%5Cb", "/%7Ea"]
)
def test_threat_043_a_target_that_servers_read_in_more_than_one_way(served, target):
    answer = served.call(target=target)
    if answer[1]:
        _refused(served, answer, "non_canonical_target", 400)
    assert answer[0] == 400
    assert served.app.seen == []


@pytest.mark.parametrize("target", ["/a%zz", "/a%00b", "/%252e%252e/a"])
def test_threat_042_a_target_that_cannot_be_read(served, target):
    answer = served.call(target=target)
    assert answer[0] == 400
    assert answer[1].get("reason", "bad_target") == "bad_target"
    assert served.app.seen == []


@pytest.mark.parametrize(
    ("sent", "signed"),
    [("/a/", "/a"), ("/a?y=2&x=1", "/a?x=1&y=2"), ("/a?x=%2f", "/a?x=%2F"), ("/a?x=1+2", "/a?x=1%202")],
)
def test_threats_041_045_another_target_than_the_signed_one(served, sent, signed):
    _refused(served, served.call(target=sent, signed_target=signed), "bad_signature", 401)


def test_threat_046_a_bare_question_mark_does_not_reach_an_asgi_app(served):
    """Golden: `/a?` and `/a` are one under ASGI, so only the signature without the question mark fits."""
    assert served.call(target="/a?", signed_target="/a")[0] == 200
    served.app.seen.clear()
    _refused(served, served.call(target="/a?", signed_target="/a?"), "bad_signature", 401)


def test_threat_050_the_case_of_header_names_does_not_matter(served):
    raw = (
        b"GET /case HTTP/1.1\r\nhost: a\r\n"
        + signature("GET", "/case").replace(b"X-Provider", b"x-pROVIDER")
        + b"\r\n"
    )
    assert served.send(raw)[0] == 200


@pytest.mark.parametrize(
    "value", [b"key-1\x00", b"key-1\xe9", b"key-1\r\n folded", b"key-1\rX: y", b"key\t1"]
)
def test_threat_051_odd_characters_in_values(served, value):
    raw = b"GET /a HTTP/1.1\r\nHost: a\r\n" + signature("GET", "/a").replace(b"key-1", value) + b"\r\n"
    status, answer, _ = served.send(raw)
    assert status == 400
    assert answer.get("reason", "malformed_header") == "malformed_header"
    assert served.app.seen == []


@pytest.mark.parametrize(
    "extra",
    [b"X-Long: " + b"v" * 9000 + b"\r\n", b"".join(b"X-%d: v\r\n" % n for n in range(200))],
    ids=["long", "many"],
)
def test_threat_053_too_large_headers(served, extra):
    _refused(served, served.call(extra=extra), "headers_too_large", 431)


def test_threat_053_a_megabyte_of_signature_input(served):
    status, answer = served.call(extra=b"Signature-Input: " + b"x" * 1_000_000 + b"\r\n")
    assert status in {400, 431}
    assert answer.get("reason", "headers_too_large") == "headers_too_large"
    assert served.app.seen == []


def test_threat_074_both_schemes(served):
    _refused(
        served,
        served.call(extra=b"Signature-Input: pf=()\r\nSignature: pf=:AA==:\r\n"),
        "ambiguous_auth",
        400,
    )


def test_threat_090_a_bad_federation_request_never_falls_through_to_cookies(served):
    for lines in (
        b"X-Provider-KeyId: key-1\r\n",
        b"X-Provider-Scope: provider\r\n",
        b"Signature: pf=:AA==:\r\n",
    ):
        status, _, _ = served.send(
            b"GET /a HTTP/1.1\r\nHost: a\r\nCookie: session=owner\r\n" + lines + b"\r\n"
        )
        assert status == 401
    assert served.app.seen == []


def test_threat_091_a_good_one_acts_as_the_machine_only(served):
    extra = b"Cookie: session=owner\r\nAuthorization: Bearer owner\r\n"
    status, answer = served.call(extra=extra)
    assert (status, answer["key"], answer["cookie"]) == (200, "key-1", "")


def test_threat_093_http_1_0_without_a_host(served):
    raw = b"GET /a HTTP/1.0\r\n" + signature("GET", "/a") + b"\r\n"
    _refused(served, served.send(raw)[:2], "bad_framing", 400)


def test_threat_094_a_bad_signature_is_refused_before_the_body_is_asked_for(served):
    lines = signature("POST", "/other") + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    status, answer, received = served.send(b"POST /a HTTP/1.1\r\nHost: a\r\n" + lines)
    _refused(served, (status, answer), "bad_signature", 401)
    assert b"100 Continue" not in received


def test_threat_061_hostile_timestamps_do_not_reach_the_app(served):
    good = signature("GET", "/a")
    for stamp in (
        b"0000-01-01T00:00:00.000Z",
        b"9999-12-31T23:59:59.999Z",
        b"+010000-01-01T00:00:00.000Z",
        b"9" * 4000,
    ):
        lines = b"\r\n".join(
            b"X-Provider-Timestamp: " + stamp if b"Timestamp" in line else line
            for line in good.split(b"\r\n")
        )
        _refused(
            served, served.send(b"GET /a HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")[:2], "bad_timestamp", 401
        )


def test_the_caller_learns_less_than_the_audit_log():
    expired = Key("old", "sha256", b"a key that was good last year ..", not_after=1.0)
    with serve(keyring=Keyring([KEY, expired])) as server:
        status, answer = server.call(key=expired)
        assert (status, answer["reason"]) == (401, "unknown_key")
        nobody = server.call(key=Key("nobody", "sha256", b"x"))
        assert nobody == (status, answer)
        assert [code for code, _ in server.audit] == ["expired_key", "unknown_key"]
        assert server.audit[0][1] == {"method": "GET", "path": "/a", "peer": "127.0.0.1", "key_id": "old"}


def test_threat_089_where_federation_is_off_a_signed_request_is_an_anonymous_one():
    class Untouchable(Keyring):
        def get(self, _key_id: str) -> Key | None:
            raise AssertionError("the verifier was asked")

    with serve(enabled=False, keyring=Untouchable()) as server:
        status, answer = server.call("POST", "/a", extra=b"Cookie: session=owner\r\n", body=b"hi")
        assert (status, answer["key"], answer["cookie"], answer["body"]) == (200, None, "session=owner", "hi")


class _FaultyKeyring(Keyring):
    def get(self, _key_id: str) -> Key | None:
        raise RuntimeError("secret-of-the-house")


def _faulty_clock() -> float:
    raise RuntimeError("secret-of-the-house")


def _faulty_hook(code: str, facts: object) -> None:
    raise RuntimeError("secret-of-the-house")


@pytest.mark.parametrize(
    "fault",
    [{"keyring": _FaultyKeyring()}, {"now": _faulty_clock}, {"policy": None}, {"on_refused": _faulty_hook}],
    ids=["keys", "clock", "policy", "audit"],
)
def test_threat_095_a_fault_in_the_verifier_is_a_500_that_says_nothing(fault):
    fault = {"on_refused": None} | fault
    if fault.get("policy", 1) is None:

        class FaultyPolicy(Policy):
            def __getattribute__(self, name: str) -> object:
                raise RuntimeError("secret-of-the-house")

        fault["policy"] = object.__new__(FaultyPolicy)
    with serve(**fault) as server:
        signed = "/other" if fault["on_refused"] else "/a"
        status, answer = server.call("POST", "/a", signed_target=signed, body=b"hi")
        assert (status, answer["reason"]) == (500, "internal_error")
        assert "house" not in str(answer)
        assert server.app.seen == []


def test_threat_097_failures_are_limited_and_nobody_is_locked_out():
    with serve(failures=FailureCounter(limit=20)) as server:
        outcomes = [server.call(signed_target="/other") for _ in range(40)]
        assert [status for status, _ in outcomes] == [401] * 20 + [429] * 20
        assert outcomes[-1][1]["reason"] == "rate_limited"
        assert [code for code, _ in server.audit] == ["bad_signature"] * 20 + ["rate_limited"]
        assert server.call(key=READER)[0] == 200
        assert server.call()[0] == 200


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_threat_047_behind_a_proxy_that_strips_a_prefix(http):
    """The portal signs what it sends, `/tenant/a`; the proxy hands `/a` on; uvicorn is told of the prefix, or not."""
    with serve(http, root_path="/tenant") as server:
        assert server.call(target="/a", signed_target="/tenant/a")[0] == 200
        assert server.call(target="/a", signed_target="/a")[1]["reason"] == "bad_signature"
    with serve(http) as server:
        assert server.call(target="/a", signed_target="/tenant/a")[1]["reason"] == "bad_signature"


def test_threat_039_options_gives_no_more_than_its_signature(served):
    assert served.call("OPTIONS", "/a")[1]["key"] == "key-1"
    served.app.seen.clear()
    _refused(served, served.call("OPTIONS", "/a", signed_target="/b"), "bad_signature", 401)
    assert served.send(b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n")[1]["key"] is None


@pytest.fixture(scope="module")
def granian() -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.attacks.legacy_granian_app", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                threading.Event().wait(0.02)
        yield Served(port, Echo(), [])
        process.terminate()


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"method": "POST", "target": "/good?x=a%2Fb&y=%20+", "body": b"hi"}, 200, None),
        ({"target": "/a?", "signed_target": "/a"}, 200, None),
        ({"target": "/a?", "signed_target": "/a?"}, 401, "bad_signature"),
        ({"target": "/caf%c3%a9", "signed_target": "/caf%C3%A9"}, 401, "bad_signature"),
        ({"target": "/a?y=2&x=1", "signed_target": "/a?x=1&y=2"}, 401, "bad_signature"),
        ({"target": "/a//b"}, 400, "non_canonical_target"),
        ({"target": "/a/../b"}, 400, "non_canonical_target"),
        ({"target": "/%2e%2e/"}, 400, "non_canonical_target"),
        ({"target": "/a%2Fb"}, 400, "non_canonical_target"),
        ({"target": "/a;x"}, 400, "non_canonical_target"),
        ({"target": "/a%zz"}, 400, "bad_target"),
        ({"extra": b"X-Provider-KeyId: key-1\r\n"}, 400, "duplicate_header"),
        ({"host": b"Host: a\r\nHost: b\r\n"}, 400, "bad_framing"),
        ({"method": "POST", "body": b"x" * 100_001}, 413, "body_too_large"),
    ],
)
def test_granian_shows_the_same_request(granian, options, status, code):
    """The middleware sees the raw target and each header there too, so the answers are uvicorn's."""
    answer = granian.call(**options)
    assert (answer[0], answer[1].get("reason")) == (status, code)
