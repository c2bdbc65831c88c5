"""The load of bench/asgi.py: signed requests as bytes, and a client that only writes them and counts the answers."""

from __future__ import annotations

import hashlib
import selectors
import socket
import time
from collections.abc import Iterator

from provider_federation.kit import clock
from provider_federation.protocol import Key, Request, sign

AUTHORITY = "127.0.0.1"
SECRET = hashlib.sha256(b"bench: a secret").digest()
SEED = hashlib.sha256(b"bench: a seed").digest()


def key_of(algorithm: str) -> Key:
    if algorithm != "ed25519":
        return Key("bench", algorithm, SECRET)
    import nacl.signing

    return Key("bench", algorithm, SEED, bytes(nacl.signing.SigningKey(SEED).verify_key))


def _moments() -> Iterator[float]:
    """Now, and each time a millisecond later: two legacy requests of one millisecond would be a replay."""
    last = 0.0
    while True:
        last = max(clock.timestamp(), last + 0.0011)
        yield last


_MOMENTS = _moments()


def prepared(algorithm: str, body: bytes, count: int) -> list[bytes]:
    """That many signed requests, as bytes."""
    key = key_of(algorithm)
    legacy = algorithm == "sha256"
    made = []
    for _ in range(count):
        bare = Request(
            "POST",
            "/api/bench",
            AUTHORITY,
            [("Host", AUTHORITY), ("Content-Type", "application/json")],
            body,
        )
        headers = bare.headers + sign(
            bare, key, now=next(_MOMENTS), **({} if legacy else {"instance": "acme"})
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"POST {bare.target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


def send_all(connections: list[socket.socket], requests: list[bytes]) -> float:
    """Seconds until all are answered 200. Raises when one is not."""
    waiting, answered = iter(requests), 0
    with selectors.EpollSelector() as chooser:
        started = time.perf_counter()
        for connection in connections:
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
        return time.perf_counter() - started


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
