"""JSON over HTTP, as a program of the provider's would speak to the portal."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from threading import Event
from typing import Any

from provider_federation.kit.clock import monotonic

_TIMEOUT = 30.0


class CallFailed(Exception):
    """An answer that was not a success; the message holds the request and the answer's own words. `status` is 0
    and `reason` empty where nobody answered.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Client:
    """`base` is an address without a path; `token` an API token of the portal (empty: anonymous, unless `opener`
    holds the cookies of somebody who signed in, whose writes carry `csrf`).
    """

    base: str
    token: str = ""
    csrf: str = ""
    opener: urllib.request.OpenerDirector = field(default_factory=urllib.request.build_opener)

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        suffix = "?" + urllib.parse.urlencode(query) if query else ""
        return self._call("GET", path + suffix, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._call("POST", path, body or {})

    def pages(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, **query, **cursor)
            items += page["items"]
            if not page.get("nextCursor"):
                return items
            cursor = {"cursor": page["nextCursor"]}

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.csrf:
            headers["X-CSRFToken"] = self.csrf
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with self.opener.open(request, timeout=_TIMEOUT) as answer:
                value: dict[str, Any] = json.load(answer)
                return value
        except urllib.error.HTTPError as error:
            raise refusal(f"{method} {path}", error) from None
        except OSError as error:
            raise CallFailed(f"{method} {self.base}{path}: {error}") from None


def refusal(what: str, error: urllib.error.HTTPError) -> CallFailed:
    """What an answer with an error's status says, as a CallFailed."""
    text = error.read(2000).decode(errors="replace")
    try:
        reason = str(json.loads(text)["reason"])
    except (ValueError, KeyError, TypeError):  # a page, or somebody else's JSON
        reason = ""
    return CallFailed(f"{what} answered {error.code}: {text[:600]}", error.code, reason)


def sign_in(base: str, email: str, password: str) -> Client:
    """The API as a person uses it who signed in on the portal's page; CallFailed when that did not work."""
    cookies = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    address = f"{base}/accounts/login/"
    with opener.open(address, timeout=_TIMEOUT) as page:
        page.read()
    form = {"login": email, "password": password, "csrfmiddlewaretoken": _cookie(cookies, "csrftoken")}
    with opener.open(address, urllib.parse.urlencode(form).encode(), timeout=_TIMEOUT) as answer:
        answer.read()
        if answer.url.startswith(address):
            raise CallFailed(f"{email} could not sign in at {address}")
    return Client(base, csrf=_cookie(cookies, "csrftoken"), opener=opener)


def _cookie(cookies: CookieJar, name: str) -> str:
    return next((cookie.value or "" for cookie in cookies if cookie.name == name), "")


def pay_hosted_invoice(url: str) -> None:
    """Do what a customer does on the hosted page: open it, and send its form."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as page:
        page.read()
    form = urllib.parse.urlencode({"card": "4242424242424242"}).encode()
    with urllib.request.urlopen(url, form, timeout=_TIMEOUT) as paid:
        paid.read()


def wait_until(what: str, check: Callable[[], Any], *, timeout: float = 60.0) -> Any:
    """Ask again until `check` answers something true; CallFailed names `what` when it never does."""
    deadline, pause, last = monotonic() + timeout, Event(), ""
    while True:
        try:
            if value := check():
                return value
        except CallFailed as failed:
            last = f" Last answer: {failed}"
        if monotonic() > deadline:
            raise CallFailed(f"waited {timeout:.0f} s in vain for {what}.{last}")
        pause.wait(0.1)
