from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe
from tests.contract.stripe_sim.conformance import client
from tests.contract.stripe_sim.sim_tools import Receiver, control

from provider_federation.testing.stripe_sim import Running, start_in_thread


@pytest.fixture(scope="module")
def sim() -> Iterator[Running]:
    running = start_in_thread()
    yield running
    running.stop()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """An account of its own for each test."""
    return "sk_test_" + "".join(letter for letter in request.node.name if letter.isalnum())[:80]


@pytest.fixture
def api(sim: Running, key: str) -> stripe.StripeClient:
    control(sim.url, "/_sim/faults", "DELETE")
    return client(sim.url, key)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
