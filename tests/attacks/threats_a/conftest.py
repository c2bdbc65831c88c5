"""One running instance per HTTP parser, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.attacks.threats_a.world import Instance, running


@pytest.fixture(scope="module", params=["h11", "httptools"])
def _instance(request: Any) -> Iterator[Instance]:
    with running(request.param) as instance:
        yield instance


@pytest.fixture
def instance(_instance: Instance) -> Instance:
    """Fresh: nothing used, nothing seen, its clock at NOW."""
    _instance.reset()
    return _instance
