"""WSGI middleware for any framework: a `Principal` or None at `environ["provider_federation"]`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from typing import Any, Unpack, overload

from provider_federation.adapters.gate import Gate, GateOptions
from provider_federation.adapters.wsgi_answer import run, start
from provider_federation.adapters.wsgi_wire import (
    App,
    Environ,
    StartResponse,
    header_names,
    read_body,
    request_of,
)
from provider_federation.protocol import Key, Refused, Request

_log = logging.getLogger(__name__)

ENVIRON_KEY = "provider_federation"
_OTHER_IDENTITIES = ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "REMOTE_USER", "AUTH_TYPE")


class FederationMiddleware:
    """Verifies federation requests before `app` sees them, and signs its answers to them.

    Takes a `gate`, or the keywords of `gate.Gate`. Other requests pass untouched. A refused one is answered
    here; a proven one reaches the app without its cookies and Authorization header, so that it acts as the
    machine it is and as nobody else. Nothing may change requests or answers between this and the server,
    which must tell the raw target in RAW_URI (gunicorn) or REQUEST_URI (uWSGI, mod_wsgi, waitress, werkzeug).
    """

    @overload
    def __init__(self, app: App, gate: Gate) -> None: ...
    @overload
    def __init__(self, app: App, **gate: Unpack[GateOptions]) -> None: ...
    def __init__(self, app: App, gate: Gate | None = None, **options: Any) -> None:
        self.app = app
        self.gate = gate or Gate(**options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        environ[ENVIRON_KEY] = None
        if not self.gate.concerns(header_names(environ)):
            return self.app(environ, start_response)
        request = request_of(environ, self.gate.prefix)
        try:
            claim = self.gate.check_head(request)
            body = read_body(environ, self.gate.policy.max_body)
            environ[ENVIRON_KEY] = self.gate.admit(claim, request, body)
        except Refused as refused:
            return start(self.gate.refuse(refused, request), environ, start_response)
        for name in _OTHER_IDENTITIES:
            environ.pop(name, None)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return self._answered(request, self.gate.signer(claim), environ, start_response)

    def _answered(
        self, request: Request, signer: Key | None, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if signer is None:
            return self.app(environ, start_response)
        try:
            answer = run(self.app, environ, self.gate.max_answer)
        except Exception:  # noqa: BLE001  logged, as the server would have done
            _log.exception("the app failed to answer a federation request")
            return start(self.gate.failed(request, signer), environ, start_response)
        return start(self.gate.answer(answer, request, signer), environ, start_response)
