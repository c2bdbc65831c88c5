"""What verification costs an ASGI app: a trivial handler under uvicorn, with the middleware and without it.

    python bench/asgi.py [--rounds 48] [--requests 160]         make bench-asgi

Every server is a process of its own (uvicorn, one worker). Three stacks: a FastAPI route that reads its body, on
httptools and uvloop, as `pip install "uvicorn[standard]"` gives; a bare ASGI function on h11 and asyncio, which is what
plain `pip install uvicorn` gives; and that function on httptools and uvloop, which does nothing at all.

The load is prepared beforehand: each request is for the same URL, has a 2 KB body, is signed once with its own nonce (for
legacy, at its own millisecond) and sent once, over 8 connections that stay open, by one process that only writes bytes
and counts the answers. Servers with and without verification get requests of exactly the same bytes, in every order,
round after round, and each row's servers are started anew six times (24 times where a target is read); `none again` is the same bare server a second time
(A/A), which says how far to trust the rest: what is verified is held against the mean of the two.
`verified` answers as the app does; `answer signed` is v2 as it is shipped (only ed25519 without a response key goes
without). The memory of used requests is that of the process; the row `in SQLite` has the file that `from_environment`
takes where nothing else is said, and a thread around it: there the disk, which has each request in hand before the
handler runs, says how many a second there are, and no target is read.

The targets (TARGETS) are for requests a second with verification, of those without. They are read on the first stack:
the trivial handler of a framework that somebody uses. For legacy they are read on sha256; for v2 on hmac-sha256, once
for verification alone, which is what was asked, and once with the answer signed, as it is shipped, which is more. What
they are not read on is shown beside it:
- ed25519: libsodium's own time for one verification, and another signature, is as much as a whole request costs here.
  The report says what would be left if everything else were free.
- the function that does nothing, on httptools: there a whole request costs about 35 µs, so that 0.70 would leave 15 µs
  to take it in, verify it, digest 2 KB, sign the answer and let uvicorn write three headers more.

Two figures per row, both relative to `none`: requests a second as the client sees them, which the targets are for, and
the server's own CPU time per request, which depends less on the client and on what else the machine is doing. At the end
the same without sockets, in one process: what the middleware adds to a request, for diagnosis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import socket
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi_load import AUTHORITY, SEED, key_of, prepared, send_all

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.gate import Gate
from provider_federation.adapters.replay import SqliteReplayStore
from provider_federation.protocol import (
    Keyring,
    MemoryReplayStore,
    Policy,
    Principal,
)
from provider_federation.protocol.values import Head

BODY = b'{"text":"' + b"x" * 2037 + b'"}'
CONNECTIONS = 8
POLICY = Policy(instance="acme", authorities=(AUTHORITY,), accept=("sha256", "hmac-sha256", "ed25519"))


# The servers


async def bare_handler(_scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers two bytes."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def _route() -> Any:
    """The same with FastAPI."""
    import fastapi

    async def bench(request: Any) -> Any:
        await request.body()
        return fastapi.Response(b"{}", media_type="application/json")

    bench.__annotations__ = {"request": fastapi.Request, "return": fastapi.Response}
    app = fastapi.FastAPI(openapi_url=None)
    app.add_api_route("/api/bench", bench, methods=["POST"])
    return app


class _Unanswering(Gate):
    """A gate whose answers go out as the app made them."""

    def verify(self, head: Head, fields: Any, count: int) -> tuple[Principal, None] | None:
        proven = super().verify(head, fields, count)
        return proven and (proven[0], None)


def _application(kind: Kind | None, stack: Stack, memory: Path | None = None) -> Any:
    handler = _route() if stack.framework == "FastAPI" else bare_handler
    if kind is None:
        return handler
    key = key_of(kind.algorithm)
    make = Gate if kind.signs or kind.algorithm == "sha256" else _Unanswering
    store = SqliteReplayStore(memory) if memory else MemoryReplayStore(capacity=1_000_000)
    return FederationMiddleware(
        handler,
        make(keyring=Keyring([key]), policy=POLICY, replay=store, response_key=key if kind.signs else None),
    )


def _serve(kind: Kind | None, stack: Stack, listener: socket.socket, memory: Path | None) -> None:
    import uvicorn

    config = uvicorn.Config(
        _application(kind, stack, memory),
        http=stack.http,
        loop=stack.loop,
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=600,
    )
    asyncio.run(uvicorn.Server(config).serve([listener]))


@dataclass(frozen=True)
class Kind:
    """What is sent, whether the answer is signed, and whether the memory is a file."""

    name: str
    algorithm: str
    signs: bool = False
    in_file: bool = False


@dataclass(frozen=True)
class Stack:
    """What runs the handler."""

    name: str
    http: Any
    loop: Any
    framework: str


STACKS = (
    Stack("FastAPI, httptools, uvloop", "httptools", "uvloop", "FastAPI"),
    Stack("bare ASGI, h11, asyncio", "h11", "asyncio", ""),
    Stack("bare ASGI, httptools, uvloop", "httptools", "uvloop", ""),
)
KINDS = (
    Kind("legacy sha256", "sha256"),
    Kind("v2 hmac-sha256", "hmac-sha256"),
    Kind("v2 hmac-sha256, answer signed", "hmac-sha256", signs=True),
    Kind("v2 hmac-sha256, answer signed, in SQLite", "hmac-sha256", signs=True, in_file=True),
    Kind("v2 ed25519", "ed25519"),
    Kind("v2 ed25519, answer signed", "ed25519", signs=True),
)
SERVERS = ("none", "none again", "verified")
STARTS = 6
"""How often each row's servers are started anew: one and the same server may be a tenth faster or slower than the next."""
TARGETS = {KINDS[0].name: 0.80, KINDS[1].name: 0.70, KINDS[2].name: 0.70}
"""At least this of the requests a second without verification, on the first stack."""


@dataclass
class Server:
    """One server process, and the connections to it."""

    connections: list[socket.socket]
    pid: int

    def cpu_seconds(self) -> float:
        """What its threads have spent on a processor so far, by the scheduler's own nanoseconds (Linux)."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def serving(kind: Kind | None, stack: Stack) -> Iterator[Server]:
    """A server process on a free port; None is the bare handler."""
    # As uvicorn's own: without naming TCP, Nagle's algorithm stays on.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((AUTHORITY, 0))
    listener.listen(128)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stays_open:
        memory = Path(directory, "replay.sqlite3") if kind and kind.in_file else None
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(kind, stack, listener, memory), daemon=True
        )
        process.start()
        assert process.pid is not None
        try:
            connections = [socket.create_connection(listener.getsockname()) for _ in range(CONNECTIONS)]
            for connection in connections:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stays_open.enter_context(connection)
            yield Server(connections, process.pid)
        finally:
            stays_open.close()
            process.terminate()
            process.join(10)
            listener.close()


# The measurement


@dataclass(frozen=True)
class Sample:
    """One round of one server: requests a second, and microseconds of CPU a request."""

    rate: float
    cpu_us: float


@dataclass(frozen=True)
class Row:
    """`rate` and `cpu_us` are medians; the ratios medians of rounds, relative to `none` (1.0 = free): both read alike,
    `cpu_ratio` is none's CPU time over this one's.
    """

    stack: str
    requests: str
    server: str
    rate: float
    cpu_us: float
    rate_ratio: float
    cpu_ratio: float


def _measure(server: Server, requests: list[bytes]) -> Sample:
    before = server.cpu_seconds()
    seconds = send_all(server.connections, requests)
    return Sample(len(requests) / seconds, (server.cpu_seconds() - before) / len(requests) * 1e6)


def rows(rounds: int = 48, requests: int = 160, stacks: tuple[Stack, ...] = STACKS) -> list[Row]:
    """For each stack and kind of request: none, none again, verified."""
    found = []
    for stack, kind in itertools.product(stacks, KINDS):
        if kind.in_file and stack is not stacks[0]:
            continue
        samples: dict[str, list[Sample]] = {name: [] for name in SERVERS}
        is_target = stack is stacks[0] and kind.name in TARGETS
        for start in range(STARTS * 4 if is_target else STARTS):
            taken = _started(stack, kind, start, rounds // STARTS, requests)
            for name in SERVERS:
                samples[name] += taken[name]
        found += [_row(stack.name, kind.name, name, samples) for name in SERVERS]
    return found


def _started(stack: Stack, kind: Kind, start: int, rounds: int, requests: int) -> dict[str, list[Sample]]:
    """Samples of three fresh servers, which were started in another order each time."""
    order = list(itertools.permutations(SERVERS))[start % 6]
    with contextlib.ExitStack() as running:
        started = {
            name: running.enter_context(serving(kind if name == "verified" else None, stack))
            for name in order
        }
        return _rounds({name: started[name] for name in SERVERS}, kind.algorithm, rounds, requests)


def _rounds(servers: dict[str, Server], algorithm: str, rounds: int, count: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    orders = list(itertools.permutations(servers))
    for number in range(rounds + 1):
        load = prepared(algorithm, BODY, count)
        for name in orders[number % len(orders)]:
            sample = _measure(servers[name], load)
            if number:  # the first round warms up
                samples[name].append(sample)
    return samples


def _row(stack: str, kind: str, server: str, samples: dict[str, list[Sample]]) -> Row:
    # The bare handler's own two servers differ by up to a tenth: what is verified is held against both.
    bare = samples["none"], samples["none again" if server == "verified" else "none"]
    nones = [Sample((a.rate + b.rate) / 2, (a.cpu_us + b.cpu_us) / 2) for a, b in zip(*bare, strict=True)]
    pairs = list(zip(nones, samples[server], strict=True))
    return Row(
        stack, kind, server,
        statistics.median(one.rate for one in samples[server]), statistics.median(one.cpu_us for one in samples[server]),
        statistics.median(one.rate / none.rate for none, one in pairs),
        statistics.median(none.cpu_us / one.cpu_us for none, one in pairs),
    )  # fmt: skip


# Without sockets


def in_process(kind: Kind, stack: Stack, rounds: int = 5, count: int = 400) -> tuple[float, float]:
    """Microseconds a request takes alone and with the middleware, one after the other: the fifth that was quickest ends
    there, so that nobody who interrupts is counted.
    """
    bare, verified = _application(None, stack), _application(kind, stack)
    times: tuple[list[int], list[int]] = [], []

    async def passed() -> None:
        for raw in prepared(kind.algorithm, BODY, count):
            for application, taken in zip((bare, verified), times, strict=True):
                taken.append(await _call(application, *_scope(raw)))

    for _ in range(rounds):
        asyncio.run(passed())
    alone, both = (sorted(taken)[len(taken) // 5] / 1000 for taken in times)
    return alone, both


async def _call(application: Any, scope: dict[str, Any], body: bytes) -> int:
    """Nanoseconds."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(message)

    started = time.perf_counter_ns()
    await application(scope, receive, send)
    return time.perf_counter_ns() - started


def _scope(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """What a server makes of these bytes."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    path, _, query = first.split(b" ")[1].partition(b"?")
    fields = (line.partition(b": ") for line in lines)
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "", "state": {},
        "path": path.decode(), "raw_path": path, "query_string": query, "asgi": {"version": "3.0"},
        "headers": [(name.lower(), value) for name, _, value in fields], "client": (AUTHORITY, 1),
    }, body  # fmt: skip


# The report


def libsodium() -> tuple[float, float]:
    """Microseconds that PyNaCl takes to verify and to sign 500 bytes, nothing around it."""
    from nacl.signing import SigningKey

    signer, message = SigningKey(SEED), b"m" * 500
    signed = signer.sign(message)

    def quickest(work: Callable[[], object]) -> float:
        return min(timeit.repeat(work, number=50, repeat=21)) / 50 * 1e6

    return quickest(lambda: signer.verify_key.verify(signed)), quickest(lambda: signer.sign(message))


def verdicts(found: list[Row]) -> list[str]:
    """One line for each target."""
    lines = []
    for row in found:
        limit = TARGETS.get(row.requests)
        if limit and row.stack == STACKS[0].name and row.server == "verified":
            word = "holds" if row.rate_ratio >= limit else "MISSED"
            lines.append(
                f"{row.requests} ({row.stack}): {row.rate_ratio:.2f} of none, limit {limit:.2f}: {word}"
            )
    return lines


def report(found: list[Row]) -> str:
    """The section of docs/performance.md."""
    lines = [
        "| stack | requests | server | a second | CPU, µs | rate of none | CPU of none |",
        "|---|---|---|---:|---:|---:|---:|",
        *(
            f"| {row.stack} | {row.requests} | {row.server} | {row.rate:.0f} | {row.cpu_us:.0f}"
            f" | {row.rate_ratio:.2f} | {row.cpu_ratio:.2f} |"
            for row in found
        ),
        "", "| in process | requests | alone, µs | verified, µs |", "|---|---|---:|---:|",
    ]  # fmt: skip
    for stack, kind in itertools.product((STACKS[0], STACKS[-1]), (one for one in KINDS if not one.in_file)):
        alone, both = in_process(kind, stack)
        lines.append(f"| {stack.framework or 'bare ASGI'} | {kind.name} | {alone:.1f} | {both:.1f} |")
    none = statistics.median(
        row.cpu_us for row in found if row.stack == STACKS[0].name and row.server == "none"
    )
    lines += [
        "",
        _ceiling(none),
        "",
        *(f"- {line}" for line in verdicts(found)),
    ]  # fmt: skip
    return "\n".join(lines)


def _ceiling(none: float) -> str:
    verify_us, sign_us = libsodium()
    return (
        f"libsodium alone takes {verify_us:.0f} µs to verify an ed25519 signature and {sign_us:.0f} µs to make one. Beside"
        f" the {none:.0f} µs of a FastAPI request that leaves at most {none / (none + verify_us):.2f} of none, or"
        f" {none / (none + verify_us + sign_us):.2f} with a signed answer, if all else were free."
    )


def main() -> None:
    """Measure, print, write."""
    import protocol  # which imports this

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--requests", type=int, default=160)
    options = parser.parse_args()
    found = rows(options.rounds, options.requests)
    text = report(found)
    protocol.write("asgi", f"{protocol.machine(options.rounds)}\n\n{text}", by="make bench-asgi")
    print(text)


if __name__ == "__main__":
    main()
