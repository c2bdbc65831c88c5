from __future__ import annotations

from tests.integration.portal.revenue.conftest import api, at, books, clock_file, grow, simulator

__all__ = ["api", "at", "books", "clock_file", "grow", "simulator"]
