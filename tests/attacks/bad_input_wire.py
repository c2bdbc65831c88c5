"""A client that sends what it is told, byte for byte, and an answer as it came."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """`status` is 0 when the server closed the connection without a word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One kept-alive connection to a loopback port; `sent` counts requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0
        self._connection: http.client.HTTPConnection | None = None

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """The target goes out as it is; a connection that the server ended meanwhile is opened again."""
        self.sent += 1
        try:
            return self._once(method, target, headers, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            return self._once(method, target, headers, body)

    def raw(self, data: bytes, *, half_close: bool = False) -> Answer:
        """Bytes on a connection of their own; the first answer."""
        self.sent += 1
        with socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS) as connection:
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass  # the server has answered and closed before all of it was out: its answer is read below
            return read_answer(connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        connection = self._connection
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method in {"POST", "PUT", "PATCH"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if answer.will_close:
            self.close()
        return Answer(answer.status, found, content)


def read_answer(connection: socket.socket) -> Answer:
    """What comes back on a raw connection, up to the end that its Content-Length tells."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        content = answer.read()
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, {}, b"")
    finally:
        answer.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
