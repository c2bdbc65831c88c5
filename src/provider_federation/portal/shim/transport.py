"""The wire: one request to one address, whole answer or a `Failed`. Nothing in here knows signatures, retries
or JSON.

aiohttp stands behind this interface (docs/decisions/0003-transport.md). The caller has resolved and checked
the address; the request goes there and nowhere else, while the Host header and the TLS name stay the
instance's own. Proxies and .netrc are ignored, redirects are not followed, connections are not kept, and
nothing is ever sent twice: each request carries a signature that may be used once.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
import yarl

from provider_federation.portal.shim.guard import Address, BaseUrl

_CHUNK = 65_536
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Failed(Exception):
    """No usable answer. `reason` is an outcome's code; `sent` is false when the request surely never left."""

    def __init__(self, reason: str, detail: str = "", *, sent: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.sent = sent
        self.status = status


@dataclass(frozen=True)
class Reply:
    """A whole answer. In `headers` names are lower case, and where one came twice the first counts; `pairs` are
    all of them as they came.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    pairs: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Wire:
    """What is sent, byte for byte: `target` is the raw path and query, `headers` go out as they are, in this
    order.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    max_bytes: int
    connect_seconds: float


class Transport:
    """An async context manager. Has no limit of its own on concurrency or time: the shim holds both."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or _default_tls()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_CHUNK,
            middlewares=(_once,),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(self, base: BaseUrl, address: Address, wire: Wire) -> Reply:
        """Send once to `address`; raises Failed. The caller bounds the time; cancelling closes the
        connection.
        """
        host = f"[{address}]" if address.version == 6 else str(address)
        try:
            async with self._session.request(
                wire.method,
                yarl.URL(f"{base.scheme}://{host}:{base.port}{wire.target}", encoded=True),
                headers=[("Host", base.authority), *wire.headers],
                data=wire.body or None,
                server_hostname=base.host if base.scheme == "https" else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=wire.connect_seconds),
            ) as answer:
                return await _read(answer, wire.max_bytes)
        except (
            aiohttp.ClientError,
            aiohttp.http_exceptions.HttpProcessingError,
            OSError,
            ValueError,
        ) as error:
            raise _failure(error) from error


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending GET, PUT and DELETE again by itself when a connection is lost: it would send
    the same signature, unseen by our own retries. It does so for its own exceptions, so they end here.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError, ValueError) as error:
        raise _failure(error) from error


async def _read(answer: aiohttp.ClientResponse, most: int) -> Reply:
    """The body, counted as it comes; an encoding is refused."""
    if 300 <= answer.status < 400:
        raise Failed("redirect_refused", status=answer.status)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        raise Failed("encoding_not_allowed", encoding[:40], status=answer.status)
    too_large = Failed("response_too_large", f"more than {most} bytes", status=answer.status)
    if (answer.content_length or 0) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > most:
            raise too_large
        parts.append(chunk)
    headers = {name.lower(): answer.headers[name] for name in answer.headers}
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
    return Reply(answer.status, headers, b"".join(parts), pairs)


def _failure(error: Exception) -> Failed:
    """Aiohttp's and the system's errors in our words. Order matters: the first are special cases of the later
    ones.
    """
    match error:
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Failed("tls_failed", type(error).__name__, sent=False)
        case aiohttp.ConnectionTimeoutError():
            return Failed("connect_failed", "no connection in time", sent=False)
        case aiohttp.ClientConnectorError():
            return Failed("connect_failed", error.os_error.strerror or "", sent=False)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError():
            return Failed("connection_lost")
        case _:
            return Failed("bad_http", type(error).__name__)


@functools.cache
def _default_tls() -> ssl.SSLContext:
    """The system's trust store, TLS 1.2 or later; loading it takes long enough to do it once per process."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
