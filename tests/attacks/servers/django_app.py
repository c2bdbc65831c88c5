"""A Django project in one file, behind the Django middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path
from tests.attacks.servers import state

MIDDLEWARE = [
    "tests.attacks.servers.django_app.ReadsFirst",
    "provider_federation.adapters.django.FederationMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for this test only",
    MIDDLEWARE=MIDDLEWARE,
    PROVIDER_FEDERATION_GATE=state.gate(),
    LOGGING_CONFIG=None,
)


class ReadsFirst:
    """Stands before the federation middleware and does what a header says with the body."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        how = request.headers.get("X-Test-Body")
        if how == "body":
            assert request.body is not None
        elif how == "stream":
            request.read(1)
        return self.get_response(request)


def without_gate(build: Callable[[], Any]) -> Any:
    """A Django application for somebody else's middleware around it."""
    gate, settings.PROVIDER_FEDERATION_GATE = settings.PROVIDER_FEDERATION_GATE, None
    try:
        return build()
    finally:
        settings.PROVIDER_FEDERATION_GATE = gate


def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        state.facts(
            request.federation,
            method=request.method, path=request.path, body=request.body.decode("latin-1"),
            cookie=request.headers.get("cookie", ""), authorization=request.headers.get("authorization", ""),
            cookies=dict(request.COOKIES),
        )
    )  # fmt: skip


def fail(_request: HttpRequest) -> HttpResponse:
    state.facts(None)
    raise RuntimeError("secret-of-the-house")


def stream(_request: HttpRequest, count: int) -> StreamingHttpResponse:
    if hasattr(_request, "scope"):

        async def pieces() -> Any:
            for _ in range(count):
                yield b"x" * 1000

        return StreamingHttpResponse(pieces(), content_type="text/plain")
    return StreamingHttpResponse((b"x" * 1000 for _ in range(count)), content_type="text/plain")


urlpatterns = [
    path("raise", fail),
    path("stream", stream, {"count": 5}),
    path("large", stream, {"count": 500}),
    path("empty", lambda _request: HttpResponse(status=204)),
    re_path(r"^", echo),
]
