"""A simulator for a test, its levers, and a receiver for its webhooks."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def http(
    method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request without the SDK: (status, headers in lower case, body). Redirects are not followed."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with closing(answer):
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def raw(
    url: str, key: str, method: str, path: str, form: str = "", **headers: str
) -> tuple[int, dict[str, str], Any]:
    """An API request with any form text: (status, headers, JSON)."""
    named = {
        "Authorization": f"Bearer {key}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    if method == "GET" and form:
        path = f"{path}?{form}"
    body = form.encode() if method == "POST" else None
    status, answered, content = http(method, url + path, body, named)
    return status, answered, json.loads(content)


def control(url: str, path: str, method: str = "POST", /, **wanted: Any) -> Any:
    """A lever: `control(url, "/_sim/faults", kind="rate_limit")`."""
    status, _, content = http(method, url + path, json.dumps(wanted).encode() if method == "POST" else None)
    answer = json.loads(content)
    assert status == 200, answer
    return answer


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll till the condition holds; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


class Receiver:
    """A webhook endpoint on loopback. `answers` are the next statuses (200 when there are none left)."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
