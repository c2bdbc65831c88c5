"""Signing for httpx, sync and async, as a transport around another:

    httpx.Client(transport=FederationTransport(Signer(key, instance="acme", ...)))

A transport sees every request as it goes out, also the hops of a redirect, which an `httpx.Auth` does not: none is
followed. The caller's own request stays unsigned, so that sending it again signs it afresh.
"""

from __future__ import annotations

import httpx

from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.protocol import Request


class FederationTransport(httpx.BaseTransport):
    """Signs what goes out, byte for byte, and verifies what comes back; raises AnswerRefused."""

    def __init__(self, signer: Signer, transport: httpx.BaseTransport | None = None) -> None:
        self.signer = signer
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One attempt."""
        request.read()
        signed = _signed(self.signer, request)
        answer = self._transport.handle_request(_outgoing(request, signed))
        try:
            _check_redirect(self.signer, signed, answer)
            answer.read()
        finally:
            answer.close()
        return _checked(self.signer, signed, answer)

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()


class AsyncFederationTransport(httpx.AsyncBaseTransport):
    """FederationTransport for `httpx.AsyncClient`."""

    def __init__(self, signer: Signer, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.signer = signer
        self._transport = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One attempt."""
        await request.aread()
        signed = _signed(self.signer, request)
        answer = await self._transport.handle_async_request(_outgoing(request, signed))
        try:
            _check_redirect(self.signer, signed, answer)
            await answer.aread()
        finally:
            await answer.aclose()
        return _checked(self.signer, signed, answer)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()


def _signed(signer: Signer, request: httpx.Request) -> Request:
    headers = [(name, value) for name, value in _pairs(request.headers) if name.lower() != "accept-encoding"]
    headers.append(("Accept-Encoding", "identity"))  # the digest is over the bytes as they are sent
    target = request.url.raw_path.decode("ascii")
    return signer.sign(Request(request.method, target, request.headers["host"], headers, request.content))


def _outgoing(request: httpx.Request, signed: Request) -> httpx.Request:
    extensions = {**request.extensions, "target": signed.target.encode("ascii")}
    return httpx.Request(
        request.method, request.url, headers=signed.headers, content=request.content, extensions=extensions
    )


def _check_redirect(signer: Signer, signed: Request, answer: httpx.Response) -> None:
    """Before the body is read: nobody needs that of a redirect."""
    if 300 <= answer.status_code < 400:
        signer.check(signed, answer.status_code, _pairs(answer.headers), b"")


def _checked(signer: Signer, signed: Request, answer: httpx.Response) -> httpx.Response:
    if "content-encoding" in answer.headers:
        raise AnswerRefused("wrongly_bound_answer", answer.status_code, "content_encoding_not_allowed")
    signer.check(signed, answer.status_code, _pairs(answer.headers), answer.content)
    return answer


def _pairs(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw]
