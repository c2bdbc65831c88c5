from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from tests.integration.portal.revenue.books_rig import BooksInstance, bill_february
from tests.integration.portal.revenue.rig import (
    FEBRUARY,
    NOW,
    WEBHOOK_SECRET,
    Books,
    Simulator,
    UsageInstance,
    enrol,
    forget_jobs,
)
from tests.integration.portal.terminal import Terminal

from provider_federation.kit import clock
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.operators.services import create_token
from provider_federation.stripe_account import StripeAccount, ensure_price


@pytest.fixture(scope="session")
def clock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clock") / "clock.json"


@pytest.fixture(scope="session")
def simulator(clock_file: Path) -> Iterator[Simulator]:
    clock.set_clock(clock_file, at=NOW)
    running = Simulator({clock.CLOCK_VARIABLE: str(clock_file)})
    yield running
    running.stop()


@pytest.fixture
def at(clock_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`at(instant)` moves the portal's and the simulator's time; every test begins on 10 March 2026."""
    monkeypatch.setitem(os.environ, clock.CLOCK_VARIABLE, str(clock_file))
    clock.set_clock(clock_file, at=NOW)
    return lambda instant: clock.set_clock(clock_file, at=instant)


@pytest.fixture
def books(simulator: Simulator, settings: Any, at: Any) -> Books:
    """A fresh Stripe account with the provider's prices, and the settings that point to it."""
    key = f"sk_test_{secrets.token_hex(12)}"
    account = StripeAccount(key, api_base=simulator.url)
    prices = {
        plan: ensure_price(account, lookup_key=plan.lower(), product_name=plan, unit_amount=cents).id
        for plan, cents in (("PRO", 9_700), ("ELITE", 29_700))
    }
    settings.PROVIDER_STRIPE_SECRET_KEY = key
    settings.PROVIDER_STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    settings.PROVIDER_STRIPE_ACCOUNT_ID = account.retrieve_account().id
    settings.STRIPE_API_BASE = simulator.url
    settings.PROVIDER_STRIPE_PRICES = {"BASE": "", **prices}
    return Books(simulator, key)


@pytest.fixture
def grow(
    transactional_db: None, settings: Any, at: Any
) -> Iterator[Callable[..., tuple[UsageInstance, Instance]]]:
    """`grow("ada")` starts a usage instance and enrols it."""
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    forget_jobs()
    grown: list[UsageInstance] = []

    def one(name: str, **more: Any) -> tuple[UsageInstance, Instance]:
        usage = UsageInstance(f"org_{name}")
        grown.append(usage)
        return usage, enrol(usage, name, **more)

    yield one
    for usage in grown:
        usage.gate.set()
        usage.stop()


@pytest.fixture
def api(transactional_db: None, at: Any) -> Client:
    """A program with a billing token."""
    _, secret = create_token(name="tests", role="billing", actor="system")
    return Client(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False)


@pytest.fixture
def terminal(
    transactional_db: None, at: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """The command line. Logging is put back, since a command sets it up for its process."""
    handlers = logging.getLogger().handlers[:]
    yield Terminal(monkeypatch, capsys)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def ada_billed(books: Books, api: Client, settings: Any) -> Iterator[BooksInstance]:
    """A client whose February is billed (two leads, $3.00 of AI usage), and on which all three books agree."""
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    forget_jobs()
    usage = BooksInstance("org_ada")
    usage.uses(FEBRUARY, 2, "3.00")
    usage.bills(3, 5_000)
    bill_february(api, enrol(usage, "ada"))
    yield usage
    usage.stop()
