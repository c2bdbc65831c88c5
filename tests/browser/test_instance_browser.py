"""The instance's pages in a real browser, at desktop and phone width, against the served instance and the simulator.

Each page is held to the same: nothing scrolls sideways, nothing is written to the console, nothing is loaded from
another host, every control has a name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from tools.browser import find_chromium

from provider_federation.kit import clock

COMMAND = Path(sys.executable).with_name("provider-federation")
CHROMIUM = find_chromium()
IN_CI = os.environ.get("CI") == "true"
PASSWORD = "a long enough passphrase"
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
PAGES = (
    "/",
    "/leads",
    "/leads?q=nothing-like-it",
    "/leads/1",
    "/leads/1/not-eligible",
    "/leads/9/dispute",
    "/disputes",
    "/customers",
    "/billing?range=all",
    "/billing/draft?range=all",
    "/invoices",
    "/usage",
    "/federation",
    "/federation/policy",
    "/federation/invite",
    "/federation/revoke-key?key=key-1",
    "/alerts",
    "/stripe-events",
    "/stripe-events/sweep",
    "/people",
    "/people/add",
    "/people/2/role",
    "/people/2/password",
    "/people/2/deactivate",
    "/account",
    "/sign-out",
)
SIGN_IN_FAILED = re.compile("Email or password is not right")
# In the page: controls without a name, and what sticks out of the window although it cannot be scrolled.
NAMELESS = """() => [...document.querySelectorAll('input:not([type=hidden]),select,textarea,button,a')]
    .filter(one => !one.closest('[aria-hidden=true]') && !(one.labels?.length || one.ariaLabel || one.textContent.trim())).map(one => one.outerHTML)"""
STICKING_OUT = """() => [...document.querySelectorAll('main *')].filter(one => {
    const box = one.getBoundingClientRect();
    if (box.width <= 1 || box.right <= innerWidth + 1) return false;
    for (let up = one.parentElement; up; up = up.parentElement) if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) return false;
    return true;
}).map(one => one.outerHTML.slice(0, 120))"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not IN_CI,
        reason="no Chromium here: install chromium, or set CHROMIUM to its path",
    ),
]


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(environment: dict[str, str], log: Path, probe: str, *arguments: str) -> Iterator[None]:
    """One of our servers, up; ended by its own id."""
    with log.open("wb") as output:
        started = subprocess.Popen([COMMAND, *arguments], env=environment, stdout=output, stderr=output)
    try:
        wait_until_up(probe, started, log)
        yield
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()


def wait_until_up(url: str, started: subprocess.Popen[bytes], log: Path) -> None:
    deadline, pause = clock.monotonic() + 60, threading.Event()
    while clock.monotonic() < deadline and started.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            pause.wait(0.05)
    raise AssertionError(f"{url} did not come up:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def instance_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A seeded instance with an owner and a viewer, its Stripe account in the simulator."""
    folder, port, stripe = tmp_path_factory.mktemp("harbor"), a_port(), a_port()
    foreign = ("PROVIDER_", "INSTANCE_", "STRIPE_", "DATABASE_", "DJANGO_", "PORTAL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "PROVIDER_FEDERATION_ENV": "development",
        "INSTANCE_DATA_DIR": str(folder),
        "INSTANCE_TITLE": "Harbor & Sons",
        "INSTANCE_BASE_URL": f"http://127.0.0.1:{port}",
        "PROVIDER_FEDERATION_ENABLED": "1",
        "PROVIDER_KEYS_JSON": json.dumps({"key-1": "for-show-only"}),
        "STRIPE_SECRET_KEY": "sk_test_harbor",
        "STRIPE_WEBHOOK_SECRET": "whsec_" + "harbor0tests0" * 2,
        "STRIPE_API_BASE": f"http://127.0.0.1:{stripe}",
        "INSTANCE_USER_PASSWORD": PASSWORD,
        "PYTHONWARNINGS": "default",
    }
    for arguments in (
        ["migrate"],
        ["seed", "--leads", "60", "--months", "3"],
        ["user", "add", "owner@x.example", "--role", "owner"],
        ["user", "add", "viewer@x.example"],
    ):
        subprocess.run(
            [COMMAND, "instance", *arguments], env=environment, check=True, capture_output=True, timeout=120
        )
    address = f"http://127.0.0.1:{port}"
    with (
        serving(
            environment,
            folder / "stripe.log",
            f"http://127.0.0.1:{stripe}/_sim/state",
            "stripe-sim",
            "--port",
            str(stripe),
        ),
        serving(
            environment,
            folder / "instance.log",
            f"{address}/health/live",
            "instance",
            "serve",
            "--port",
            str(port),
        ),
    ):
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and whatever it did that it should not."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # The browser itself reports every 4xx; those that a test asks for are looked at there.
        if "the server responded with a status of 4" not in message.text:
            self.faults.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.address + "/", "data:")):
            self.faults.append(f"asked {request.url}")

    def open(self, path: str) -> None:
        answer = self.page.goto(self.address + path)
        assert answer is not None
        assert answer.ok, (path, answer.status)
        self.hold()

    def hold(self) -> None:
        """The promises of every page."""
        # A click that leads to another page leaves a moment without any document.
        self.page.wait_for_load_state("domcontentloaded")
        expect(self.page.locator("main")).to_be_visible()
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.page.evaluate(
            "innerWidth"
        ), self.page.url
        assert self.page.evaluate(STICKING_OUT) == [], self.page.url
        assert self.page.evaluate(NAMELESS) == [], self.page.url
        assert self.page.locator("h1").count() == 1, self.page.url
        assert not self.faults, (self.page.url, self.faults)

    def sign_in(self, email: str) -> None:
        self.open("/sign-in")
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()
        self.hold()


@pytest.fixture(params=sorted(SIZES))
def watched(request: pytest.FixtureRequest, chromium: Browser, instance_url: str) -> Iterator[Watched]:
    context = chromium.new_context(viewport=SIZES[request.param])
    found = Watched(context.new_page(), instance_url)
    found.page.set_default_timeout(30_000)
    found.watch()
    yield found
    context.close()


def test_every_page_fits_and_is_quiet(watched: Watched) -> None:
    watched.sign_in("owner@x.example")
    for path in PAGES:
        watched.open(path)


def test_dark_pages_fit_too(watched: Watched) -> None:
    watched.page.emulate_media(color_scheme="dark")
    watched.sign_in("owner@x.example")
    assert watched.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"


def test_a_wrong_password_and_a_missing_page(watched: Watched) -> None:
    page = watched.page
    watched.open("/invoices")
    assert page.url.endswith("/sign-in?next=%2Finvoices")
    page.get_by_label("Email").fill("owner@x.example")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text(SIGN_IN_FAILED)
    watched.hold()
    page.get_by_label("Email").fill("owner@x.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Invoices")).to_be_visible()
    assert page.goto(f"{watched.address}/nothing").status == 404
    watched.hold()


def test_from_leads_to_a_sent_and_a_void_invoice(watched: Watched) -> None:
    """Each width bills a part of the year of its own."""
    page = watched.page
    watched.sign_in("owner@x.example")
    watched.open(f"/billing?range={'d30' if page.viewport_size == SIZES['desktop'] else 'all'}")
    page.get_by_role("link", name=re.compile(r"Draft \d+ invoice")).click()
    watched.hold()
    page.get_by_role("button", name=re.compile(r"Draft \d+ invoice")).click()
    expect(page.get_by_role("status")).to_contain_text("nothing is sent yet")
    watched.open("/invoices?status=draft")
    page.get_by_role("link", name=re.compile("^INV-")).first.click()
    watched.hold()
    page.get_by_role("link", name="Send…").click()
    watched.hold()
    page.get_by_role("button", name=re.compile("^Send ")).click()
    expect(page.get_by_role("status")).to_contain_text("was sent to")
    expect(page.get_by_role("link", name="Page to pay on")).to_be_visible()
    watched.hold()
    watched.open("/invoices?status=draft")
    page.get_by_role("link", name=re.compile("^INV-")).first.click()
    page.get_by_role("link", name="Void…").click()
    watched.hold()
    page.get_by_role("button", name=re.compile("^Void INV-")).click()
    expect(page.get_by_role("status")).to_contain_text("can be billed again")
    watched.hold()


def test_by_keyboard_alone(watched: Watched) -> None:
    page = watched.page
    watched.sign_in("owner@x.example")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_viewer_looks_and_signs_out(watched: Watched) -> None:
    page = watched.page
    watched.sign_in("viewer@x.example")
    for path in ("/", "/leads", "/leads/1", "/invoices", "/usage", "/federation", "/alerts", "/account"):
        watched.open(path)
    assert page.goto(f"{watched.address}/billing").status == 403
    watched.hold()
    watched.open("/")
    if page.viewport_size == SIZES["phone"]:
        page.get_by_text("Menu", exact=True).click()
        watched.hold()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
