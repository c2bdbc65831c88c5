"""What goes over the wire, how often, and how many at once: threats 121, 123, 129 and 131."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.portal.shim.rig import KEY, always, ask, http, serve

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.shim import Answered, Call, Shim, Target, Unreachable, call_now
from provider_federation.protocol import Keyring, MemoryReplayStore, Policy, Refused, Request, verify

OK = http(200, {"ok": True})
LEGACY = Policy(instance="acme", accept=("sha256",))


def verified(sent, replay=None):
    request = Request(sent.method, sent.target, sent["Host"], sent.headers, sent.body)
    return verify(request, Keyring([KEY]), LEGACY, now=clock.timestamp(), replay=replay)


def test_what_is_sent() -> None:
    outcome, server = ask(always(OK), Call("POST", "/api/billing/invoices.create", body={"n": "ü"}))
    sent = server.sent[0]
    assert outcome.ok
    assert json.loads(sent.body) == {"n": "ü"}
    assert sent["Host"] == f"127.0.0.1:{server.port}"
    assert sent["Content-Type"] == "application/json"
    assert len(sent["Idempotency-Key"]) >= 22
    principal = verified(sent)
    assert (principal.key_id, principal.scope, principal.org) == ("key-1", "provider", "org-acme")
    names = [name.lower() for name, _ in sent.headers]
    assert len(names) == len(set(names))


def test_unsigned_and_unsignable() -> None:
    _, server = ask(always(OK), Call("GET", "/api/x", signed=False), key=None)
    assert not any(name.lower().startswith("x-provider") for name, _ in server.sent[0].headers)
    assert not server.sent[0].has("Idempotency-Key")
    for key in (
        None,
        dataclasses.replace(KEY, not_after=1000.0),
        dataclasses.replace(KEY, not_before=clock.timestamp() + 99),
    ):
        outcome, server = ask(always(OK), key=key)
        assert outcome.code == "cannot_sign"
        assert not server.sent


segment = st.text(st.sampled_from("abzAZ09._~!$&'()*+,;=:@-"), max_size=8) | st.sampled_from(
    ["..", ".", "%2e%2E", "%2F", "%C3%A9", "%41", ""]
)
paths = st.lists(segment, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
raw_queries = st.text(st.sampled_from("abz09._~!$&'()*+,;=:@/?-"), max_size=15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(paths, raw_queries, st.dictionaries(st.text(max_size=6), st.text(max_size=8), max_size=3)),
        min_size=5,
        max_size=20,
    )
)
def test_the_wire_has_exactly_the_target_that_was_signed(cases) -> None:
    calls = []
    for path, raw, query in cases:
        try:
            clean = {
                name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
                for name, value in query.items()
            }
            calls.append(Call("GET", path + (f"?{raw}" if raw else ""), query=clean))
        except Problem:
            raise AssertionError(path) from None

    async def run() -> None:
        async with serve(always(OK)) as server, Shim() as shim:
            for call in calls:
                assert (await shim.call(server.target(), call)).ok
                sent = server.sent[-1]
                assert sent.target == call.target
                from provider_federation.protocol.legacy import sign

                timestamp = sent["X-Provider-Timestamp"]
                again = dict(
                    sign(
                        Request("GET", sent.target, "", [], b""),
                        KEY,
                        now=_seconds(timestamp),
                        scope=None,
                        org=None,
                    )
                )
                assert again["X-Provider-Signature"] == sent["X-Provider-Signature"]

    asyncio.run(run())


def _seconds(timestamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(timestamp).timestamp()


@pytest.mark.parametrize(
    "path", ["", "api", "http://x/", "/a b", "/a\r\nX: y", "/ü", "/a#b", "/a?b#c", "/\x00", "/a?"]
)
def test_paths_that_no_call_has(path: str) -> None:
    with pytest.raises(Problem):
        Call("GET", path)
    with pytest.raises(Problem):
        Call("TRACE", "/x")


@pytest.mark.parametrize(
    "first",
    [
        http(502, {"ok": False}),
        http(503, {"ok": False}),
        http(504, {}),
        http(429, {"ok": False}, "Retry-After: 0"),
        b"",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_safe_retries_keep_the_idempotency_key_and_sign_afresh(first: bytes, method: str) -> None:
    async def answer(writer, _sent, number) -> None:
        writer.write(first if number == 1 else OK)

    outcome, server = ask(answer, Call(method, "/api/x", body={} if method == "POST" else None))
    assert isinstance(outcome, Answered)
    assert outcome.attempts == 2
    if method == "POST":  # two legacy reads in one millisecond may have the same
        assert len({sent["X-Provider-Signature"] for sent in server.sent}) == 2
        assert len({sent["Idempotency-Key"] for sent in server.sent}) == 1
    replay = MemoryReplayStore()
    for sent in server.sent:
        verified(sent, replay)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_other_answers_are_final(status: int) -> None:
    """A 500 may have happened in the middle of a write; it is for people, or the job's own retry, to look at."""
    outcome, server = ask(
        always(http(status, {"ok": False, "reason": "some_reason"})), Call("POST", "/api/x", body={})
    )
    assert outcome.code == "some_reason"
    assert len(server.sent) == 1


def test_a_write_that_shares_its_signature_with_another_process_is_signed_anew() -> None:
    """Two workers, one path, one millisecond: one legacy signature. The second is refused as a replay of the first."""
    replay = MemoryReplayStore()

    async def answer(writer, sent, number) -> None:
        if number == 1:
            verified(sent, replay)  # the other worker's write came first
        try:
            verified(sent, replay)
        except Refused as refused:
            writer.write(http(refused.status, refused.body()))
            return
        writer.write(OK)

    outcome, server = ask(answer, Call("POST", "/api/x", body={}))
    assert (outcome.code, outcome.attempts) == ("ok", 2)
    assert len({sent["Idempotency-Key"] for sent in server.sent}) == 1
    assert len({sent["X-Provider-Signature"] for sent in server.sent}) == 2


@pytest.mark.parametrize(
    ("call", "requests"),
    [
        (Call("POST", "/api/x", body={}), 3),
        (Call("POST", "/api/x", body={}, attempts=1), 1),
        (Call("POST", "/api/x", body={}, signed=False), 1),
        (Call("GET", "/api/x"), 1),
    ],
)
def test_signing_anew_after_a_replay_ends(call: Call, requests: int) -> None:
    outcome, server = ask(always(http(401, {"ok": False, "reason": "replayed"})), call)
    assert (outcome.code, len(server.sent)) == ("replayed", requests)


def test_a_fault_of_our_own_is_an_outcome_and_hangs_nobody() -> None:
    """`call_many` waits for one outcome a pair: a call that ended without one made it wait for ever."""

    async def run() -> None:
        async with serve(always(OK)) as server, Shim() as shim, asyncio.timeout(5):
            calls = [Call("POST", "/api/x", body={"not": object()}), Call("GET", "/api/x")]
            codes = sorted(
                [
                    outcome.code
                    async for _, outcome in shim.call_many((server.target(), call) for call in calls)
                ]
            )
            assert codes == ["internal_error", "ok"]

    asyncio.run(run())


def test_never_an_older_scheme_after_a_refusal() -> None:
    for reason in ("algorithm_not_allowed", "downgrade_refused", "bad_signature"):
        _, server = ask(always(http(401, {"ok": False, "reason": reason})), Call("GET", "/api/x"))
        assert len(server.sent) == 1
        assert server.sent[0]["X-Provider-Signature"].startswith("sha256:")


def test_attempts_end_and_waiting_stays_inside_the_deadline() -> None:
    outcome, server = ask(always(http(503, {"ok": False})), Call("GET", "/api/x", attempts=3))
    assert (outcome.code, outcome.attempts, len(server.sent)) == ("http_503", 3, 3)
    started = time.monotonic()
    outcome, server = ask(
        always(http(429, {"ok": False, "reason": "rate_limited"}, "Retry-After: 60")),
        Call("GET", "/api/x", timeout=5),
    )
    assert (outcome.code, outcome.retry_after, len(server.sent)) == ("rate_limited", 60.0, 1)
    assert time.monotonic() - started < 2


def test_two_writes_in_one_millisecond_have_two_signatures(tmp_path, monkeypatch) -> None:
    from datetime import UTC, datetime

    file = tmp_path / "clock.json"
    clock.set_clock(file, at=datetime(2026, 3, 1, tzinfo=UTC))
    monkeypatch.setenv(clock.CLOCK_VARIABLE, str(file))

    async def run() -> list[str]:
        async with serve(always(OK)) as server, Shim() as shim:
            target = server.target("frozen")
            pairs = [(target, Call("POST", "/api/x", body={"n": number})) for number in range(20)]
            assert all([outcome.ok async for _, outcome in shim.call_many(pairs)])
            return [sent["X-Provider-Signature"] for sent in server.sent]

    assert len(set(asyncio.run(run()))) == 20


def test_proxies_and_netrc_are_ignored(tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password p\n")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(netrc))
    outcome, server = ask(always(OK))
    assert outcome.ok
    assert not server.sent[0].has("Authorization")


def test_cookies_are_not_kept() -> None:
    async def run() -> None:
        async with (
            serve(always(http(200, {"ok": True}, "Set-Cookie: a=b; Path=/"))) as server,
            Shim() as shim,
        ):
            for _ in range(2):
                await shim.call(server.target(), Call("GET", "/api/x"))
            assert not server.sent[1].has("Cookie")

    asyncio.run(run())


def test_a_name_that_moves_inside_is_not_called(monkeypatch) -> None:
    """DNS rebinding: what counts is the address at the moment of connecting (threat 121)."""

    async def run() -> None:
        async with serve(always(OK)) as server, Shim() as shim:
            monkeypatch.setattr(
                socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", ("127.0.0.1", server.port))]
            )
            outcome = await shim.call(
                server.target(base_url=f"https://rebound.example:{server.port}"), Call("GET", "/api/x")
            )
            assert isinstance(outcome, Unreachable)
            assert outcome.code == "ssrf_blocked"
            assert server.connections == 0

    asyncio.run(run())


def test_a_listed_name_is_resolved_once_and_called_by_its_name(monkeypatch) -> None:
    looked_up = []

    def look(host, *_args, **_kwargs):
        looked_up.append(host)
        return [(0, 0, 0, "", ("::1", 1)), (0, 0, 0, "", ("127.0.0.1", 1))]

    async def run() -> None:
        async with serve(always(OK)) as server, Shim() as shim:
            monkeypatch.setattr(socket, "getaddrinfo", look)
            target = server.target(
                base_url=f"http://acme.internal:{server.port}", private_hosts=("acme.internal",)
            )
            outcome = await shim.call(target, Call("GET", "/api/x"))
            assert outcome.ok  # nobody listens on the first address; the second was tried in the same attempt
            assert (outcome.attempts, looked_up) == (1, ["acme.internal"])
            assert server.sent[0]["Host"] == f"acme.internal:{server.port}"

    asyncio.run(run())


def test_one_bad_instance_starves_nobody() -> None:
    async def hang(_writer, _sent, _number) -> None:
        await asyncio.sleep(30)

    async def slow(writer, _sent, _number) -> None:
        await asyncio.sleep(0.02)
        writer.write(OK)

    async def run() -> None:
        async with serve(hang) as bad, serve(slow) as good, Shim(concurrency=10, per_host=4) as shim:
            hanging, answering = bad.target("bad"), good.target("good")
            pairs = [(hanging, Call("GET", "/api/x", timeout=2.0)) for _ in range(8)]
            pairs += [(answering, Call("GET", "/api/x", timeout=5)) for _ in range(30)]
            order = []
            async for target, outcome in shim.call_many(pairs):
                order.append((target.name, outcome.code))
                if len(order) == 30:
                    assert bad.connections == 4  # the other four wait for their host, not in anybody's way
        assert order.count(("good", "ok")) == 30
        assert order.count(("bad", "timed_out")) == 8
        assert order[:30] == [("good", "ok")] * 30  # all of them before the first deadline of the bad one
        assert good.most_running == 4

    asyncio.run(run())


def test_common_limit_and_backpressure() -> None:
    async def slow(writer, _sent, _number) -> None:
        await asyncio.sleep(0.01)
        writer.write(OK)

    async def run() -> None:
        read = 0

        def pairs(target: Target):
            nonlocal read
            for _ in range(200):
                read += 1
                yield target, Call("GET", "/api/x")

        async with serve(slow) as server, Shim(concurrency=5, per_host=100) as shim:
            taken = 0
            async for _, outcome in shim.call_many(pairs(server.target())):
                assert outcome.ok
                taken += 1
                assert read <= taken + 20
            assert (taken, server.most_running) == (200, 5)

    asyncio.run(run())


def test_many_calls_can_be_abandoned() -> None:
    async def hang(_writer, _sent, _number) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        async with serve(hang) as server, Shim(concurrency=4, per_host=4) as shim:
            stream = shim.call_many(
                [
                    (server.target(), Call("GET", "/api/x", timeout=0.3 if number == 0 else 20))
                    for number in range(8)
                ]
            )
            async for _, outcome in stream:
                assert outcome.code == "timed_out"
                break
            await stream.aclose()
            assert shim._hosts == {}
            assert not [task for task in asyncio.all_tasks() if "_queued" in repr(task)]

    asyncio.run(run())


def test_from_synchronous_code() -> None:
    async def run() -> None:
        async with serve(always(OK)) as server:
            outcome = await asyncio.to_thread(call_now, server.target(), Call("GET", "/api/x"))
            assert outcome.ok

    asyncio.run(run())


def test_no_secret_in_any_text() -> None:
    outcome, server = ask(always(OK))
    secret = KEY.secret.decode()
    target = server.target()
    assert secret not in repr(target) + str(target) + repr(outcome) + repr(Call("GET", "/x")) + repr(
        target.key
    )


def test_waiting_for_a_slot_counts_for_a_single_call() -> None:
    async def hang(_writer, _sent, _number) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        async with serve(hang) as server, Shim(per_host=1) as shim:
            first = asyncio.create_task(shim.call(server.target(), Call("GET", "/api/x", timeout=5)))
            await asyncio.sleep(0)
            outcome = await shim.call(server.target(), Call("GET", "/api/x", timeout=0.2))
            assert (outcome.code, outcome.attempts) == ("timed_out", 0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())
