"""What the tests inside either Django program share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher


@pytest.fixture(scope="session", autouse=True)
def _little_hashing() -> Iterator[None]:
    """The hasher of production with the least work: most tests need somebody signed in, and none tests argon2."""
    with pytest.MonkeyPatch.context() as patch:
        for name, least in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
            patch.setattr(Argon2PasswordHasher, name, least)
        yield
