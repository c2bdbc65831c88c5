"""What the tests inside either Django program share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher

from provider_federation.stripe_account.steps import Patience


@pytest.fixture(scope="session", autouse=True)
def _little_hashing() -> Iterator[None]:
    """The hasher of production with the least work: most tests need somebody signed in, and none tests argon2."""
    with pytest.MonkeyPatch.context() as patch:
        for name, least in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
            patch.setattr(Argon2PasswordHasher, name, least)
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_on_demand() -> Iterator[None]:
    """Every test client would list all static files of all packages before its first request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WHITENOISE_AUTOREFRESH", True, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_pauses() -> Iterator[None]:
    """As many tries as in production, and what Stripe itself tells to wait, but a first pause of 10 ms."""
    wait = Patience.wait

    def soon(patience: Patience, attempt: int, *, told: float | None = None) -> bool:
        patience.pause = min(patience.pause, 0.01)
        return wait(patience, attempt, told=told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patience, "wait", soon)
        yield
