"""What verification costs an ASGI app: a trivial handler under uvicorn, with the middleware and without it.

    python bench/asgi.py [--rounds 27] [--requests 120]         make bench-asgi

Every server is a process of its own (uvicorn, one worker). Three stacks: a FastAPI route that reads its body, on
httptools and uvloop, as `pip install "uvicorn[standard]"` gives; a bare ASGI function on h11 and asyncio, which is what
plain `pip install uvicorn` gives; and that function on httptools and uvloop, which does nothing at all. The target is
read on the first: the trivial handler of a framework that somebody uses. The others say what becomes of it elsewhere.
On the last a whole request costs about 30 µs, so that 0.70 would leave 13 µs to take a request in, verify it, and hand
it on: `verify` alone takes 9 to 16 of them, by whether the server has used the caches for itself meanwhile.

The load is prepared beforehand: each request is signed once with its own nonce and sent once, over 8 connections by
one process that only writes bytes and counts the answers. Servers with and without verification get requests of exactly
the same bytes, in turn, round after round; `none again` is the same bare server a second time (A/A), which says how far
to trust the rest. `verified` answers as the app does (the legacy scheme; v2 by a portal that asks for no signed answers:
ed25519 without a response key has this, hmac-sha256 only here), `answer signed` is v2 as it is shipped.

Two figures per row, both relative to `none`: requests a second as the client sees them, and the server's own CPU
time per request. The second depends less on the client and on what else the machine is doing. At the end the same
without sockets, in one process: what the middleware adds to a request, for diagnosis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import multiprocessing
import os
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.gate import Gate
from provider_federation.kit import clock
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Principal,
    Request,
    sign,
)

BODY = b'{"text":"' + b"x" * 2037 + b'"}'
AUTHORITY = "127.0.0.1"
SECRET = hashlib.sha256(b"bench: a secret").digest()
SEED = hashlib.sha256(b"bench: a seed").digest()
CONNECTIONS = 8
POLICY = Policy(instance="acme", authorities=(AUTHORITY,), accept=("sha256", "hmac-sha256", "ed25519"))


def _key(algorithm: str) -> Key:
    if algorithm != "ed25519":
        return Key("bench", algorithm, SECRET)
    import nacl.signing

    return Key("bench", algorithm, SEED, bytes(nacl.signing.SigningKey(SEED).verify_key))


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

    def verify(self, request: Request, fields: Any) -> tuple[Principal, None] | None:
        proven = super().verify(request, fields)
        return proven and (proven[0], None)


def _application(kind: Kind | None, stack: Stack) -> Any:
    handler = _route() if stack.framework == "FastAPI" else bare_handler
    if kind is None:
        return handler
    key = _key(kind.algorithm)
    make = Gate if kind.signs else _Unanswering
    store = MemoryReplayStore(capacity=1_000_000)
    return FederationMiddleware(
        handler,
        make(keyring=Keyring([key]), policy=POLICY, replay=store, response_key=key if kind.signs else None),
    )


def _serve(kind: Kind | None, stack: Stack, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        _application(kind, stack),
        http=stack.http,
        loop=stack.loop,
        lifespan="off",
        log_level="critical",
        access_log=False,
    )
    asyncio.run(uvicorn.Server(config).serve([listener]))


@dataclass(frozen=True)
class Kind:
    """What is sent, and whether the answer is signed."""

    name: str
    algorithm: str
    signs: bool = False


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
    Kind("v2 ed25519", "ed25519"),
    Kind("v2 ed25519, answer signed", "ed25519", signs=True),
)


@dataclass
class Server:
    """One server process."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What its threads have spent on a processor so far, by the scheduler's own nanoseconds (Linux)."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def serving(kind: Kind | None, stack: Stack) -> Iterator[Server]:
    """A server process on a free port; None is the bare handler."""
    listener = socket.socket(
        proto=socket.IPPROTO_TCP
    )  # as uvicorn's own: without it Nagle's algorithm stays on
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((AUTHORITY, 0))
    listener.listen(128)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(kind, stack, listener), daemon=True
    )
    process.start()
    assert process.pid is not None
    try:
        yield Server(listener.getsockname()[1], process.pid)
    finally:
        process.terminate()
        process.join(10)
        listener.close()


# The load


def prepared(algorithm: str, body: bytes, count: int) -> list[bytes]:
    """That many signed requests, as bytes."""
    key, now = _key(algorithm), clock.timestamp()
    legacy = algorithm == "sha256"
    made = []
    for number in range(count):
        bare = Request(
            "POST",
            f"/api/bench?n={number:06d}",
            AUTHORITY,
            [("Host", AUTHORITY), ("Content-Type", "application/json")],
            body,
        )
        headers = bare.headers + sign(bare, key, now=now, **({} if legacy else {"instance": "acme"}))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"POST {bare.target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


def send_all(port: int, requests: list[bytes]) -> float:
    """Seconds until all are answered 200. Raises when one is not."""
    chooser = selectors.EpollSelector()
    connections = [socket.create_connection((AUTHORITY, port)) for _ in range(CONNECTIONS)]
    waiting, answered = iter(requests), 0
    started = time.perf_counter()
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(next(waiting))
        chooser.register(connection, selectors.EVENT_READ)
    while answered < len(requests):
        for chosen, _ in chooser.select():
            connection = chosen.fileobj
            assert isinstance(connection, socket.socket)
            _read_answer(connection)
            answered += 1
            if (request := next(waiting, None)) is not None:
                connection.sendall(request)
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    chooser.close()
    return seconds


def _read_answer(connection: socket.socket) -> None:
    """One whole answer: all of ours end with the handler's two bytes."""
    received = connection.recv(65536)
    while not received.endswith(b"\r\n\r\n{}"):
        more = connection.recv(65536)
        if not more:
            break
        received += more
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received[:600].decode("latin-1"))


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
    seconds = send_all(server.port, requests)
    return Sample(len(requests) / seconds, (server.cpu_seconds() - before) / len(requests) * 1e6)


def rows(rounds: int = 27, requests: int = 120, stacks: tuple[Stack, ...] = STACKS) -> list[Row]:
    """For each stack and kind of request: none, none again, verified."""
    found = []
    for stack, kind in itertools.product(stacks, KINDS):
        with serving(None, stack) as none, serving(None, stack) as again, serving(kind, stack) as verified:
            servers = {"none": none, "none again": again, "verified": verified}
            samples = _rounds(servers, kind.algorithm, rounds, requests)
        found += [_row(stack.name, kind.name, server, samples) for server in servers]
    return found


def _rounds(servers: dict[str, Server], algorithm: str, rounds: int, count: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        load = prepared(algorithm, BODY, count)
        order = list(servers) if number % 2 else list(reversed(servers))
        for name in order:
            sample = _measure(servers[name], load)
            if number:  # the first round warms up
                samples[name].append(sample)
    return samples


def _row(stack: str, kind: str, server: str, samples: dict[str, list[Sample]]) -> Row:
    pairs = list(zip(samples["none"], samples[server], strict=True))
    return Row(
        stack, kind, server,
        statistics.median(one.rate for one in samples[server]), statistics.median(one.cpu_us for one in samples[server]),
        statistics.median(one.rate / none.rate for none, one in pairs),
        statistics.median(none.cpu_us / one.cpu_us for none, one in pairs),
    )  # fmt: skip


# Without sockets


def in_process(kind: Kind | None, algorithm: str, rounds: int = 9, count: int = 400) -> float:
    """Microseconds of CPU a request with the bare handler; the median of the rounds."""
    application = _application(kind, STACKS[-1])

    async def passed(load: list[tuple[dict[str, Any], bytes]]) -> float:
        started = time.thread_time_ns()
        for scope, body in load:
            await _call(application, scope, body)
        return (time.thread_time_ns() - started) / len(load) / 1000

    loads = ([_scope(raw) for raw in prepared(algorithm, BODY, count)] for _ in range(rounds))
    return statistics.median([asyncio.run(passed(load)) for load in loads])


async def _call(application: Any, scope: dict[str, Any], body: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(message)

    await application(scope, receive, send)


def _scope(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """What a server makes of these bytes."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    path, _, query = first.split(b" ")[1].partition(b"?")
    fields = (line.partition(b": ") for line in lines)
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "raw_path": path, "query_string": query,
        "headers": [(name.lower(), value) for name, _, value in fields], "client": (AUTHORITY, 1),
    }, body  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=27)
    parser.add_argument("--requests", type=int, default=120)
    options = parser.parse_args()
    print(
        "| stack | requests | server | a second | µs CPU | rate ratio | CPU ratio |\n|---|---|---|---:|---:|---:|---:|"
    )
    for row in rows(options.rounds, options.requests):
        print(
            f"| {row.stack} | {row.requests} | {row.server} | {row.rate:.0f} | {row.cpu_us:.0f}"
            f" | {row.rate_ratio:.2f} | {row.cpu_ratio:.2f} |",
            flush=True,
        )
    print("\n| in process | µs CPU, handler alone | µs CPU, verified |\n|---|---:|---:|")
    for kind in KINDS:
        bare, verified = (in_process(one, kind.algorithm, options.rounds) for one in (None, kind))
        print(f"| {kind.name} | {bare:.1f} | {verified:.1f} |")
    print(
        f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; medians of {options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
