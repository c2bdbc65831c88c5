"""Signing for aiohttp (3.12 or later), as a client middleware:

    async with aiohttp.ClientSession(middlewares=(FederationMiddleware(Signer(key, instance="acme", ...)),)) as session:
        answer = await session.get(yarl.URL("https://acme.example/api/billing/list?range=d30", encoded=True))

aiohttp asks its middlewares anew for each hop and each of its own retries, so each attempt has a signature of its own.
"""

from __future__ import annotations

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.protocol import Request

_OURS = ("content-digest", "signature-input", "signature")


class FederationMiddleware:
    """Signs what goes out, byte for byte, and verifies what comes back; raises AnswerRefused.

    Give the address as `yarl.URL(text, encoded=True)` where its escapes matter: what yarl then sends is signed.
    """

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """One attempt."""
        _forget_last_attempt(request)
        request.headers["Accept-Encoding"] = "identity"  # the digest is over the bytes as they are sent
        unsigned = await _request(request)
        signed = self.signer.sign(unsigned)
        request.headers.extend(signed.headers[len(unsigned.headers) :])
        answer = await handler(request)
        try:
            await self._check(signed, answer)
        except (AnswerRefused, aiohttp.ClientError):
            answer.close()
            raise
        return answer

    async def _check(self, signed: Request, answer: ClientResponse) -> None:
        redirect = 300 <= answer.status < 400
        body = b"" if redirect else await answer.read()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
        self.signer.check(signed, answer.status, headers, body)


async def _request(request: ClientRequest) -> Request:
    body = await request.body.as_bytes() if request.body else b""
    headers = list(request.headers.items())
    return Request(request.method, request.url.raw_path_qs, request.headers["Host"], headers, body)


def _forget_last_attempt(request: ClientRequest) -> None:
    for name in [
        name for name in request.headers if name.lower() in _OURS or name.lower().startswith("x-provider-")
    ]:
        request.headers.popall(name, None)
