"""HTTP/2 under granian, and the servers that people develop with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from tests.attacks.servers import http2, state
from tests.attacks.servers.keys import ED25519, HOST, LEGACY
from tests.attacks.servers.wire import Served, signed

from provider_federation.adapters.wsgi import FederationMiddleware

# granian shows the app one host: the Host header where there is one, else :authority. v2 covers what is shown, so a
# Host that was not signed is refused; another :authority beside a good Host is not to be seen.
GOLDEN_93 = {
    (None, HOST): None,
    (HOST, HOST): None,
    (HOST, None): None,
    ("other.example", HOST): "bad_signature",
    (HOST, "other.example"): None,
}


@pytest.mark.parametrize(("host", "authority"), GOLDEN_93)
def test_threat_093_the_host_of_http_2(
    at: Callable[[str, str], Served], host: str | None, authority: str | None
) -> None:
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/a")]
    fields += [(":authority", authority)] if authority else []
    fields += [("host", host)] if host else []
    fields += [(name.lower(), value) for name, value in signed(ED25519).headers if name != "Host"]
    answer = http2.ask(at("granian", "asgi").port, fields)
    assert answer.get("reason") == GOLDEN_93[host, authority]
    assert answer.get("key") == (ED25519.id if answer.get("reason") is None else None)


def _echo(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["provider_federation"].key_id.encode()]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@contextmanager
def _serving(server: Any) -> Iterator[Served]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Served("development", "wsgi", server.server_port)
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


@pytest.mark.parametrize("key", [LEGACY, ED25519], ids=["legacy", "v2"])
def test_werkzeug_tells_the_raw_target(key: Any) -> None:
    """What `flask run` is."""
    from werkzeug.serving import WSGIRequestHandler as Werkzeugs
    from werkzeug.serving import make_server as make_werkzeug

    class Quiet(Werkzeugs):
        def log(self, *_: Any, **__: Any) -> None: ...

    app = FederationMiddleware(_echo, gate=state.gate())
    with _serving(make_werkzeug("127.0.0.1", 0, app, request_handler=Quiet)) as served:
        request = signed(key, "POST", "/a%20b?x=a%2Fb", b"hello")
        answer = served.call(request)
        assert (answer.status, answer.body) == (200, key.id.encode())
        assert served.signed(target="/a//b", key=key).outcome == (400, "non_canonical_target")
        if key is ED25519:
            assert answer.signer(request)


def test_wsgiref_does_not_and_every_request_is_refused(caplog: Any) -> None:
    """What Django's runserver is."""
    app = FederationMiddleware(_echo, gate=state.gate())
    with _serving(make_server("127.0.0.1", 0, app, handler_class=_Quiet)) as served:
        assert served.signed(key=LEGACY).outcome == (400, "bad_target")
    assert "raw target" in caplog.text
