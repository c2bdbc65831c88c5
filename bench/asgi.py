"""What verification costs an ASGI app: a trivial handler under uvicorn, with the middleware and without it.

    python bench/asgi.py [--rounds 9] [--requests 1500]

Every server is a process of its own (uvicorn, one worker). Three stacks: a bare ASGI function on httptools and uvloop,
which does nothing at all and is the hardest to stand beside; the same on h11 and asyncio, which is what plain
`pip install uvicorn` gives; and a FastAPI route that reads its body, on httptools and uvloop. The load is prepared beforehand: each
request is signed once with its own nonce and sent once, over 8 connections by one process that only writes bytes
and counts the answers. Servers with and without verification get requests of exactly the same bytes, in turn, round
after round; `none again` is the same bare server a second time (A/A), which says how far to trust the rest.

Two figures per row, both relative to `none`: requests a second as the client sees them, and the server's own CPU
time per request. The second does not depend on the client nor on what else the machine is doing.
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

from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy, Request, sign

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


def _application(algorithm: str | None, stack: Stack) -> Any:
    handler = _route() if stack.framework == "FastAPI" else bare_handler
    if algorithm is None:
        return handler
    from provider_federation.adapters.asgi import FederationMiddleware

    key = _key(algorithm)
    more: dict[str, Any] = {"response_key": key} if algorithm == "ed25519" else {}
    store = MemoryReplayStore(capacity=1_000_000)
    return FederationMiddleware(handler, keyring=Keyring([key]), policy=POLICY, replay=store, **more)


def _serve(algorithm: str | None, stack: Stack, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        _application(algorithm, stack),
        http=stack.http,
        loop=stack.loop,
        lifespan="off",
        log_level="critical",
        access_log=False,
    )
    asyncio.run(uvicorn.Server(config).serve([listener]))


@dataclass(frozen=True)
class Stack:
    """What runs the handler."""

    name: str
    http: Any
    loop: Any
    framework: str


STACKS = (
    Stack("bare ASGI, httptools, uvloop", "httptools", "uvloop", ""),
    Stack("bare ASGI, h11, asyncio", "h11", "asyncio", ""),
    Stack("FastAPI, httptools, uvloop", "httptools", "uvloop", "FastAPI"),
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
def serving(algorithm: str | None, stack: Stack = STACKS[0]) -> Iterator[Server]:
    """A server process on a free port; None is the bare handler."""
    listener = socket.socket(
        proto=socket.IPPROTO_TCP
    )  # as uvicorn's own: without it Nagle's algorithm stays on
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((AUTHORITY, 0))
    listener.listen(128)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(algorithm, stack, listener), daemon=True
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
class Row:
    """`rate` and `cpu_us` are medians; `rate_ratio` and `cpu_ratio` medians of rounds, relative to `none` (1.0 = free).

    `cpu_ratio` is none's CPU time over this one's, so that both ratios read alike.
    """

    stack: str
    requests: str
    server: str
    rate: float
    cpu_us: float
    rate_ratio: float
    cpu_ratio: float


@dataclass(frozen=True)
class Sample:
    rate: float
    cpu_us: float


def _measure(server: Server, requests: list[bytes]) -> Sample:
    before = server.cpu_seconds()
    seconds = send_all(server.port, requests)
    return Sample(len(requests) / seconds, (server.cpu_seconds() - before) / len(requests) * 1e6)


KINDS = (("legacy sha256", "sha256"), ("v2 hmac-sha256", "hmac-sha256"), ("v2 ed25519", "ed25519"))


def rows(rounds: int = 9, requests: int = 1500, stacks: tuple[Stack, ...] = STACKS) -> list[Row]:
    """For each stack and kind of request: none, none again, verified."""
    found = []
    for stack, (name, algorithm) in itertools.product(stacks, KINDS):
        with (
            serving(None, stack) as none,
            serving(None, stack) as again,
            serving(algorithm, stack) as verified,
        ):
            servers = {"none": none, "none again": again, "verified": verified}
            samples = _rounds(servers, algorithm, rounds, requests)
        found += [_row(stack.name, name, server, samples) for server in servers]
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=1500)
    options = parser.parse_args()
    for row in rows(options.rounds, options.requests):
        print(
            f"{row.stack:30} {row.requests:16} {row.server:11} {row.rate:8.0f}/s {row.cpu_us:7.0f} µs CPU"
            f"   rate {row.rate_ratio:5.2f}   CPU {row.cpu_ratio:5.2f}"
        )
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
