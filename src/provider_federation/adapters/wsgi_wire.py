"""WSGI's environ to requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from provider_federation.adapters.gate import check_length
from provider_federation.protocol import Refused, Request

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

_log = logging.getLogger(__name__)
_PIECE = 65_536


def header_names(environ: Environ) -> Iterator[str]:
    """The names of the request's headers."""
    for name in environ:
        if name.startswith("HTTP_"):
            yield name[5:].replace("_", "-")
        elif name in {"CONTENT_TYPE", "CONTENT_LENGTH"} and environ[name]:
            yield name.replace("_", "-")


def request_of(environ: Environ, prefix: str = "") -> Request:
    """The request as it was on the wire, without its body. No raw target is no target, and so a refusal."""
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if environ.get("HTTP_SCRIPT_NAME") and environ["HTTP_SCRIPT_NAME"] == environ.get("SCRIPT_NAME"):
        _log.error(
            "the server took SCRIPT_NAME from a header, which no signature covers: set it where it starts"
        )
        target = ""
    elif not target:
        _log.error("this WSGI server tells no raw target (RAW_URI, REQUEST_URI): no signature can be checked")
    headers = [(name.title(), value) for name in header_names(environ) for value in _values(environ, name)]
    return Request(
        environ["REQUEST_METHOD"],
        target and prefix + target,
        environ.get("HTTP_HOST", ""),
        headers,
        b"",
        environ.get("REMOTE_ADDR", ""),
    )


def _values(environ: Environ, name: str) -> list[str]:
    """What was sent under that name: servers join what was sent twice, and a comma stands in none of ours."""
    key = name.replace("-", "_")
    value = str(environ.get("HTTP_" + key, environ.get(key)))
    return value.split(",") if key.startswith(("X_PROVIDER_", "HOST")) else [value]


def read_body(environ: Environ, limit: int) -> bytes:
    """The raw body, at most `limit` bytes of it in memory; also a chunked one, where the server takes it apart."""
    chunked = "HTTP_TRANSFER_ENCODING" in environ
    if chunked and not environ.get("wsgi.input_terminated"):
        raise Refused("bad_framing")
    declared = check_length(environ.get("CONTENT_LENGTH") or "0", limit)
    wanted = limit + 1 if chunked else declared
    body = bytearray()
    try:
        while len(body) < wanted and (piece := environ["wsgi.input"].read(min(_PIECE, wanted - len(body)))):
            body += piece
    except (
        Exception
    ) as error:  # what a server raises here is its own: a chunk without a size, a caller who left
        raise Refused("bad_framing") from error
    if len(body) > limit:
        raise Refused("body_too_large")
    if not chunked and len(body) < wanted:  # cut off, or read by somebody who came before us
        raise Refused("bad_framing")
    return bytes(body)
