"""The same echo behind each ASGI adapter; the header X-Test-App says which."""

# ruff: noqa: B008  FastAPI's own way of naming a dependency; Annotated cannot see a function's local names

from __future__ import annotations

import json
from typing import Any

from django.core.asgi import get_asgi_application
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount
from tests.attacks.servers import django_app, state

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.fastapi import Federation, Principal

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _send(send: Any, content: bytes, status: int = 200, kind: bytes = b"application/json") -> None:
    headers = [(b"content-length", str(len(content)).encode())]
    if kind:
        headers.append((b"content-type", kind))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The plain ASGI app. Its path may ask for odd answers."""
    if scope["type"] != "http":
        return
    body = (await _read(receive)).decode("latin-1")
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    told = state.facts(
        scope["provider_federation"], method=scope["method"], path=scope["path"], body=body,
        cookie=headers.get(b"cookie", ""), authorization=headers.get(b"authorization", ""),
    )  # fmt: skip
    match scope["path"]:
        case "/raise":
            raise RuntimeError("secret-of-the-house")
        case "/empty":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        case "/large" | "/stream":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
            )
            for _ in range(5 if scope["path"] == "/stream" else 500):
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case _:
            await _send(send, json.dumps(told).encode())


async def _control(scope: Any, receive: Any, send: Any) -> None:
    await _send(send, state.control(await _read(receive)))


def _fastapi(*, outer: Any = None) -> FastAPI:
    federation = Federation(state.gate())
    app = FastAPI(openapi_url=None)

    @app.get("/raise")
    async def _raise() -> None:
        state.facts(None)
        raise RuntimeError("secret-of-the-house")

    @app.get("/stream")
    async def _stream() -> StreamingResponse:
        return StreamingResponse((b"x" * 1000 for _ in range(5)), media_type="text/plain")

    @app.get("/large")
    async def _large() -> StreamingResponse:
        return StreamingResponse((b"x" * 1000 for _ in range(500)), media_type="text/plain")

    @app.get("/empty", status_code=204)
    async def _empty() -> None: ...

    @app.api_route("/only-signed", methods=METHODS)
    async def _signed(principal: Principal = Depends(federation.required)) -> dict[str, Any]:
        return state.facts(principal)

    @app.api_route("/only-write", methods=METHODS)
    async def _write(principal: Principal = Depends(federation.write)) -> dict[str, Any]:
        return state.facts(principal)

    @app.api_route("/{rest:path}", methods=METHODS)
    async def _echo(
        request: Request, principal: Principal | None = Depends(federation.optional)
    ) -> dict[str, Any]:
        return state.facts(
            principal, method=request.method, path=request.url.path, body=(await request.body()).decode("latin-1"),
            cookie=request.headers.get("cookie", ""), authorization=request.headers.get("authorization", ""),
        )  # fmt: skip

    federation.install(app)
    if outer is not None:
        app.add_middleware(outer)
    return app


class _ReadsFirst(BaseHTTPMiddleware):
    """A framework's middleware that reads the body and keeps it."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        await request.body()
        return await call_next(request)


class _Changes:
    """A middleware that changes the body on its way in."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def other() -> Any:
            message = await receive()
            return message | {"body": message.get("body", b"").upper()}

        await self.app(scope, other, send)


class _Swallows(_Changes):
    """A middleware that reads the body and gives nothing on."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _read(receive)
        await self.app(scope, receive, send)


class _Rewrites(_Changes):
    """A middleware that changes the answer on its way out."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def other(message: Any) -> None:
            await send(message | {"body": message["body"].upper()} if "body" in message else message)

        await self.app(scope, receive, other)


def _under_a_mount() -> Any:
    return Starlette(routes=[Mount("/sub", FederationMiddleware(echo, gate=state.gate()))])


APPS: dict[str, Any] = {
    "asgi": FederationMiddleware(echo, gate=state.gate()),
    "fastapi": _fastapi(),
    "django": get_asgi_application(),
    "around-django": FederationMiddleware(django_app.without_gate(get_asgi_application), gate=state.gate()),
    "prefix": FederationMiddleware(echo, gate=state.gate(prefix="/tenant")),
    "mounted": _under_a_mount(),
    "fastapi-reads-first": _fastapi(outer=_ReadsFirst),
    "changes": _Changes(FederationMiddleware(echo, gate=state.gate())),
    "swallows": _Swallows(FederationMiddleware(echo, gate=state.gate())),
    "rewrites": _Rewrites(FederationMiddleware(echo, gate=state.gate())),
    "control": _control,
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The dispatcher. The app's name is the test's own business and goes no further."""
    if scope["type"] != "http":
        return
    name = dict(scope["headers"]).get(b"x-test-app", b"asgi").decode()
    await APPS[name](scope, receive, send)
