"""Signing for requests, as the adapter that a session mounts for an instance's address:

    session = requests.Session()
    session.mount("https://acme.example/", FederationAdapter(Signer(key, instance="acme", ...)))

urllib3 repeats a request with the headers it has, and so with a used signature: its retries stay off. Each
`session.request` signs afresh, and no redirect is followed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from provider_federation.adapters.signing import AnswerRefused, Signer
from provider_federation.protocol import Request


class FederationAdapter(HTTPAdapter):
    """Signs what goes out, byte for byte, and verifies what comes back; raises AnswerRefused."""

    __attrs__ = [*HTTPAdapter.__attrs__, "signer"]

    def __init__(self, signer: Signer, **pool: Any) -> None:
        self.signer = signer
        super().__init__(max_retries=0, **pool)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **more: Any) -> requests.Response:
        """One attempt; the caller's own request stays unsigned. The answer is read whole before it is verified."""
        outgoing = request.copy()
        outgoing.headers["Accept-Encoding"] = "identity"  # the digest is over the bytes as they are sent
        unsigned = _request(outgoing)
        signed = self.signer.sign(unsigned)
        outgoing.headers.update(signed.headers[len(unsigned.headers) :])
        answer = super().send(outgoing, *arguments, **more)
        try:
            self._check(signed, answer)
        except (AnswerRefused, requests.RequestException):
            answer.close()
            raise
        return answer

    def _check(self, signed: Request, answer: requests.Response) -> None:
        headers = list(answer.raw.headers.items())  # also those that came twice
        redirect = 300 <= answer.status_code < 400
        if not redirect and "Content-Encoding" in answer.headers:
            raise AnswerRefused("wrongly_bound_answer", answer.status_code, "content_encoding_not_allowed")
        self.signer.check(signed, answer.status_code, headers, b"" if redirect else answer.content)


def _request(request: requests.PreparedRequest) -> Request:
    """The request as urllib3 will write it: it takes `path_url` as it is, and the Host header where there is one."""
    body = request.body if request.body is not None else b""
    if not isinstance(body, bytes | str):
        raise TypeError("a signed body is bytes or text, not a stream: its digest goes out before it")
    headers = [(_text(name), _text(value)) for name, value in request.headers.items()]
    authority = _text(request.headers.get("Host") or _authority(request.url or ""))
    raw = body.encode() if isinstance(body, str) else body
    return Request(request.method or "GET", request.path_url, authority, headers, raw)


def _authority(url: str) -> str:
    """What http.client puts into Host: without user and password, and without the scheme's own port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return host.removesuffix(usual) if usual else host


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
