"""The same parts as the revenue tests walk on: simulator, usage instances, clock."""

from tests.integration.portal.revenue.conftest import (  # noqa: F401  fixtures, asked for by name
    api,
    at,
    books,
    clock_file,
    grow,
    simulator,
)
