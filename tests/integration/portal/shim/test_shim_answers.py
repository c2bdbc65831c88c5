"""Servers that misbehave: threats 122 to 127 and 130. Each ends in an outcome, in bounded time and memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.portal.shim.rig import always, ask, http, serve

from provider_federation.portal.shim import (
    Answered,
    BadAnswer,
    Call,
    RefusedThere,
    Shim,
    TimedOut,
    Unreachable,
)
from provider_federation.portal.shim.strict_json import NotJson, read_object

OK = http(200, {"ok": True})


def test_an_answer() -> None:
    outcome, server = ask(always(http(200, {"ok": True, "items": [1]}, "Idempotent-Replayed: true")))
    assert isinstance(outcome, Answered)
    assert (outcome.ok, outcome.code, outcome.data["items"], outcome.replayed) == (True, "ok", [1], True)
    assert server.connections == 1


async def drip(writer, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("part", ["header", "body", "nothing", "half"])
def test_slow_servers_meet_the_total_deadline(part: str) -> None:
    async def answer(writer, _sent, _number) -> None:
        head, body = OK.split(b"\r\n\r\n")
        if part == "header":
            await drip(writer, OK * 10)
        elif part == "body":
            writer.write(head.replace(b"12", b"9999") + b"\r\n\r\n")
            await drip(writer, body * 100)
        elif part == "half":
            writer.write(OK[:-1].replace(b": 12", b": 99"))
            await writer.drain()
        await asyncio.sleep(30)

    async def run() -> None:
        async with serve(answer) as server, Shim(concurrency=1, per_host=1) as shim:
            for _ in range(2):  # the second shows that the slot was freed
                started = time.monotonic()
                outcome = await shim.call(server.target(), Call("GET", "/api/x", timeout=0.4))
                assert isinstance(outcome, TimedOut)
                assert outcome.code == "timed_out"
                assert 0.35 < time.monotonic() - started < 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked", b"Connection: close", b"Content-Length: 99999999999"]
)
def test_endless_bodies_are_cut(head: bytes) -> None:
    async def answer(writer, _sent, _number) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        chunk = b"a" * 65536
        while True:
            writer.write(b"10000\r\n" + chunk + b"\r\n" if b"chunked" in head else chunk)
            await writer.drain()

    outcome, _ = ask(answer, Call("GET", "/api/x", max_bytes=200_000, timeout=5))
    assert isinstance(outcome, BadAnswer)
    assert outcome.code == "response_too_large"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "gzip, gzip", "identity, gzip", "x"])
def test_compressed_answers_are_refused_undecoded(encoding: str) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    outcome, server = ask(always(http(200, bomb, f"Content-Encoding: {encoding}")))
    assert outcome.code == "encoding_not_allowed"
    assert server.sent[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    outcome, server = ask(always(http(status, b"", "Location: /elsewhere")))
    assert outcome.code == "redirect_refused"
    assert server.connections == 1


BAD_JSON = {
    "deep list": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deeper than we take": b'{"a":' + b"[" * 41 + b"]" * 41 + b"}",
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "1e400": b'{"a":1e400}',
    "same key twice": b'{"ok":true,"ok":false}',
    "same key twice inside": b'{"a":[{"b":1,"b":2}]}',
    "half a pair": b'{"a":"\\ud800"}',
    "half a pair as key": b'{"\\udc00":1}',
    "NUL": b'{"a":"\\u0000"}',
    "BOM": b'\xef\xbb\xbf{"ok":true}',
    "latin-1": b'{"a":"\xe9"}',
    "UTF-16": '{"ok":true}'.encode("utf-16"),
    "empty": b"",
    "html": b"<html>",
    "list": b"[1]",
    "text": b'"ok"',
    "null": b"null",
    "number": b"1",
    "trailing": b'{"ok":true}x',
    "cut": b'{"ok":tr',
    "a million keys": b"{" + b",".join(b'"%d":0' % number for number in range(1_000_000)) + b"}",
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1}//',
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_json_that_we_do_not_take(case: str) -> None:
    outcome, _ = ask(always(http(200, BAD_JSON[case])), Call("GET", "/api/x", max_bytes=20_000_000))
    assert isinstance(outcome, BadAnswer)
    assert outcome.code in {"not_json", "not_an_object", "too_deep"}
    refused, _ = ask(always(http(500, BAD_JSON[case])), Call("GET", "/api/x", max_bytes=20_000_000))
    assert isinstance(refused, RefusedThere)
    assert refused.code == "http_500"


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        assert isinstance(read_object(raw), dict)
    except NotJson as error:
        assert error.code in {"not_json", "not_an_object", "too_deep"}  # noqa: PT017  most bytes raise, some do not


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        texts,
        st.recursive(
            plain,
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
            max_leaves=12,
        ),
    ),
    st.booleans(),
)
def test_good_json_is_read_as_it_was_written(value: dict, ascii_only: bool) -> None:
    assert read_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"hello\r\n\r\n", "bad_http"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 OK\r\n\r\n", "bad_http"),
        (b"\x16\x03\x01\x00\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}", "connection_lost"),
        (b"", "connection_lost"),
        (b"HTTP/1.1 200", "connection_lost"),
    ],
)
def test_broken_http(raw: bytes, code: str) -> None:
    outcome, server = ask(always(raw), Call("GET", "/api/x", attempts=1, timeout=3))
    assert outcome.code in {code, "connection_lost"}
    assert not outcome.ok
    assert server.connections == 1


def test_endless_headers_end() -> None:
    async def answer(writer, _sent, _number) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        number = 0
        while True:
            writer.write(b"".join(b"X-%d: %s\r\n" % (number + more, b"y" * 100) for more in range(500)))
            number += 500
            await writer.drain()

    outcome, _ = ask(answer, Call("GET", "/api/x", timeout=3, attempts=1))
    assert outcome.code in {"bad_http", "timed_out", "connection_lost"}


def test_refusals_carry_the_instances_code_and_nothing_odd() -> None:
    outcome, _ = ask(always(http(403, {"ok": False, "error": "Frozen.", "reason": "frozen"})))
    assert isinstance(outcome, RefusedThere)
    assert (outcome.status, outcome.code, outcome.message) == (403, "frozen", "Frozen.")
    outcome, _ = ask(
        always(
            http(
                403,
                {"ok": False, "error": "a\r\nb\x1b[0m sk_test_abcdefgh" + "x" * 900, "reason": "<script>"},
            )
        )
    )
    assert outcome.code == "http_403"
    assert len(outcome.message) <= 300
    assert outcome.message.isprintable()
    assert "sk_test_abcdefgh" not in outcome.message
    outcome, _ = ask(always(http(200, {"ok": False, "reason": "odd", "error": "No."})))
    assert isinstance(outcome, RefusedThere)
    outcome, _ = ask(always(http(404, {"ok": False, "reason": 5, "error": []})))
    assert outcome.code == "http_404"


@pytest.mark.parametrize("body", [{"instance": "other"}, {"org": "org-other"}, {"clientOrgId": "org-other"}])
def test_an_answer_of_another_instance_is_none(body: dict) -> None:
    outcome, _ = ask(always(http(200, {"ok": True, **body})))
    assert isinstance(outcome, BadAnswer)
    assert outcome.code == "response_identity_mismatch"


def test_clock_difference() -> None:
    outcome, _ = ask(
        always(
            http(
                401, {"ok": False, "reason": "timestamp_out_of_window"}, "Date: Thu, 01 Jan 1970 00:00:00 GMT"
            )
        )
    )
    assert outcome.clock_offset_ms is not None
    assert outcome.clock_offset_ms < -1_000_000_000
    for junk in ("Date: yesterday", "Date: ", "Date: Thu, 99 Jan 99999 00:00:00 GMT", "X: y"):
        outcome, _ = ask(always(http(200, {"ok": True, "serverTime": 7}, junk)))
        assert outcome.ok
        assert outcome.clock_offset_ms is None


def test_nobody_there() -> None:
    async def run() -> None:
        async with serve(always(OK)) as server:
            gone = server.target()
        async with Shim() as shim:
            outcome = await shim.call(gone, Call("GET", "/api/x", timeout=3))
            assert isinstance(outcome, Unreachable)
            assert outcome.code == "connect_failed"
            assert outcome.attempts == 3

    asyncio.run(run())


def test_pages_end() -> None:
    async def endless(writer, _sent, number) -> None:
        writer.write(http(200, {"ok": True, "items": [], "nextCursor": f"c{number}"}))

    async def circle(writer, _sent, _number) -> None:
        writer.write(http(200, {"ok": True, "items": [], "nextCursor": "c"}))

    async def three(writer, sent, number) -> None:
        assert number == 1 or sent.target == f"/api/x?limit=5&cursor=c%26{number - 1}"
        writer.write(http(200, {"ok": True, "nextCursor": f"c&{number}", "hasMore": number < 3}))

    async def run(answer) -> list[str]:
        async with serve(answer) as server, Shim() as shim:
            pages = shim.pages(server.target(), Call("GET", "/api/x", query={"limit": 5}), page_cap=4)
            return [outcome.code async for outcome in pages]

    assert asyncio.run(run(endless)) == ["ok"] * 4 + ["page_cap"]
    assert asyncio.run(run(circle)) == ["ok", "ok", "page_cap"]
    assert asyncio.run(run(three)) == ["ok"] * 3
