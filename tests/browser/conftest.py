"""The portal in a real browser: its processes, its Stripe simulator and its visitors, once for a file of tests."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.browser.portal_rig import (
    ARGUMENTS,
    CHROMIUM,
    DESKTOP,
    PHONE,
    ROOT,
    STRIPE_KEY,
    Visitor,
    address_of,
    clean_environment,
    fresh_database,
    process,
    run,
    wait_for,
)

from provider_federation.testing.stripe_sim.server import Running, start_in_thread


@pytest.fixture(scope="module")
def stripe() -> Iterator[Running]:
    """The provider's Stripe account. No webhook leads to the portal: what it does not ask for it does not know."""
    running = start_in_thread()
    yield running
    running.stop()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def portal(tmp_path_factory, instance, stripe) -> Iterator[str]:
    """A portal with a worker and believable data; its address."""
    address, secret = instance
    database = fresh_database()
    environment = clean_environment() | {
        "DATABASE_URL": next(database),
        "PORTAL_DATA_DIR": str(tmp_path_factory.mktemp("portal")),
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "PROVIDER_SIGNATURE_MODE": "sha256",
        "PORTAL_BILLING_FOUR_EYES": "1",
        "STRIPE_API_BASE": stripe.url,
        "PROVIDER_STRIPE_SECRET_KEY": STRIPE_KEY,
        "PROVIDER_STRIPE_WEBHOOK_SECRET": "whsec_portalbrowser",
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
        "--algorithm",
        "sha256",
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


@pytest.fixture(scope="module")
def free_port():
    import socket

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return find


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file: as long as it is there, its event loop runs in this thread, and no other test could use one."""
    assert CHROMIUM, "CI needs Chromium for the browser tests"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visitor(request, browser, portal) -> Iterator[Visitor]:
    context = browser.new_context(viewport=request.param, reduced_motion="reduce")
    visiting = Visitor(context.new_page(), portal)
    yield visiting
    context.close()


@pytest.fixture
def desk(browser, portal) -> Iterator[Callable[[str], Visitor]]:
    """`desk(email)`: that operator at a screen of her own."""
    with contextlib.ExitStack() as rooms:

        def sit(email: str) -> Visitor:
            context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
            rooms.callback(context.close)
            visiting = Visitor(context.new_page(), portal)
            visiting.sign_in(email)
            return visiting

        yield sit
