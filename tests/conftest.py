"""What all suites share: Hypothesis does not measure time, because CI machines are busy; who runs beside whom."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from tests.scheduling import Grouped, rank

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Grouped:
    return Grouped(config, log)
