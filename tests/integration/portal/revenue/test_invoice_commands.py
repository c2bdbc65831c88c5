"""Invoices that have left, corrected on the command line: against the simulator, as they are typed."""

from __future__ import annotations

import pytest
from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.audit.services import Kind
from provider_federation.portal.receivables.models import CreditNote, Refund
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice

BASE = "/api/provider/billing"


@pytest.fixture
def billed(books, grow, api):
    """A client with one open usage invoice: two leads and $3.00 of AI usage; returns its row."""
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, ai="3.00")
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    assert api.post(f"{BASE}/revenue", wanted, content_type="application/json").status_code == 201
    assert run_jobs() == []
    return UsageInvoice.objects.get()


@pytest.fixture
def paid(books, billed, terminal):
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    assert terminal("portal sweep").code == 0
    billed.refresh_from_db()
    assert billed.status == "paid"
    return billed


def billed_leads():
    return LeadCharge.objects.filter(released_at=None).count()


def as_the_api_says(api, row):
    return api.get(f"{BASE}/receivables/{row.stripe_invoice_id}").json()["invoice"]


def test_void_asks_first_and_happens_once(books, billed, api, terminal):
    line = f"portal invoice void {billed.stripe_invoice_id}"
    said = terminal(line, "n\n")
    assert (said.code, said.out.strip()) == (1, "")
    assert "open, $203.00 in all, $203.00 to pay." in said.err
    assert books.writes(f"/v1/invoices/{billed.stripe_invoice_id}/void") == 0
    assert terminal(line, "y\n").out.endswith("void, $203.00 in all.\n")
    again = terminal(f"{line} --yes --json")
    assert again.code == 0
    assert again.json["invoice"].items() <= as_the_api_says(api, billed).items()
    assert again.json["invoice"]["status"] == "void"
    assert books.writes(f"/v1/invoices/{billed.stripe_invoice_id}/void") == 1
    assert billed_leads() == 0
    assert AuditEvent.objects.get(kind=Kind.INVOICE_VOIDED).actor.startswith("cli:")


def test_write_off_and_then_void(billed, terminal):
    line = f"portal invoice write-off {billed.stripe_invoice_id} --yes"
    for _ in range(2):
        assert "uncollectible, $203.00 in all, $203.00 to pay." in terminal(line).out
    assert billed_leads() == 2
    assert "void" in terminal(f"portal invoice void {billed.stripe_invoice_id} --yes").out
    said = terminal(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.strip().endswith("[not_open]")


def test_a_paid_invoice_is_neither_voided_nor_written_off(paid, terminal):
    for way in ("void", "write-off"):
        said = terminal(f"portal invoice {way} {paid.stripe_invoice_id} --yes")
        assert (said.code, said.err.split()[-1]) == (2, "[not_open]")


def test_a_line_is_credited_once_and_again_by_another_name(books, billed, api, terminal):
    line = f"portal invoice credit {billed.stripe_invoice_id} --line 2:100"
    said = terminal(line, "n\n")
    assert said.code == 1
    assert "credit: $1.00" in said.err
    assert "still to pay: $202.00" in said.err
    assert "stay billed" in said.err
    assert CreditNote.objects.count() == 0
    said = terminal(line, "y\n")
    assert (said.code, "$1.00, issued" in said.out) == (0, True)
    [reference] = CreditNote.objects.values_list("reference", flat=True)
    assert f"Reference: {reference}" in said.err
    again = terminal(line)  # nobody is asked, and nothing is made
    assert (again.code, "(made before)" in again.out) == (0, True)
    as_json = terminal(f"{line} --yes --json").json
    assert as_json["reused"] is True
    assert [as_json["creditNote"]] == as_the_api_says(api, billed)["creditNotes"]
    assert books.writes("/v1/credit_notes") == 1
    assert "(made before)" not in terminal(f"{line} --yes --reference second").out
    assert books.writes("/v1/credit_notes") == 2
    other = terminal(f"portal invoice credit {billed.stripe_invoice_id} --yes --reference second")
    assert (other.code, other.err.split()[-1]) == (2, "[reference_used]")
    assert billed_leads() == 2


@pytest.mark.parametrize(("word", "left"), [("--free-leads", 0), ("--keep-leads", 2)])
def test_the_whole_is_credited_with_its_leads_freed_or_not(billed, terminal, word, left):
    line = f"portal invoice credit {billed.stripe_invoice_id} {word} --memo Sorry"
    said = terminal(line, "y\n")
    assert (said.code, "$203.00, issued" in said.out) == (0, True)
    assert ("may be billed again" in said.err) == (left == 0)
    assert billed_leads() == left
    note = CreditNote.objects.get()
    assert (note.total_cents, note.memo, note.lines.count()) == (20_300, "Sorry", 2)
    shown = terminal(f"portal invoice show {billed.stripe_invoice_id}").out
    assert "line 1: $200.00, $0.00 left" in shown
    assert "To credit: $0.00" in shown
    assert note.number in shown


def test_one_line_of_leads_is_freed_and_the_other_lines_stay(billed, terminal):
    line = f"portal invoice credit {billed.stripe_invoice_id} --line 1 --free-leads --yes"
    assert terminal(line).code == 0
    assert (CreditNote.objects.get().total_cents, billed_leads()) == (20_000, 0)


def test_a_paid_invoices_credit_goes_where_it_was_told(paid, terminal):
    line = f"portal invoice credit {paid.stripe_invoice_id} --line 2 --settle refund --yes --json"
    assert terminal(line).json["creditNote"]["refundedCents"] == 300
    assert Refund.objects.get().amount_cents == 300


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--line two", "invalid_field"),
        ("--line 1:1.50", "invalid_field"),
        ("--line 1:0", "invalid_field"),
        ("--line 1:-5", "invalid_field"),
        ("--line 0", "invalid_field"),
        ("--line 9", "credit_refused"),
        ("--line 2 --line 2", "credit_refused"),
        ("--line 2:301", "credit_refused"),
        ("--line 1:100 --free-leads", "credit_refused"),
        ("--reason because", "invalid_field"),
        ("--settle cash", "invalid_field"),
        (f"--memo {'m' * 501}", "invalid_field"),
        (f"--reference {'r' * 65}", "invalid_field"),
    ],
)
def test_a_credit_that_makes_no_sense_is_refused(billed, terminal, words, code):
    said = terminal(f"portal invoice credit {billed.stripe_invoice_id} {words} --yes --json")
    assert (said.code, said.out, said.err.split()[-1]) == (2, "", f"[{code}]")
    assert CreditNote.objects.count() == 0


def test_a_refund_is_made_once_and_the_rest_by_another_command(books, paid, api, terminal):
    line = f"portal invoice refund {paid.stripe_invoice_id} --amount 300"
    said = terminal(line, "n\n")
    assert (said.code, "Give $3.00 back?" in said.err) == (1, True)
    assert "$3.00, succeeded" in terminal(line, "y\n").out
    again = terminal(f"{line} --yes --json").json
    assert again["reused"] is True
    parts = again["refund"].pop("parts")
    assert parts == [again["refund"]] == as_the_api_says(api, paid)["refunds"]
    rest = f"portal invoice refund {paid.stripe_invoice_id} --reason duplicate"
    said = terminal(rest, "y\n")
    assert ("Give $200.00 back?" in said.err, said.code) == (True, 0)
    assert "(made before)" in terminal(rest).out
    assert books.writes("/v1/refunds") == 2
    said = terminal(f"{rest} --reference more --yes")
    assert (said.code, said.err.split()[-1]) == (2, "[refund_refused]")


def test_an_unpaid_invoice_is_not_refunded(billed, terminal):
    said = terminal(f"portal invoice refund {billed.stripe_invoice_id} --yes")
    assert (said.code, said.out, said.err.split()[-1]) == (2, "", "[refund_refused]")
    assert terminal(f"portal invoice refund {billed.stripe_invoice_id} --amount 0 --yes").code == 2
    assert terminal(f"portal invoice refund {billed.stripe_invoice_id} --reason no --yes").code == 2
    assert Refund.objects.count() == 0


@pytest.mark.parametrize(
    ("words", "path", "done"),
    [("credit {} --line 1:500", "/v1/credit_notes", False), ("refund {} --amount 200", "/v1/refunds", True)],
)
def test_the_same_command_after_a_lost_answer_makes_no_second(books, paid, terminal, words, path, done):
    """Stripe is away, before the change or right after it: the same command goes on where the first stopped."""
    line = f"portal invoice {words.format(paid.stripe_invoice_id)} --yes"
    if done:
        books.fault("error_after", path, method="POST")
        books.fault("error_before", path, method="GET", count=99)
    books.fault("error_before", path, method="POST", count=99, skip=int(done))
    said = terminal(line)
    assert (said.code, said.out, "Reference: cli-" in said.err) == (2, "", True)
    books.simulator.ask("DELETE", "/_sim/faults")
    for _ in range(2):
        assert terminal(line).code == 0
    assert len(books.get(f"{path[4:]}?limit=100")["data"]) == 1


def test_an_unknown_invoice_is_said(billed, terminal):
    for way in ("show", "void --yes", "write-off --yes", "credit --yes", "refund --yes"):
        said = terminal(f"portal invoice {way} in_nobody")
        assert (said.code, said.out, said.err.strip()) == (2, "", "There is no such invoice. [not_found]")


def test_show_says_what_the_api_says(billed, api, terminal):
    shown = terminal(f"portal invoice show {billed.stripe_invoice_id} --json")
    assert shown.json["invoice"] == as_the_api_says(api, billed)
    out = terminal(f"portal invoice show {billed.stripe_invoice_id}").out
    assert "line 2: $3.00, $3.00 left" in out
    assert "To refund: $0.00" in out


@pytest.mark.parametrize("way", ["show", "void", "write-off", "credit", "refund"])
def test_help_reads_well(terminal, way):
    said = terminal(f"portal invoice {way} --help")
    assert (said.code, said.err) == (0, "")
    assert "--json" in said.out
    assert "(in_...)" in said.out
