"""The HTTP side, as a bare ASGI app: authentication, faults, idempotency, answers, the hosted page, and
`/_sim/`.

Handlers run synchronously on the event loop, one after another, so that each request sees a settled state.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from provider_federation.testing.stripe_sim import control, pages
from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.faults import Fault
from provider_federation.testing.stripe_sim.routes import find_route, known_path
from provider_federation.testing.stripe_sim.shape import API_VERSION, new_id
from provider_federation.testing.stripe_sim.simulator import Request, Simulator
from provider_federation.testing.stripe_sim.store import account_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_LOG = logging.getLogger(__name__)
_LARGEST_BODY = 4 * 1024 * 1024
_KEY = re.compile(r"sk_test_[A-Za-z0-9_]{1,240}")
_TICK = 1.0


class Dropped(Exception):
    """The connection is to be cut without an answer."""


class Answer:
    """Status, body and headers of one answer."""

    def __init__(
        self, status: int, body: bytes, content_type: str = "application/json", **headers: str
    ) -> None:
        self.status, self.body = status, body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.headers = {"content-type": content_type, "cache-control": "no-store", **named}


class StripeSim:
    """The ASGI application around one `Simulator`."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        tasks = [asyncio.create_task(self.simulator.webhooks.run()), asyncio.create_task(self._tick())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.simulator.webhooks.close()
        self.simulator.store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            try:
                self.simulator.catch_up()
            except Exception:  # noqa: BLE001  logged; the next tick tries what else is due
                _LOG.exception("a due thing failed")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._respond(scope, await _read_body(receive))
        except Dropped:
            await _cut(send)
            return
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _respond(self, scope: Scope, body: bytes) -> Answer:
        path, method = str(scope["path"]), str(scope["method"])
        if path.startswith("/_sim/"):
            return _json(
                *await control.handle(self.simulator, method, path, body, scope.get("query_string", b""))
            )
        if path.startswith("/i/"):
            self.simulator.catch_up()
            page = pages.handle(self.simulator, method, path, body)
            return Answer(page.status, page.body, page.content_type, **page.headers)
        if path == "/":
            return _json(
                200,
                {"object": "simulator", "is": "a double of Stripe's API, not Stripe", "version": API_VERSION},
            )
        return await self._api(scope, method, path, body)

    async def _api(self, scope: Scope, method: str, path: str, body: bytes) -> Answer:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        entry: dict[str, Any] = {
            "method": method,
            "path": path,
            "account": None,
            "key": headers.get("idempotency-key"),
            "replayed": False,
        }
        request_id = new_id("req", 14)
        try:
            status, text, extra = await self._run(
                entry, headers, request_id, body if method == "POST" else scope["query_string"]
            )
        except StripeError as error:
            error.error.setdefault("request_log_url", f"{self.simulator.base_url}/_sim/requests#{request_id}")
            status, text, extra = error.status, json.dumps(error.body()), {}
        except Dropped:
            status, text, extra = 0, "", {}
            raise
        except Exception:  # noqa: BLE001  logged, and answered as Stripe answers its own faults
            _LOG.exception("%s %s broke the simulator", method, path)
            status, text, extra = 500, _api_error("The simulator failed; its log says why."), {}
        finally:
            self.simulator.requests.append(
                {**entry, "status": status, "request_id": request_id, "at": self.simulator.now()}
            )
        return Answer(status, text.encode(), request_id=request_id, stripe_version=API_VERSION, **extra)

    async def _run(
        self, entry: dict[str, Any], headers: dict[str, str], request_id: str, form: bytes
    ) -> tuple[int, str, dict[str, str]]:
        account = self.simulator.store.account(account_id(_api_key(headers)), self.simulator.now())
        entry["account"] = account.id
        _check_version(headers.get("stripe-version"))
        method, path = entry["method"], entry["path"]
        found = find_route(method, path)
        if found is None:
            _LOG.error("THE STRIPE SIMULATOR DOES NOT SERVE %s %s", method, path)
            what = "this method on " if known_path(path) else ""
            message = (
                f"Unrecognized request URL ({method}: {path}). THE SIMULATOR DOES NOT SERVE {what}THIS "
                "ROUTE; see its how-to page."
            )
            raise StripeError(404, "invalid_request_error", message)
        self.simulator.catch_up()
        key = headers.get("idempotency-key") if method == "POST" else None
        request = Request(account, method, path, form, found[0], found[1], request_id, key)
        await self._before(request)
        return await self._once(request, entry)

    async def _before(self, request: Request) -> None:
        """Faults that strike before anything is looked at."""
        fault = self._fault(request, "rate_limit", "error_before", "drop_before")
        if fault is None:
            return
        if fault.kind == "rate_limit":
            message = (
                "Request rate limit exceeded. Learn more about rate limits: "
                "https://docs.stripe.com/rate-limits."
            )
            raise StripeError(429, "invalid_request_error", message, code="rate_limit")
        if fault.kind == "drop_before":
            raise Dropped
        error = StripeError(500, "api_error", "An unknown error occurred (injected, before the change).")
        if fault.remembered:
            self.simulator.remember(request, 500, json.dumps(error.body()))
        raise error

    def _fault(self, request: Request, *kinds: str) -> Fault | None:
        return self.simulator.faults.take(kinds, request.account.id, request.method, request.path)

    async def _once(self, request: Request, entry: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        """Replay, or execute once."""
        keys = self.simulator.keys
        if request.key is None:
            return await self._execute(request)
        known = keys.recall(
            request.account, request.key, self.simulator.print_of(request), self.simulator.now(), request.path
        )
        extra = {"idempotency_key": request.key}
        if known:
            entry["replayed"] = True
            return (
                known.status,
                known.body,
                {**extra, "idempotent_replayed": "true", "original_request": known.request_id},
            )
        keys.start(request.account.id, request.key)
        try:
            status, text, more = await self._execute(request)
        finally:
            keys.finish(request.account.id, request.key)
        return status, text, {**extra, **more}

    async def _execute(self, request: Request) -> tuple[int, str, dict[str, str]]:
        slow = self._fault(request, "slow")
        if slow and slow.when == "before":
            await asyncio.sleep(slow.seconds)
        status, text = self.simulator.execute(request)
        if slow and slow.when != "before":
            await asyncio.sleep(slow.seconds)
        fault = self._fault(request, "error_after", "drop_after")
        if fault is None:
            return status, text, {}
        if fault.kind == "drop_after":
            raise Dropped
        broken = _api_error("An unknown error occurred (injected, after the change).")
        if fault.remembered is not False:
            self.simulator.remember(request, 500, broken)
        return 500, broken, {}


def _api_key(headers: dict[str, str]) -> str:
    """The secret key from Bearer or Basic; 401 in Stripe's words otherwise."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    key = value.strip()
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            key = base64.b64decode(key, validate=True).decode("latin-1").partition(":")[0]
    elif scheme.lower() != "bearer" or not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth."
        )
        raise StripeError(401, "invalid_request_error", message)
    if not _KEY.fullmatch(key):
        hidden = f"{key[:8]}****" if len(key) > 12 else "****"
        message = f"Invalid API Key provided: {hidden}. The simulator takes keys that start with sk_test_."
        raise StripeError(401, "invalid_request_error", message, code="api_key_invalid")
    return key


def _check_version(version: str | None) -> None:
    """Another API version would be answered in other shapes: better a refusal than a wrong answer."""
    if version not in {None, API_VERSION}:
        message = f"The simulator speaks API version {API_VERSION} only, not {version}."
        raise StripeError(400, "invalid_request_error", message, param="Stripe-Version")


def _api_error(message: str) -> str:
    return json.dumps(StripeError(500, "api_error", message).body())


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode())


async def _read_body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _LARGEST_BODY or message["type"] == "http.disconnect":
            raise Dropped
        if not message.get("more_body"):
            return b"".join(parts)


async def _cut(send: Send) -> None:
    """Cut the connection: ASGI has no word for it, so this reaches for uvicorn's transport behind `send`."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("this server does not let the simulator cut a connection; run it under uvicorn")
    transport.abort()
    await asyncio.sleep(0.01)  # let the protocol see that the connection is lost, or it would try to answer


def parse_query(query: bytes) -> dict[str, str]:
    """A control request's query."""
    return dict(parse_qsl(query.decode("latin-1")))
