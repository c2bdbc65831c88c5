"""What the portal's browser tests stand on: its processes, and a visitor that remembers what went wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from playwright.sync_api import Page
from tests.browser.portal_seed import PASSWORD
from tools.browser import find_chromium

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("provider-federation")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SECONDS = 60
STRIPE_KEY = "sk_test_portalbrowser"  # the provider's account, in the simulator
SESSIONS: dict[str, Any] = {}
CHROMIUM = find_chromium()
IN_CI = os.environ.get("CI") == "true"


def run(environment: dict[str, str], *arguments: str, text: str = "") -> None:
    done = subprocess.run(
        [COMMAND, *arguments],
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"


@contextlib.contextmanager
def process(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of our servers; ended by its own id."""
    with subprocess.Popen(
        [COMMAND, *arguments], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as started:
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()


def address_of(started: subprocess.Popen[str]) -> str:
    """The server says where it listens; the rest of its log is read away, so that the pipe never fills."""
    assert started.stderr is not None
    until = time.monotonic() + SECONDS
    said = []
    while time.monotonic() < until and (line := started.stderr.readline()):
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            threading.Thread(target=started.stderr.read, daemon=True).start()
            return found[0]
    raise AssertionError(f"it did not start: {''.join(said)[-2000:]}")


def fresh_database() -> Iterator[str]:
    url, name = os.environ["TEST_POSTGRES_URL"], f"portal_browser_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    parts = urlsplit(url)
    yield urlunsplit(parts._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PORTAL_", "INSTANCE_", "PROVIDER_", "STRIPE_"))
    }
    kept.pop("DATABASE_URL", None)
    return kept | {"PROVIDER_FEDERATION_ENV": "development"}


def wait_for(port: int) -> None:
    import socket

    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


class Visitor:
    """A page that remembers everything that went wrong on it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.faults: list[str] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on(
            "console",
            lambda message: (
                message.type in {"error", "warning"} and self.faults.append(f"console: {message.text}")
            ),
        )
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((f"{base}/", "data:"))
                or self.faults.append(f"elsewhere: {request.url}")
            ),
        )
        page.on(
            "response",
            lambda response: (
                response.status >= 500 and self.faults.append(f"{response.status}: {response.url}")
            ),
        )

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)
        self.page.wait_for_load_state("networkidle")
        self.holds(path)

    def holds(self, where: str) -> None:
        # A click that leads to another page leaves a moment without any document.
        self.page.wait_for_load_state("domcontentloaded")
        wide, window = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"{where} is {wide} px wide in a window of {window} px"
        assert self.faults == [], where

    def sign_in(self, email: str) -> None:
        """By the form the first time, by its session after that."""
        here = f"{self.base} {email}"
        if here in SESSIONS:
            self.page.context.add_cookies(SESSIONS[here])
            return
        self.fill_sign_in(email)
        SESSIONS[here] = self.page.context.cookies()

    def fill_sign_in(self, email: str) -> None:
        self.open("/accounts/login/")
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.base}/")
        self.holds("after the sign-in")
