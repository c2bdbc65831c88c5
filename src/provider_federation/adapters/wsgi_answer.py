"""What a WSGI app answers as one response, and responses to WSGI."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from provider_federation.adapters.wsgi_wire import App, Environ, StartResponse
from provider_federation.protocol import Response


def run(app: App, environ: Environ, limit: int) -> Response:
    """The app's whole answer; reading stops once it is longer than `limit`."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body = bytearray()

    def write(piece: bytes) -> None:
        if len(body) <= limit:
            body.extend(piece)

    def start_response(
        status: str, headers: list[tuple[str, str]], _exc_info: Any = None
    ) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return write

    pieces = app(environ, start_response)
    try:
        for piece in pieces:
            write(piece)
            if len(body) > limit:
                break
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    return Response(int(status.split(" ", 1)[0]), headers, bytes(body))


def start(response: Response, environ: Environ, start_response: StartResponse) -> list[bytes]:
    """The whole response, the WSGI way."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    start_response(f"{response.status} {phrase}", response.headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else response.body]
