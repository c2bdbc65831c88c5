"""Loopback servers that answer as a test wants, byte by byte, and remember what they were sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from provider_federation.portal.shim import Call, Outcome, Shim, Target
from provider_federation.protocol import Key

KEY = Key("key-1", "sha256", secret=b"Vq3mT8xL0rW5nB2yKd7J")
HERE = ("127.0.0.1",)


@dataclass
class Sent:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.headers if key.lower() == name.lower())

    def has(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self.headers)


@dataclass
class Server:
    port: int = 0
    sent: list[Sent] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    most_running: int = 0

    def target(self, name: str = "acme", **extra) -> Target:
        fields = {
            "base_url": f"http://127.0.0.1:{self.port}",
            "org_id": "org-acme",
            "key": KEY,
            "private_hosts": HERE,
            **extra,
        }
        return Target(name=name, **fields)


Answer = Callable[[asyncio.StreamWriter, Sent, int], Awaitable[None]]


@asynccontextmanager
async def serve(answer: Answer, *, host: str = "127.0.0.1", tls=None) -> AsyncIterator[Server]:
    """`answer(writer, request, number)` writes whatever it likes; the connection is closed behind it."""
    server = Server()
    tasks: set[asyncio.Task] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        server.connections += 1
        server.running += 1
        server.most_running = max(server.most_running, server.running)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            sent = Sent(method, target, headers, await reader.readexactly(length))
            server.sent.append(sent)
            await answer(writer, sent, len(server.sent))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            server.running -= 1
            writer.close()

    listening = await asyncio.start_server(one, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http(status: int, body: bytes | dict, *headers: str) -> bytes:
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(raw)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def always(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter, _sent: Sent, _number: int) -> None:
        writer.write(data)

    return answer


def ask(answer: Answer, call: Call | None = None, **target) -> tuple[Outcome, Server]:
    """One call to a server that answers so."""

    async def run() -> tuple[Outcome, Server]:
        async with serve(answer) as server, Shim() as shim:
            return await shim.call(server.target(**target), call or Call("GET", "/api/x")), server

    return asyncio.run(run())
