"""Django's responses to ours and back, streamed or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.response import ResponseHeaders

from provider_federation.protocol import Response


def body_of_response(response: Any, limit: int) -> bytes:
    """What the view answered; reading a streamed answer stops once it is longer than `limit`."""
    if not response.streaming:
        return bytes(response.content)
    body = bytearray()
    for piece in response:
        body += piece
        if len(body) > limit:
            break
    return bytes(body)


async def body_of_response_async(response: Any, limit: int) -> bytes:
    """The same where the view ran in an event loop."""
    if not (response.streaming and response.is_async):
        return (
            await sync_to_async(body_of_response)(response, limit)
            if response.streaming
            else bytes(response.content)
        )
    body = bytearray()
    async for piece in response:
        body += piece
        if len(body) > limit:
            break
    return bytes(body)


def answer_of(response: HttpResponseBase, body: bytes) -> Response:
    """Django's response as ours."""
    return Response(response.status_code, list(response.items()), body)


def put(response: Any, answer: Response) -> None:
    """Turn Django's response into `answer`, cookies and what closes with it apart."""
    response.status_code = answer.status
    response.headers = ResponseHeaders(dict(answer.headers))
    if not response.streaming:
        response.content = answer.body
    elif response.is_async:
        response.streaming_content = _once(answer.body)
    else:
        response.streaming_content = [answer.body]


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def response_of(answer: Response, request: HttpRequest) -> HttpResponse:
    """Ours as Django's."""
    body = b"" if request.method == "HEAD" else answer.body
    return HttpResponse(body, status=answer.status, headers=dict(answer.headers))
