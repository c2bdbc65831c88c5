"""Fourteen months of the provider's business, from a trial to a cancellation, against a table that was worked out
by hand (tests/scenarios/fourteen/table.py): real processes, HTTP and the command line, the official SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.fourteen import table
from tests.scenarios.fourteen.house import running_house
from tests.scenarios.fourteen.walk import BEGIN, Seen, Walk

_MOVEMENTS = ("new", "expansion", "contraction", "churn", "reactivation")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Lived through once; each test looks at a part of it."""
    with running_house(Path(tmp_path_factory.mktemp("fourteen")), BEGIN) as house:
        yield Walk(house).live()


def agree(when: str, by_hand: Mapping[str, Any], **books: Mapping[str, Any]) -> None:
    """Every figure of every book is the one by hand; else a line says which is not, and of when."""
    wrong = [
        f"{when}, {figure}: {expected} by hand, {book[figure]} by {name}"
        for name, book in books.items()
        for figure, expected in by_hand.items()
        if book[figure] != expected
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("label", table.MONTHS)
def test_month_end_is_as_in_the_table(seen: Seen, label: str) -> None:
    month, found = table.MONTHS[label], seen.months[label]
    report = found["report"]
    by_hand = {
        "fees": month.fees,
        "usage": month.usage,
        "paid": month.paid,
        "credited": month.credited,
        "outstanding": month.outstanding,
    }
    portal = {
        "fees": report["kinds"]["subscriptionCents"],
        "usage": report["kinds"]["leadsCents"] + report["kinds"]["aiCents"],
        "paid": report["paidCents"],
        "credited": report["creditedCents"],
        "outstanding": report["outstandingCents"],
    }
    agree(label, by_hand, Stripe=found["stripe"], report=portal)
    more = {
        "grossCents": month.gross,
        "billedCents": month.gross - month.credited,
        "collectedCents": month.paid,
        "overdueCents": month.overdue,
        "refundedCents": 0,
        "offStripeCents": 0,
    }
    agree(label, more, report=report)


@pytest.mark.parametrize("label", table.MONTHS)
def test_recurring_revenue_is_as_in_the_table(seen: Seen, label: str) -> None:
    month = table.MONTHS[label]
    kind, cents = month.moved
    by_hand = {f"{name}Cents": cents if name == kind else 0 for name in _MOVEMENTS}
    by_hand |= {"openingCents": month.mrr - cents, "closingCents": month.mrr}
    agree(label, by_hand, MRR=seen.months[label]["mrr"])


def test_the_ledger_grows_by_each_month(seen: Seen) -> None:
    """The ledger's `gross` are totals as invoiced; what was credited stands beside it."""
    billed = paid = credited = 0
    for label, month in table.MONTHS.items():
        billed, paid, credited = billed + month.gross, paid + month.paid, credited + month.credited
        ledger = seen.months[label]["ledger"]
        found = {
            **ledger,
            "credited when open": ledger["creditedUnpaidCents"],
        }
        by_hand = {
            "grossCents": billed,
            "paidCents": paid,
            "outstandingCents": month.outstanding,
            "credited when open": credited,
            "writtenOffCents": 0,
        }
        agree(label, by_hand, ledger=found)
        paid += month.later_paid


@pytest.mark.parametrize("label", table.USAGE)
def test_run_bills_the_lines_of_the_table(seen: Seen, label: str) -> None:
    run = seen.runs[label]
    for position, client in enumerate("AB"):
        lines = table.USAGE[label][position]
        by_hand = {"lines": lines, "cents": sum(line.cents for line in lines)}
        plan = {
            "lines": run["lines"][position],
            "cents": sum(one.cents for one in run["lines"][position]),
        }
        agree(f"{label} of {client}", by_hand, plan=plan)
        stripe = {"cents": sum(run["stripe"][position])}
        agree(f"{label} of {client}", {"cents": by_hand["cents"]}, Stripe=stripe)


@pytest.mark.parametrize("label", table.USAGE)
def test_run_was_approved_by_another_person(seen: Seen, label: str) -> None:
    planned, approved = seen.runs[label]["people"]
    assert planned != approved
    by_cli = label == "2028-02"
    assert (planned, approved) == (("cli:first", "cli:second") if by_cli else ("token:demo", "token:second"))


@pytest.mark.parametrize("label", table.USED)
def test_instance_counts_what_the_table_says(seen: Seen, label: str) -> None:
    for client, by_hand, (leads, cost, cap) in zip(
        "AB", table.USED[label], seen.facts["instance"][label], strict=True
    ):
        found = {"leads": len(leads), "AI cost": cost, "cap": cap}
        expected = {"leads": by_hand[0], "AI cost": by_hand[1], "cap": table.CAP}
        agree(f"{label} of {client}", expected, instance=found)


@pytest.mark.parametrize("name", table.FACTS)
def test_event_is_as_in_the_table(seen: Seen, name: str) -> None:
    assert seen.facts[name] == table.FACTS[name]


def test_in_the_end_every_month_is_paid(seen: Seen) -> None:
    """Later payments, credits and refunds count for the month whose invoice they are about."""
    rows = seen.facts["in the end"]
    for label, month in table.MONTHS.items():
        credited = month.credited + month.later_credited
        by_hand = {
            "grossCents": month.gross,
            "creditedCents": credited,
            "billedCents": month.gross - credited,
            "paidCents": month.paid + month.later_paid,
            "refundedCents": month.later_refunded,
            "collectedCents": month.paid + month.later_paid - month.later_refunded,
            "outstandingCents": 0,
        }
        agree(f"{label}, in the end", by_hand, report=rows[label])
    last = {"grossCents": table.LAST_RUN, "paidCents": table.LAST_RUN, "outstandingCents": 0}
    agree("2029-02", last, report=rows["2029-02"])


def test_the_whole_time_adds_up(seen: Seen) -> None:
    rows = seen.facts["in the end"].values()
    sums = {
        name: sum(row[f"{name}Cents"] for row in rows) for name in ("gross", "credited", "refunded", "paid")
    }
    by_hand = {
        "gross": table.GROSS,
        "credited": table.CREDITED,
        "refunded": table.REFUNDED,
        "paid": table.PAID,
    }
    ledger = seen.facts["ledger"]
    agree("fourteen months", by_hand, report=sums)
    found = {
        "gross": ledger["grossCents"],
        "credited": ledger["creditedUnpaidCents"] + ledger["creditedPaidCents"],
        "paid": ledger["paidCents"],
        "outstanding": ledger["outstandingCents"],
    }
    del by_hand["refunded"]
    agree("fourteen months", {**by_hand, "outstanding": 0}, ledger=found)


@pytest.mark.parametrize("label", [*table.USAGE, "2029-02"])
def test_three_books_agree(seen: Seen, label: str) -> None:
    found = seen.reports[label]
    assert [row["message"] for row in found["rows"]] == []
    books = {"agrees": found["report"]["agrees"], "complete": found["coverage"]["complete"]}
    agree(
        label,
        {"agrees": True, "complete": True, "answered": 2},
        reconciliation={**books, "answered": found["coverage"]["answered"]},
    )


def test_three_books_agreed_on_the_way(seen: Seen) -> None:
    """Also while invoices were open."""
    assert seen.facts["reconciled on the way"] == {"2028-01": 0, "2028-08": 0}
