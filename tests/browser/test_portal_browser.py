"""The portal in a real browser: real processes (web, worker, one client instance), at desktop and phone width.

Each page is held to the same: nothing scrolls sideways, nothing is written to the console, nothing is loaded from
another host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
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
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser.portal_seed import ADMIN, PASSWORD, SUPPORT
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
SESSIONS: dict[str, Any] = {}
CHROMIUM = find_chromium()
IN_CI = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not IN_CI,
        reason="no Chromium here: install chromium, or set CHROMIUM to its path",
    ),
]


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


@pytest.fixture(scope="session")
def instance(tmp_path_factory, free_port) -> Iterator[tuple[str, str]]:
    """A client instance with leads: its address and its key's secret."""
    secret, port = secrets.token_urlsafe(32), free_port()
    environment = clean_environment() | {
        "INSTANCE_DATA_DIR": str(tmp_path_factory.mktemp("oak")),
        "INSTANCE_NAME": "oak",
        "INSTANCE_ORG_ID": "org_oak",
        "INSTANCE_TITLE": "Oak & Daughters",
        "INSTANCE_BASE_URL": f"http://127.0.0.1:{port}",
        "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_KEYS_JSON": json.dumps({"oak-1": secret}),
        "PROVIDER_FEDERATION_SIG_SHA256": "1",
    }
    run(environment, "instance", "migrate")
    run(environment, "instance", "seed", "--leads", "60", "--months", "4")
    with process(environment, "instance", "serve", "--port", str(port)):
        wait_for(port)
        yield f"http://127.0.0.1:{port}", secret


@pytest.fixture(scope="session")
def portal(tmp_path_factory, instance) -> Iterator[str]:
    """A portal with a worker and believable data; its address."""
    address, secret = instance
    database = fresh_database()
    environment = clean_environment() | {
        "DATABASE_URL": next(database),
        "PORTAL_DATA_DIR": str(tmp_path_factory.mktemp("portal")),
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PROVIDER_SIGNATURE_MODE": "sha256",
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
    }
    run(environment, "portal", "migrate")
    subprocess.run(
        [sys.executable, "-m", "tests.browser.portal_seed"],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=120,
    )
    run(
        environment,
        "portal",
        "instance",
        "add",
        "oak",
        "org_oak",
        address,
        "oak-1",
        "--title",
        "Oak & Daughters",
        "--secret-stdin",
        text=secret + "\n",
    )
    with (
        process(environment, "portal", "serve", "--port", "0") as web,
        process(environment, "portal", "worker") as worker,
    ):
        assert worker.stderr is not None
        threading.Thread(target=worker.stderr.read, daemon=True).start()
        yield address_of(web)
    next(database, None)


def clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PORTAL_", "INSTANCE_", "PROVIDER_", "STRIPE_"))
    }
    kept.pop("DATABASE_URL", None)
    return kept | {"PROVIDER_FEDERATION_ENV": "development"}


@pytest.fixture(scope="session")
def free_port():
    import socket

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return find


def wait_for(port: int) -> None:
    import socket

    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI needs Chromium for the browser tests"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


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
        if email in SESSIONS:
            self.page.context.add_cookies(SESSIONS[email])
            return
        self.fill_sign_in(email)
        SESSIONS[email] = self.page.context.cookies()

    def fill_sign_in(self, email: str) -> None:
        self.open("/accounts/login/")
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.base}/")
        self.holds("after the sign-in")


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visitor(request, browser, portal) -> Iterator[Visitor]:
    context = browser.new_context(viewport=request.param, reduced_motion="reduce")
    visiting = Visitor(context.new_page(), portal)
    yield visiting
    context.close()


def first_link(visitor: Visitor, path: str) -> str:
    visitor.open(path)
    return visitor.page.locator("tbody a.pf-link").first.get_attribute("href") or ""


def test_every_page_fits_and_is_quiet(visitor):
    visitor.sign_in(ADMIN)
    paths = [
        "/",
        "/instances/",
        "/instances/add/",
        "/runs/",
        "/runs/new/",
        "/invoices/",
        "/revenue/",
        "/subscriptions/",
        "/subscriptions/add/",
        "/usage-invoices/",
        "/receivables/",
        "/disputes/",
        "/webhooks/",
        "/operators/",
        "/operators/add/",
        "/operators/tokens/add/",
        "/audit/",
        "/accounts/2fa/",
        "/admin/procrastinate/procrastinatejob/",
        "/accounts/password/change/",
    ]
    instance, month = first_link(visitor, "/instances/"), first_link(visitor, "/revenue/")
    paths += [
        instance,
        f"{instance}edit/",
        f"{instance}key/",
        month,
        f"{month}invoice/",
        first_link(visitor, "/runs/"),
    ]
    paths += [first_link(visitor, "/subscriptions/"), first_link(visitor, "/usage-invoices/")]
    owed = first_link(visitor, "/receivables/")
    paths += [owed, f"{owed}void/", f"{owed}uncollectible/", month.replace("/revenue/", "/statements/")]
    for path in paths:
        visitor.open(path)


def test_signing_in_leads_to_where_one_wanted_to_go(visitor):
    visitor.open("/invoices/?status=open")
    assert "/accounts/login/" in visitor.page.url
    page = visitor.page
    page.get_by_label("Email").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visitor.base}/invoices/?status=open")
    visitor.holds("after the sign-in")


def test_signing_in_fails_in_words(visitor):
    visitor.open("/accounts/login/")
    visitor.page.get_by_label("Email").fill("nobody@provider.example")
    visitor.page.get_by_label("Password").fill("wrong wrong wrong")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("not correct")
    visitor.holds("the failed sign-in")


def test_the_overview_tells_figures_and_what_is_missing(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/")
    page = visitor.page
    expect(page.get_by_text("Billed by clients")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d of 5"))).to_be_visible()
    expect(page.get_by_role("link", name="1 usage invoice is held for review")).to_be_visible()
    drawn = page.locator("canvas.chart").first.evaluate("canvas => canvas.getBoundingClientRect().width")
    assert drawn > 200


def test_adding_an_instance_says_what_is_wrong(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/add/")
    page = visitor.page
    page.get_by_label("Instance name").fill("elm")
    page.get_by_label("Client org id").fill("org_elm")
    page.get_by_label("Base URL").fill("http://169.254.169.254/")
    page.get_by_text("Without a code: type in a key").click()
    page.get_by_label("Key id").fill("k1")
    page.get_by_label("Secret").fill(secrets.token_urlsafe(32))
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator(".pf-notice--bad, .pf-field__error").first).to_be_visible()
    assert page.get_by_label("Secret").input_value() == ""
    visitor.holds("the refused instance")


def test_acting_on_one_instance_ends_in_a_result(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/?q=oak")
    page = visitor.page
    page.get_by_role("link", name="Oak & Daughters").first.click()
    expect(page.get_by_text("Healthy").first).to_be_visible()
    page.get_by_label("Converted in").select_option("d90")
    page.get_by_role("button", name="Preview leads").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}/$"))
    expect(page.get_by_text("1 of 1 finished: 1 done, 0 failed.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_text(re.compile(r"\d+ billable leads?, \$"))).to_be_visible()
    visitor.holds("the preview's run")


def test_acting_on_many_is_confirmed_and_shows_each(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/")
    page = visitor.page
    page.get_by_label("Choose Oak & Daughters").check()
    page.get_by_label("Choose Driftwood Studios").check()
    page.get_by_label("With the chosen").select_option("draft")
    page.get_by_role("button", name="Continue with 2").click()
    expect(page.get_by_text("Those leads are reserved")).to_be_visible()
    visitor.holds("the confirmation")
    page.get_by_role("button", name="Create drafts").click()
    expect(page.get_by_text("2 of 2 finished: 1 done, 1 failed.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_role("button", name="Retry the 1 that failed")).to_be_visible()
    visitor.holds("the run over two")


def test_usage_is_asked_after_the_page_is_there(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/revenue/")
    visitor.page.get_by_role("link", name="Oak & Daughters").first.click()
    expect(visitor.page.get_by_text("Converted leads", exact=True)).to_be_visible(timeout=SECONDS * 1000)
    visitor.page.wait_for_load_state("networkidle")
    visitor.holds("the client's month")


def test_support_sees_no_button_that_is_not_theirs(visitor):
    visitor.sign_in(SUPPORT)
    visitor.open("/instances/")
    assert visitor.page.get_by_role("link", name="Add instance").count() == 0
    assert visitor.page.get_by_role("button", name=re.compile("Continue")).count() == 0
    assert visitor.page.get_by_role("link", name="Operators & tokens").count() == 0


def test_the_keyboard_reaches_the_content_and_the_menu(browser, portal):
    context = browser.new_context(viewport=PHONE)
    visitor = Visitor(context.new_page(), portal)
    visitor.sign_in(ADMIN)
    visitor.open("/instances/")
    page = visitor.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("button", name="Open the menu").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Subscriptions")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Subscriptions")).to_be_hidden()
    context.close()
