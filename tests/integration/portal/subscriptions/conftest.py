from __future__ import annotations

from typing import Any

import pytest
from tests.integration.portal.revenue.conftest import api, at, books, clock_file, grow, simulator
from tests.integration.portal.subscriptions.moves import Desk

__all__ = ["api", "at", "books", "clock_file", "grow", "simulator"]


@pytest.fixture
def desk(books: Any, api: Any) -> Desk:
    return Desk(api, books)
