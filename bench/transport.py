"""Which HTTP client carries the shim? Cold connections to many instances, every client in turn.

    python bench/transport.py [--instances 1000] [--concurrency 200] [--latency 0.05] [--rounds 9]

A server process listens on that many loopback addresses and answers after the latency; a candidate asks each
address once, over new connections. The unit is the ideal time, ceil(N/C) * latency: 1.0 would be a client
that costs nothing. Rounds are interleaved, so that a busy moment of the machine meets all candidates; the
median counts. `target` says whether a request target with dot segments and escapes arrives as it was given:
a signature covers those bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import httpx
import pyreqwest
import pyreqwest.client
import uvloop
import yarl

from provider_federation.portal.shim import Call, Shim, Target
from provider_federation.protocol import Key

BODY = json.dumps(
    {"ok": True, "items": [{"id": str(number), "totalCents": number * 100} for number in range(20)]}
).encode()
ODD_TARGET = "/a/../b/%7e%2F?x=%20&y=(1)"
KEY = Key("bench", "sha256", secret=b"bench-only-7Hq2Lw9Zx4")
_OPEN_FILES = 16_384

Candidate = Callable[[list[str], int, int], Coroutine[Any, Any, None]]


def addresses(count: int) -> list[str]:
    return [f"127.77.{number // 250}.{number % 250 + 1}" for number in range(count)]


# The server: its own process, so that it does not share the clients' event loop.


def serve(hosts: list[str], latency: float, pipe: Connection) -> None:
    raise_open_files()
    uvloop.run(_serve(hosts, latency, pipe))


async def _serve(hosts: list[str], latency: float, pipe: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            echo = head.split(b" ", 2)[1]
            await asyncio.sleep(latency)
            body = BODY if echo.startswith(b"/api") else echo
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    first = await asyncio.start_server(answer, hosts[0], 0, backlog=1024)
    port = first.sockets[0].getsockname()[1]
    await asyncio.start_server(answer, hosts[1:], port, backlog=1024)
    pipe.send(port)
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


# The candidates: each opens its client, asks every address once with at most C at a time, and closes it.


async def bounded(hosts: Iterable[str], concurrency: int, ask: Callable[[str], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(concurrency)

    async def one(host: str) -> None:
        async with slots:
            await ask(host)

    await asyncio.gather(*(one(host) for host in hosts))


async def with_aiohttp(hosts: list[str], port: int, concurrency: int) -> None:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:

        async def ask(host: str) -> None:
            async with session.get(yarl.URL(f"http://{host}:{port}/api/x", encoded=True)) as answer:
                assert await answer.read() == BODY

        await bounded(hosts, concurrency, ask)


async def with_pyreqwest(hosts: list[str], port: int, concurrency: int) -> None:
    async with pyreqwest.client.ClientBuilder().no_proxy().follow_redirects(enable=False).build() as client:

        async def ask(host: str) -> None:
            answer = await client.get(f"http://{host}:{port}/api/x").build().send()
            assert bytes(await answer.bytes()) == BODY

        await bounded(hosts, concurrency, ask)


async def with_httpx(hosts: list[str], port: int, concurrency: int) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=30) as client:

        async def ask(host: str) -> None:
            assert (await client.get(f"http://{host}:{port}/api/x")).content == BODY

        await bounded(hosts, concurrency, ask)


async def with_shim(hosts: list[str], port: int, concurrency: int) -> None:
    """What the portal really does: guard, signature, strict JSON and outcome included."""
    call = Call("GET", "/api/x")
    pairs = (
        (Target(host, f"http://{host}:{port}", "org", KEY, private_hosts=(host,)), call) for host in hosts
    )
    async with Shim(concurrency=concurrency) as shim:
        outcomes = [outcome async for _, outcome in shim.call_many(pairs)]
    assert len(outcomes) == len(hosts)
    assert all(outcome.ok for outcome in outcomes), next(outcome for outcome in outcomes if not outcome.ok)


async def odd_target(name: str, host: str, port: int) -> str:
    """The request target that arrives when ODD_TARGET is asked for."""
    url = f"http://{host}:{port}{ODD_TARGET}"
    if name.startswith("httpx"):
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url)).text
    if name.startswith("pyreqwest"):
        async with pyreqwest.client.ClientBuilder().no_proxy().build() as client:
            return await (await client.get(url).build().send()).text()
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(yarl.URL(url, encoded=True)) as answer,
    ):
        return await answer.text()


CANDIDATES: dict[str, tuple[Candidate, Callable[[], asyncio.AbstractEventLoop]]] = {
    "pyreqwest": (with_pyreqwest, asyncio.new_event_loop),
    "pyreqwest + uvloop": (with_pyreqwest, uvloop.new_event_loop),
    "aiohttp": (with_aiohttp, asyncio.new_event_loop),
    "aiohttp + uvloop": (with_aiohttp, uvloop.new_event_loop),
    "httpx": (with_httpx, asyncio.new_event_loop),
    "httpx + uvloop": (with_httpx, uvloop.new_event_loop),
    "shim (aiohttp, signed)": (with_shim, asyncio.new_event_loop),
    "shim + uvloop": (with_shim, uvloop.new_event_loop),
}


def measure(
    hosts: list[str], port: int, concurrency: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of every round by candidate."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CANDIDATES}
    for _ in range(rounds):
        for name, (candidate, new_loop) in CANDIDATES.items():
            with asyncio.Runner(loop_factory=new_loop) as runner:
                wall, processor = time.perf_counter(), time.process_time()
                runner.run(candidate(hosts, port, concurrency))
                results[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return results


def report(results: dict[str, list[tuple[float, float]]], ideal: float, kept: dict[str, bool]) -> None:
    print(f"{'client':24}{'median':>9}{'best':>9}{'worst':>9}{'ratio':>8}{'cpu':>9}  target")
    for name, rounds in results.items():
        walls = [wall for wall, _ in rounds]
        middle = statistics.median(walls)
        processor = statistics.median(cpu for _, cpu in rounds)
        times = "".join(f"{seconds:8.2f}s" for seconds in (middle, min(walls), max(walls)))
        target = "kept" if kept[name] else "CHANGED"
        print(f"{name:24}{times}{middle / ideal:8.1f}{processor:8.2f}s  {target}")


def raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE,
        (hard if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES else _OPEN_FILES, hard),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    hosts = addresses(options.instances)
    ideal = math.ceil(options.instances / options.concurrency) * options.latency
    raise_open_files()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(hosts, options.latency, theirs), daemon=True
    )
    server.start()
    port = ours.recv()
    measure(hosts[:50], port, options.concurrency, 1)  # imports and first-use costs are not what is asked
    kept = {name: asyncio.run(odd_target(name, hosts[0], port)) == ODD_TARGET for name in CANDIDATES}
    results = measure(hosts, port, options.concurrency, options.rounds)
    print(
        f"N={options.instances} C={options.concurrency} latency={options.latency * 1000:.0f} ms:",
        f"ideal {ideal:.2f} s; {options.rounds} interleaved rounds",
    )
    report(results, ideal, kept)
    ours.send(None)
    server.join(10)


if __name__ == "__main__":
    main()
