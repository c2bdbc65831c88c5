"""Django's requests as ours, whichever of ASGI and WSGI they came by."""

from __future__ import annotations

import io
import logging
from typing import Any

from django.http import HttpRequest

from provider_federation.adapters import asgi_wire, wsgi_wire
from provider_federation.adapters.asgi import SCOPE_KEY
from provider_federation.adapters.wsgi import ENVIRON_KEY
from provider_federation.protocol import Principal, Refused, Request

_log = logging.getLogger(__name__)


def is_known_outside(request: HttpRequest) -> bool:
    """Whether the ASGI or WSGI middleware runs around Django, and so has looked at this request."""
    return SCOPE_KEY in getattr(request, "scope", ()) or ENVIRON_KEY in request.META


def found_outside(request: HttpRequest) -> Principal | None:
    """What it found."""
    principal: Principal | None = getattr(request, "scope", {}).get(SCOPE_KEY) or request.META.get(
        ENVIRON_KEY
    )
    return principal


def head_of(request: HttpRequest, prefix: str) -> Request:
    """The request as it was on the wire, without its body."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        return asgi_wire.request_of(scope, dict(scope["headers"]), prefix)
    return wsgi_wire.request_of(request.META, prefix)


def read_body(request: HttpRequest, limit: int) -> bytes:
    """The raw body, at most `limit` bytes of it; Django's own `request.body` gives it once more afterwards."""
    stream: Any = request
    if hasattr(request, "_body"):
        body = request.body
    elif stream._read_started:  # noqa: SLF001  what request.body itself asks
        _log.error("another middleware read the body as a stream: FederationMiddleware must come first")
        raise Refused("internal_error")
    else:
        is_asgi = hasattr(request, "scope")
        body = stream._stream.read(limit + 1) if is_asgi else wsgi_wire.read_body(request.META, limit)  # noqa: SLF001  Django has no other way to read a part
        stream._stream = io.BytesIO(body)  # noqa: SLF001  what was read is put back
    if len(body) > limit:
        raise Refused("body_too_large")
    return bytes(body)
