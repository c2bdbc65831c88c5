"""A Django project in one file behind the Django middleware; `python -m tests.attacks.legacy_django_app asgi|wsgi` serves it.

It prints the port that it listens on.
"""

from __future__ import annotations

import socket
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from tests.attacks.legacy_wire import KEY, NOW

from provider_federation.adapters.gate import Gate
from provider_federation.protocol import Keyring, MemoryReplayStore, Policy

GATE = Gate(
    keyring=Keyring([KEY]),
    policy=Policy(accept=("sha256",), max_body=100_000),
    replay=MemoryReplayStore(),
    now=lambda: NOW,
)
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for this test only",
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "provider_federation.adapters.django.FederationMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    PROVIDER_FEDERATION_GATE=GATE,
    DATA_UPLOAD_MAX_MEMORY_SIZE=100_000,
)


def echo(request: HttpRequest) -> JsonResponse:
    principal: Any = request.federation  # type: ignore[attr-defined]
    return JsonResponse(
        {
            "key": principal and principal.key_id,
            "cookies": dict(request.COOKIES),
            "body": request.body.decode("latin-1"),
        }
    )


urlpatterns = [re_path(r"^", echo)]


class _RawTarget(WSGIRequestHandler):
    """What gunicorn does: the target as sent, in RAW_URI."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "RAW_URI": self.path}

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


def main(kind: str) -> None:
    if kind == "asgi":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            print(listener.getsockname()[1], flush=True)
            uvicorn.Server(uvicorn.Config(get_asgi_application(), lifespan="off", log_level="critical")).run(
                [listener]
            )
    else:
        with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=_RawTarget) as server:
            print(server.server_port, flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
