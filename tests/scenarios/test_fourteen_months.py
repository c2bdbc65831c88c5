"""Fourteen months of the provider's business, from a trial to a cancellation, against a table that was worked out
by hand (tests/scenarios/fourteen/table.py): real processes, HTTP and the command line, the official SDK.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenarios.fourteen import table
from tests.scenarios.fourteen.house import running_house
from tests.scenarios.fourteen.walk import BEGIN, Seen, Walk

pytestmark = pytest.mark.xdist_group("fourteen_months")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with running_house(Path(tmp_path_factory.mktemp("fourteen")), BEGIN) as house:
        yield Walk(house).live()


@pytest.mark.parametrize("label", table.MONTHS)
def test_month_end(seen: Seen, label: str) -> None:
    month, found = table.MONTHS[label], seen.months[label]
    report = found["report"]
    expected = {
        "fees": month.fees,
        "usage": month.usage,
        "paid": month.paid,
        "credited": month.credited,
        "outstanding": month.outstanding,
    }
    assert found["stripe"] == expected
    assert {
        "fees": report["kinds"]["subscriptionCents"],
        "usage": report["kinds"]["leadsCents"] + report["kinds"]["aiCents"],
        "paid": report["paidCents"],
        "credited": report["creditedCents"],
        "outstanding": report["outstandingCents"],
    } == expected
    assert report["overdueCents"] == month.overdue
    assert report["collectedCents"] == month.paid
    assert report["billedCents"] == month.gross - month.credited
