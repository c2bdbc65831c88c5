"""The three books: each class of difference is planted and found, and its repair brings the report to zero."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.portal.revenue.books_rig import (
    BooksInstance,
    bill_february,
    classes,
    mend,
    reconcile,
)
from tests.integration.portal.revenue.rig import FEBRUARY, enrol, forget_jobs, run_jobs

from provider_federation.kit import clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.fleet.execution import sync_many
from provider_federation.portal.fleet.models import ClientInvoice, SyncState
from provider_federation.portal.reconciliation import queries, services
from provider_federation.portal.reconciliation.classes import CLASSES
from provider_federation.portal.reconciliation.models import ReconciliationReport
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageLine
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.subscriptions.models import BillingCustomer
from provider_federation.portal.subscriptions.services import create_subscription


@pytest.fixture
def ada(transactional_db, settings, at):
    settings.ALLOWED_PRIVATE_HOSTS = ("127.0.0.1",)
    forget_jobs()
    usage = BooksInstance("org_ada")
    usage.uses(FEBRUARY, 3, "12.345")
    usage.bills(3, 5_000)
    usage.bills(5, 7_000, status="paid", amountPaidCents=7_000)
    usage.instance = enrol(usage, "ada")
    yield usage
    usage.stop()


@pytest.fixture
def agreed(books, ada, api):
    """February, billed, and all books agree."""
    bill_february(api, ada.instance)
    report = reconcile()
    assert (classes(report), report.status) == ({}, "done")
    return ada


def found(report: ReconciliationReport) -> set[str]:
    return set(classes(report))


def planted(*kinds: str) -> ReconciliationReport:
    report = reconcile()
    assert found(report) == set(kinds)
    return report


def row_of_february() -> UsageInvoice:
    return UsageInvoice.objects.get(period=FEBRUARY)


def test_books_that_agree_say_so_with_their_figures_and_coverage(agreed, api):
    listed = api.get("/api/provider/billing/reconciliations?period=2026-02").json()["items"]
    whole = api.get(f"/api/provider/billing/reconciliations/{listed[0]['id']}").json()
    assert (whole["report"]["agrees"], whole["report"]["differences"]) == (True, 0)
    assert (whole["coverage"]["stripe"], whole["coverage"]["answered"], whole["coverage"]["of"]) == (
        True,
        1,
        1,
    )
    assert whole["figures"]["portal"] == whole["figures"]["stripe"]
    assert whole["figures"]["portal"]["usd"]["gross"] == 31_235


def test_what_a_lost_event_leaves_behind_is_fetched_again(agreed, books):
    books.post(f"invoices/{row_of_february().stripe_invoice_id}/pay", payment_method="pm_card_visa")
    report = planted("status", "paid")
    assert len(services.repairable(report)) == 2  # the dry run
    assert row_of_february().status == "open"
    assert mend(report)[0].endswith("is paid.")
    assert classes(reconcile()) == {}
    assert row_of_february().status == "paid"
    assert set(AuditEvent.objects.filter(kind="reconciliation.repaired").values_list("actor", flat=True)) == {
        "operator:test@example.com"
    }


def test_an_amount_is_found_and_fetched_again(agreed):
    UsageInvoice.objects.update(total_cents=1, tax_cents=7, credited_unpaid_cents=3)
    report = planted("amount", "tax", "credited")
    assert report.rows.get(kind="amount").gap_cents == 31_234
    mend(report)
    assert classes(reconcile()) == {}


def test_lines_are_compared_one_by_one_and_need_a_person(agreed):
    row = row_of_february()
    leads = row.lines.get(kind="leads")
    UsageLine.objects.filter(pk=leads.pk).update(amount_cents=29_999)
    UsageLine.objects.filter(invoice=row, kind="ai").update(position=9)
    report = planted("line_amount", "line_extra", "line_missing")
    assert services.repairable(report) == []
    assert report.rows.get(kind="line_amount").gap_cents == 1


def test_an_invoice_that_stripe_does_not_know(agreed):
    row = row_of_february()
    UsageInvoice.objects.filter(pk=row.pk).update(stripe_invoice_id="in_nowhere")
    report = planted("missing_in_stripe", "orphan")
    assert report.rows.get(kind="orphan").repair == ""  # its row holds another invoice: a person looks


def test_an_orphan_of_our_order_is_adopted(agreed):
    UsageInvoice.objects.update(stripe_invoice_id=None, status="placing", paid_cents=0)
    report = planted("orphan", "not_placed")
    mend(report)
    assert row_of_february().status == "open"
    assert classes(reconcile()) == {}


def test_a_held_invoice_is_told_of(agreed):
    UsageInvoice.objects.update(stripe_invoice_id=None, status="held", hold_reason="A jump.")
    assert "A jump." in planted("held", "orphan").rows.get(kind="held").message


def test_a_second_draft_is_removed_and_a_second_invoice_is_not(agreed, books):
    row = row_of_february()
    customer = BillingCustomer.objects.get().stripe_customer_id
    copied = {"metadata[pf_key]": row.order_key, "metadata[period]": FEBRUARY, "customer": customer}
    draft = books.post("invoices", **copied)
    report = planted("duplicate")
    assert mend(report) == ["The second draft was removed."]
    assert draft["id"] not in {one["id"] for one in books.invoices()}
    assert classes(reconcile()) == {}
    books.post("invoiceitems", customer=customer, amount=100, currency="usd")
    final = books.post("invoices", pending_invoice_items_behavior="include", **copied)
    books.post(f"invoices/{final['id']}/finalize")
    report = planted("duplicate")
    assert services.repairable(report) == []


def test_invoices_made_by_hand_and_strangers(agreed, books):
    customer = BillingCustomer.objects.get().stripe_customer_id
    stranger = books.post("customers", name="Somebody")["id"]
    for who in (customer, stranger):
        books.post("invoiceitems", customer=who, amount=100, currency="usd")
        made = books.post("invoices", customer=who, pending_invoice_items_behavior="include")
        books.post(f"invoices/{made['id']}/finalize")
    assert found(reconcile(label="2026-03")) == {"missing_in_ledger", "stranger"}
    assert classes(reconcile()) == {}  # they are March's


def test_a_wrong_customer_and_a_wrong_currency(agreed, books):
    stranger = books.post("customers", name="Somebody")["id"]
    mine = BillingCustomer.objects.get().stripe_customer_id
    BillingCustomer.objects.update(stripe_customer_id=stranger)
    planted("customer")
    BillingCustomer.objects.update(stripe_customer_id=mine)
    UsageInvoice.objects.update(currency="eur")
    planted("currency")


def test_a_subscription_whose_event_was_lost(agreed, books):
    created = create_subscription(agreed.instance, "PRO", actor="tests", payment_method="pm_card_visa")
    row = created.subscription
    assert run_jobs() == []
    assert classes(reconcile()) == {}
    books.post(f"subscriptions/{row.stripe_subscription_id}", cancel_at_period_end="true")
    report = planted("subscription")
    mend(report)
    assert classes(reconcile()) == {}


def test_a_credit_note_and_a_refund_that_no_event_told_of(agreed, books):
    march, stripe_id = "2026-03", row_of_february().stripe_invoice_id
    books.post(f"invoices/{stripe_id}/pay", payment_method="pm_card_visa")
    mend(planted("status", "paid"))
    note = {"lines[0][type]": "custom_line_item", "lines[0][description]": "Sorry", "lines[0][quantity]": 1}
    amounts = {"lines[0][unit_amount]": 500, "refund_amount": 500}
    books.post("credit_notes", invoice=stripe_id, **note, **amounts)
    report = reconcile(label=march)
    assert found(report) == {"credit_note", "refund"}
    mend(report)
    assert classes(reconcile(label=march)) == {}
    mend(planted("credited"))
    assert classes(reconcile()) == {}


def test_leads_without_evidence_changed_and_late(agreed):
    leads = agreed.months[FEBRUARY]["items"]
    gone = leads.pop(0)
    leads[0]["evidence"] = "sha256:" + "f" * 64
    agreed.uses("2026-03", 0)
    leads.append(
        {**gone, "leadId": "late", "leadPublicId": "L-late", "convertedAt": "2026-02-27T10:00:00+00:00"}
    )
    report = planted("lead_without_evidence", "evidence_changed", "lead_unbilled")
    assert report.rows.get(kind="lead_unbilled").instance_says
    assert services.repairable(report) == []
    LeadCharge.objects.filter(lead_id=gone["leadId"]).update(evidence="")
    assert report.rows.get(kind="lead_without_evidence").portal


def test_ai_cost_that_came_late_or_shrank(agreed):
    agreed.months[FEBRUARY]["ai"] = "20.00"
    row = planted("ai_unbilled").rows.get()
    assert (row.portal, row.instance_says, row.gap_cents) == (1_235, 2_000, 765)
    agreed.months[FEBRUARY]["ai"] = "10.00"
    assert planted("ai_overbilled").rows.get().gap_cents == 235
    agreed.months[FEBRUARY]["ai"] = "12.3451"  # the same cents
    assert classes(reconcile()) == {}


def test_a_month_that_nobody_billed(books, ada):
    sync_many([ada.instance.pk])
    row = planted("not_billed").rows.get()
    assert (row.portal, row.instance_says) == (None, 3)
    ada.uses("2026-03", 2)
    assert classes(reconcile(label="2026-03")) == {}  # not over yet


def test_the_mirror_is_compared_and_read_again(agreed):
    ClientInvoice.objects.filter(remote_id="3").delete()
    ClientInvoice.objects.filter(remote_id="5").update(total_cents=1)
    ghost = ClientInvoice.objects.get(remote_id="5")
    ghost.pk, ghost.remote_id = None, "99"
    ghost.save()
    report = planted("mirror_missing", "mirror_differs", "mirror_extra")
    assert set(mend(report)) == {"Its invoices are read again from the beginning."}
    sync_many([agreed.instance.pk])
    assert classes(reconcile()) == {}


def test_what_changed_since_the_last_sync_is_not_due_but_a_stale_mirror_is(agreed, at):
    agreed.bills(9, 100, updatedAt=(clock.now() + timedelta(seconds=5)).isoformat())
    assert classes(reconcile()) == {}
    SyncState.objects.update(synced_at=clock.now() - timedelta(days=1))
    report = planted("mirror_stale")
    mend(report)
    at(clock.now() + timedelta(minutes=1))
    sync_many([agreed.instance.pk])
    assert classes(reconcile()) == {}


def test_an_instance_that_does_not_answer_is_never_a_silent_zero(agreed, api):
    agreed.stop()
    report = reconcile()
    view = queries.view_of(report)
    assert (view.agrees, view.progress.answered, view.progress.failed) == (False, 0, 1)
    whole = api.get(f"/api/provider/billing/reconciliations/{report.pk}").json()
    assert whole["coverage"]["unanswered"][0]["reason"] == "connect_failed"
    assert whole["coverage"]["complete"] is False


def test_a_report_is_compared_with_the_last_one(agreed, at):
    UsageInvoice.objects.update(tax_cents=7)
    at(clock.now() + timedelta(minutes=1))
    first = reconcile()
    UsageInvoice.objects.update(tax_cents=0, off_stripe_cents=1)
    at(clock.now() + timedelta(minutes=1))
    second = reconcile()
    changes = queries.changes_of(second)
    assert (changes.before.pk, changes.new, changes.gone) == (first.pk, 1, 1)


def test_a_report_under_way_is_answered_again_and_a_lost_worker_is_followed(agreed, api):
    body = {"period": FEBRUARY}
    answers = [
        api.post("/api/provider/billing/reconciliations", body, content_type="application/json") for _ in "ab"
    ]
    assert [one.status_code for one in answers] == [202, 200]
    assert answers[0].json()["report"]["id"] == answers[1].json()["report"]["id"]
    report = ReconciliationReport.objects.get(status="queued")
    ReconciliationReport.objects.filter(pk=report.pk).update(status="running")  # its worker died
    services.work_on_report(report.pk)
    services.work_on_report(report.pk)
    assert queries.view_of(ReconciliationReport.objects.get(pk=report.pk)).agrees
    run_jobs()
    kinds = AuditEvent.objects.filter(subject=f"reconciliation:{report.pk}").values_list("kind", flat=True)
    assert sorted(kinds) == ["reconciliation.done", "reconciliation.started"]


def test_rows_are_paged_filtered_exported_and_repaired_over_the_api(agreed, books, api):
    books.post(f"invoices/{row_of_february().stripe_invoice_id}/pay", payment_method="pm_card_visa")
    ClientInvoice.objects.filter(remote_id="5").update(total_cents=1)
    report = reconcile()
    base = f"/api/provider/billing/reconciliations/{report.pk}"
    page = api.get(f"{base}/rows?limit=1").json()
    rest = api.get(f"{base}/rows?limit=5&cursor={page['nextCursor']}").json()
    assert [row["class"] for row in page["items"] + rest["items"]] == ["status", "paid", "mirror_differs"]
    assert len(api.get(f"{base}/rows?class=paid&clientOrgId=org_ada").json()["items"]) == 1
    assert api.get(f"{base}/rows?class=nonsense").json()["reason"] == "invalid_field"
    dry = api.post(f"{base}/repair", {"classes": ["status", "paid"]}, content_type="application/json")
    assert (dry.status_code, dry.json()["queued"], len(dry.json()["planned"])) == (200, 0, 2)
    real = api.post(f"{base}/repair", {"dryRun": False}, content_type="application/json")
    assert (real.status_code, real.json()["queued"]) == (202, 3)
    assert run_jobs() == []
    rows = api.get(f"{base}/rows").json()["items"]
    assert all(row["repairedAt"] for row in rows)
    again = api.post(f"{base}/repair", {"dryRun": False}, content_type="application/json")
    assert again.json()["queued"] == 0


def test_threat_133_the_export_runs_nothing_and_keeps_numbers(agreed, api):
    ReconciliationReport.objects.all().delete()
    agreed.instance.title = "=cmd|' /C calc'!A0"
    agreed.instance.save()
    agreed.months[FEBRUARY]["items"].append(
        {
            "leadId": "=1+1",
            "leadPublicId": "@x",
            "convertedAt": "2026-02-27T10:00:00+00:00",
            "evidence": "-2+3",
        }
    )
    report = planted("lead_unbilled")
    answer = api.get(f"/api/provider/billing/reconciliations/{report.pk}/rows.csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert (rows[0]["instance"], rows[0]["gap (minor units)"]) == ("'-2+3", "0")
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row.values())
    assert answer["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("word", ["' OR 1=1 --", "%", "kind__startswith", "-kind", "\\"])
def test_threat_134_what_is_typed_into_a_filter_is_only_ever_a_value(agreed, api, word):
    report = ReconciliationReport.objects.first()
    base = f"/api/provider/billing/reconciliations/{report.pk}/rows"
    assert api.get(base, {"clientOrgId": word}).json()["items"] == []
    assert api.get(base, {"class": word}).json()["reason"] == "invalid_field"
    assert api.get(base, {"order_by": word}).json()["reason"] == "unknown_field"


def test_every_class_is_planted_here():
    """The vocabulary holds no class that no test finds."""
    told = Path(__file__).read_text()
    assert [kind for kind in CLASSES if f'"{kind}"' not in told] == []


def test_the_month_is_one_that_there_is(api):
    body = {"period": "2026-13"}
    answer = api.post("/api/provider/billing/reconciliations", body, content_type="application/json")
    assert (answer.status_code, answer.json()["reason"]) == (400, "bad_date")
    assert month(FEBRUARY).label == FEBRUARY
