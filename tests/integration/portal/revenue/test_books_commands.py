"""`reconcile`, `sweep`, `dunning` and `statement` as they are typed, against the simulator."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from tests.integration.portal.revenue.rig import FEBRUARY

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.audit.services import Kind
from provider_federation.portal.receivables.models import DunningStep
from provider_federation.portal.reconciliation.models import ReconciliationReport
from provider_federation.portal.revenue.models import UsageInvoice

BASE = "/api/provider/billing"
DUE = datetime(2026, 4, 9, 12, tzinfo=UTC)  # 30 days after 10 March 2026, 12:00


def pay(books):
    """In Stripe, and no webhook tells of it."""
    row = UsageInvoice.objects.get()
    books.post(f"invoices/{row.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    return row


def code_of(said):
    return said.err.strip().split()[-1]


def test_reconcile_says_that_all_agree(ada_billed, terminal):
    said = terminal(f"portal reconcile --period {FEBRUARY}")
    assert (said.code, said.err) == (0, "")
    assert "0 differences; 1 of 1 instances answered." in said.out
    told = terminal(f"portal reconcile --period {FEBRUARY} --client org_ada --json").json
    assert (told["report"]["agrees"], told["report"]["clientOrgId"]) == (True, "org_ada")
    assert told["coverage"]["complete"] is True
    assert told["figures"]["portal"] == told["figures"]["stripe"] != {}


def test_reconcile_shows_writes_and_mends_what_differs(ada_billed, books, api, terminal, tmp_path):
    row = pay(books)
    wanted, line = tmp_path / "rows.csv", f"portal reconcile --period {FEBRUARY}"
    said = terminal(f"{line} --csv {wanted}")
    assert said.code == 1
    assert "[status]" in said.out
    written = list(csv.DictReader(io.StringIO(wanted.read_text())))
    assert f"{len(written)} differences" in said.out
    told = terminal(f"{line} --json")
    assert (told.code, told.json["report"]["differences"]) == (1, len(written))
    whole = api.get(f"{BASE}/reconciliations/{told.json['report']['id']}").json()
    assert told.json == whole
    dry = terminal(f"{line} --dry-run")
    assert (dry.code, "would refetch" in dry.out) == (1, True)
    row.refresh_from_db()
    assert row.status == "open"
    assert AuditEvent.objects.filter(kind=Kind.REPAIRED).count() == 0
    mended = terminal(f"{line} --repair --json")
    assert (mended.code, mended.json["report"]["differences"]) == (0, 0)
    assert "does refetch" in mended.err
    row.refresh_from_db()
    assert row.status == "paid"
    assert {one.actor[:4] for one in AuditEvent.objects.filter(kind=Kind.REPAIRED)} == {"cli:"}
    assert terminal(f"{line} --repair").code == 0


def test_reconcile_says_who_did_not_answer(ada_billed, terminal):
    ada_billed.stop()
    said = terminal(f"portal reconcile --period {FEBRUARY} --client org_ada")
    assert (said.code, "0 of 1 instances answered" in said.out) == (3, True)
    assert "Ada Ltd did not answer (connect_failed)" in said.out


def test_reconcile_of_nobody_and_of_nonsense(books, terminal, tmp_path):
    said = terminal(f"portal reconcile --period {FEBRUARY}")
    assert (said.code, "0 differences; 0 of 0 instances answered." in said.out) == (0, True)
    for words, reason in (
        ("--period 2026-13", "[bad_date]"),
        (f"--period {FEBRUARY} --client org_x", "[not_found]"),
    ):
        said = terminal(f"portal reconcile {words}")
        assert (said.code, said.out, code_of(said)) == (2, "", reason)
    assert terminal("portal reconcile").code == 2
    assert ReconciliationReport.objects.count() == 1
    said = terminal(f"portal reconcile --period {FEBRUARY} --csv {tmp_path}/none/rows.csv")
    assert (said.code, code_of(said)) == (2, "[cannot_write]")


def test_reconcile_while_stripe_is_away_goes_on_when_it_is_back(ada_billed, books, terminal):
    line = f"portal reconcile --period {FEBRUARY}"
    books.fault("error_before", "/v1/*", count=99)
    said = terminal(line)
    books.simulator.ask("DELETE", "/_sim/faults")
    assert (said.code, said.out, code_of(said)) == (2, "", "[stripe_unavailable]")
    assert terminal(line).code == 0
    assert ReconciliationReport.objects.get().status == "done"


def test_sweep_finds_what_no_event_told_of_once(ada_billed, books, terminal):
    assert terminal("portal sweep --json").json == {"ok": True, "lookedAt": 1, "found": 0, "problems": 0}
    row = pay(books)
    said = terminal("portal sweep")
    assert (said.code, said.out) == (0, "1 objects looked at, 1 were news, 0 are not ours.\n")
    row.refresh_from_db()
    assert (row.status, row.paid_cents) == ("paid", 20_300)
    assert terminal("portal sweep --json").json["found"] == 0
    assert AuditEvent.objects.filter(kind=Kind.STRIPE_SWEPT, actor__startswith="cli:").count() == 3


def test_sweep_of_nothing_and_while_stripe_is_away(books, terminal):
    assert terminal("portal sweep").out == "0 objects looked at, 0 were news, 0 are not ours.\n"
    books.fault("error_before", "/v1/*", count=99)
    said = terminal("portal sweep")
    books.simulator.ask("DELETE", "/_sim/faults")
    assert (said.code, said.out, code_of(said)) == (2, "", "[stripe_unavailable]")


def test_dunning_says_what_is_due_and_does_it_once(ada_billed, at, terminal):
    row = UsageInvoice.objects.get()
    assert (terminal("portal dunning").out, terminal("portal dunning --json").json) == (
        "",
        {"ok": True, "steps": []},
    )
    at(DUE + timedelta(days=1))
    due = terminal("portal dunning --dry-run --json")
    assert due.json == {
        "ok": True,
        "due": [{"stripeInvoiceId": row.stripe_invoice_id, "step": "day 1", "action": "remind"}],
    }
    assert terminal("portal dunning --dry-run").out == f"Ada Ltd\t{row.number}\tday 1\tremind\n"
    assert (DunningStep.objects.count(), mail.outbox) == (0, [])
    [step] = terminal("portal dunning --json").json["steps"]
    assert (step["state"], step["stripeInvoiceId"]) == ("sent", row.stripe_invoice_id)
    assert step["recipient"] == "ada@example.com"
    assert terminal("portal dunning").out == ""
    assert len(mail.outbox) == 1
    at(DUE + timedelta(days=7))
    assert terminal("portal dunning").out == f"Ada Ltd\t{row.number}\tday 7\tremind\tsent\n"


def test_a_reminder_that_does_not_leave_is_exit_code_one(ada_billed, at, settings, terminal):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # nobody there
    at(DUE + timedelta(days=1))
    said = terminal("portal dunning")
    assert (said.code, said.out.split("\t")[-1]) == (1, "failed\n")


def test_a_statement_as_csv_json_and_files(ada_billed, api, terminal, tmp_path):
    said = terminal("portal statement org_ada 2026-03")
    assert (said.code, said.err) == (0, "")
    rows = list(csv.reader(io.StringIO(said.out)))
    assert [row[2] for row in rows] == ["kind", "opening", "invoice", "closing"]
    assert rows[-1][-1] == "20300"
    as_json = terminal("portal statement org_ada 2026-03 --json").json
    assert as_json == api.get(f"{BASE}/statements?clientOrgId=org_ada&period=2026-03").json()
    pdf, table = tmp_path / "ada.pdf", tmp_path / "ada.csv"
    written = terminal(f"portal statement org_ada 2026-03 --pdf {pdf} --csv {table}")
    assert written.out == f"Written to {pdf}.\nWritten to {table}.\n"
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert table.read_bytes().decode().replace("\r\n", "\n") == said.out.replace("\r\n", "\n")


def test_a_statement_of_nothing_and_of_nonsense(ada_billed, terminal, tmp_path):
    assert terminal("portal statement org_ada 2026-01").out.count("\n") == 1
    for words, reason in (
        ("org_x 2026-03", "[not_found]"),
        ("org_ada 2026-13", "[bad_date]"),
        ("org_ada March", "[bad_date]"),
        (f"org_ada 2026-03 --pdf {tmp_path}", "[cannot_write]"),
    ):
        said = terminal(f"portal statement {words}")
        assert (said.code, said.out, code_of(said)) == (2, "", reason)
    assert terminal("portal statement org_ada").code == 2


@pytest.mark.parametrize("command", ["reconcile", "sweep", "dunning", "statement"])
def test_help_names_json(terminal, command):
    said = terminal(f"portal {command} --help")
    assert (said.code, "--json" in said.out) == (0, True)
