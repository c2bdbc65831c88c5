"""The same echo behind each WSGI adapter; the header X-Test-App says which."""

from __future__ import annotations

import json
from typing import Any

from django.core.wsgi import get_wsgi_application
from flask import Flask, Response, request
from tests.attacks.servers import django_app, state

from provider_federation.adapters.flask import Federation
from provider_federation.adapters.wsgi import FederationMiddleware

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def echo(environ: Any, start_response: Any) -> Any:
    """The plain WSGI app. Its path may ask for odd answers."""
    told = state.facts(
        environ["provider_federation"], method=environ["REQUEST_METHOD"], path=environ["PATH_INFO"],
        body=environ["wsgi.input"].read().decode("latin-1"), cookie=environ.get("HTTP_COOKIE", ""),
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
    )  # fmt: skip
    match environ["PATH_INFO"]:
        case "/raise":
            raise RuntimeError("secret-of-the-house")
        case "/empty":
            start_response("204 No Content", [])
            return []
        case "/large" | "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return (b"x" * 1000 for _ in range(5 if environ["PATH_INFO"] == "/stream" else 500))
    content = json.dumps(told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


def _control(environ: Any, start_response: Any) -> Any:
    told = state.control(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(told)))])
    return [told]


def _flask(*, reads_first: bool = False) -> Flask:
    federation = Federation(state.gate())
    app = Flask("echo")
    app.url_map.merge_slashes = False

    if reads_first:
        app.before_request(lambda: request.get_data() and None)

    @app.get("/raise")
    def _raise() -> None:
        state.facts(None)
        raise RuntimeError("secret-of-the-house")

    @app.get("/stream")
    def _stream() -> Response:
        return Response((b"x" * 1000 for _ in range(5)), mimetype="text/plain")

    @app.get("/large")
    def _large() -> Response:
        return Response((b"x" * 1000 for _ in range(500)), mimetype="text/plain")

    @app.get("/empty")
    def _empty() -> tuple[str, int]:
        return "", 204

    @app.route("/only-signed", methods=METHODS, provide_automatic_options=False)
    @federation.required
    def _signed() -> dict[str, Any]:
        return state.facts(federation.principal)

    @app.route("/only-write", methods=METHODS, provide_automatic_options=False)
    @federation.write
    def _write() -> dict[str, Any]:
        return state.facts(federation.principal)

    @app.route("/", methods=METHODS, provide_automatic_options=False, defaults={"rest": ""})
    @app.route("/<path:rest>", methods=METHODS, provide_automatic_options=False)
    def _echo(rest: str) -> dict[str, Any]:
        return state.facts(
            federation.principal, method=request.method, path=request.path, body=request.get_data().decode("latin-1"),
            cookie=request.headers.get("cookie", ""), authorization=request.headers.get("authorization", ""),
        )  # fmt: skip

    federation.install(app)
    return app


class _ReadsFirst:
    """A middleware that reads the body; kept for those after it, or not."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        environ["wsgi.input"].read()
        return self.app(environ, start_response)


class _NoRawTarget(_ReadsFirst):
    """A server that tells no raw target."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        del environ["RAW_URI"]
        return self.app(environ, start_response)


class _UnderAPrefix(_ReadsFirst):
    """What SCRIPT_NAME does: the app is mounted at /sub."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        environ["SCRIPT_NAME"] = "/sub"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/sub")
        return self.app(environ, start_response)


APPS: dict[str, Any] = {
    "wsgi": FederationMiddleware(echo, gate=state.gate()),
    "flask": _flask(),
    "django": get_wsgi_application(),
    "around-django": FederationMiddleware(django_app.without_gate(get_wsgi_application), gate=state.gate()),
    "prefix": FederationMiddleware(echo, gate=state.gate(prefix="/tenant")),
    "mounted": _UnderAPrefix(FederationMiddleware(echo, gate=state.gate())),
    "flask-reads-first": _flask(reads_first=True),
    "swallows": _ReadsFirst(FederationMiddleware(echo, gate=state.gate())),
    "no-raw-target": _NoRawTarget(FederationMiddleware(echo, gate=state.gate())),
    "control": _control,
}


def app(environ: Any, start_response: Any) -> Any:
    """The dispatcher."""
    return APPS[environ.get("HTTP_X_TEST_APP", "wsgi")](environ, start_response)
