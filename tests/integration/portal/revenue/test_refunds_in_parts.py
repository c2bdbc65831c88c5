"""An invoice that was paid by several payments: what goes back of it, and when its client paid what."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db.models import Count, Sum
from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs
from tests.integration.portal.revenue.test_receivables_crashes import Crashed, Crashing, Fuse

from provider_federation.portal.receivables.models import CreditNote, Refund
from provider_federation.portal.receivables.services import credit_notes, refunds
from provider_federation.portal.receivables.services.credit_notes import CreditLine, CreditRequest
from provider_federation.portal.receivables.services.jobs import defer_forgotten
from provider_federation.portal.receivables.services.refunds import RefundRequest
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions import account as accounts
from provider_federation.stripe_account import Patience, StripeAccount, StripeFailed

BASE = "/api/provider/billing"


def part(books, row, cents):
    customer = books.get(f"invoices/{row.stripe_invoice_id}")["customer"]
    form = {"amount": cents, "currency": "usd", "customer": customer}
    intent = books.post("payment_intents", **form, payment_method="pm_card_visa", confirm="true")["id"]
    books.post(f"invoices/{row.stripe_invoice_id}/attach_payment", payment_intent=intent)
    return intent


@pytest.fixture
def billed(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post(f"{BASE}/revenue", wanted, content_type="application/json")
    assert run_jobs() == []
    return UsageInvoice.objects.get()


def give(api, row, status=201, **wanted):
    path = f"{BASE}/receivables/{row.stripe_invoice_id}/refunds"
    answer = api.post(path, wanted, content_type="application/json")
    assert answer.status_code == status, answer.json()
    return answer.json()


def test_as_many_payments_as_it_takes_the_newest_first(books, billed, api):
    first, second, third = (part(books, billed, cents) for cents in (12_000, 5_000, 3_000))
    row = refresh_any_invoice(billed.stripe_invoice_id)
    assert (row.status, row.paid_cents) == ("paid", 20_000)
    made = give(api, row, reference="all of two", amountCents=14_000)["refund"]
    assert (made["amountCents"], made["state"], len(made["parts"])) == (14_000, "succeeded", 3)
    by_intent = {one["payment_intent"]: one["amount"] for one in books.get("refunds?limit=10")["data"]}
    assert by_intent == {third: 3_000, second: 5_000, first: 6_000}
    again = give(api, row, 200, reference="all of two", amountCents=14_000)
    assert (again["reused"], again["refund"]["id"]) == (True, made["id"])
    assert give(api, row, 409, reference="all of two", amountCents=13_000)["reason"] == "reference_used"
    assert give(api, row, 422, reference="more", amountCents=6_001)["reason"] == "refund_refused"
    rest = give(api, row, reference="rest")["refund"]
    assert (rest["amountCents"], len(rest["parts"])) == (6_000, 1)
    assert give(api, row, 422, reference="nothing", amountCents=1)["reason"] == "refund_refused"
    assert sum(one["amount"] for one in books.get("refunds?limit=10")["data"]) == 20_000
    assert run_jobs() == []


def test_one_payment_that_can_give_it_all_goes_alone(books, billed, api):
    first, _ = part(books, billed, 15_000), part(books, billed, 5_000)
    row = refresh_any_invoice(billed.stripe_invoice_id)
    made = give(api, row, reference="r", amountCents=9_000)["refund"]
    assert (len(made["parts"]), Refund.objects.get().payment_intent) == (1, first)


def test_after_a_crash_anywhere_every_part_is_there_once(books, billed, monkeypatch, capsys):
    """Before and after every call to Stripe and every commit of the journal, Stripe's memory lost each time."""
    for _ in range(40):
        part(books, billed, 100)
    row = refresh_any_invoice(billed.stripe_invoice_id)
    account, journal = accounts.provider_account(), refunds.DatabaseJournal

    def run(number, fuse):
        with monkeypatch.context() as patched:
            patched.setattr(accounts, "_account", lambda *_given: Crashing(account, fuse))
            patched.setattr(refunds, "DatabaseJournal", lambda: Crashing(journal(), fuse))
            refunds.refund_payment(row, RefundRequest(f"r{number}", 150), actor="operator:t")

    counted = Fuse()
    run(0, counted)
    for at in range(len(counted.met)):
        with pytest.raises(Crashed):
            run(at + 1, Fuse(at))
        books.simulator.control("faults", kind="forget_idempotency", key=books.key)
        if at % 2:
            run(at + 1, Fuse())
        else:
            defer_forgotten()
        assert run_jobs() == []
        if not Refund.objects.filter(reference=f"r{at + 1}").exists():
            run(at + 1, Fuse())  # it died before anything was claimed
    sums = Refund.objects.values("reference").annotate(sum=Sum("amount_cents"), parts=Count("pk"))
    assert {one["sum"] for one in sums} == {150}
    assert {one["parts"] for one in sums} == {2}
    assert set(Refund.objects.values_list("state", flat=True)) == {"succeeded"}
    made = books.get("refunds?limit=100")["data"]
    assert len(made) == Refund.objects.count() == 2 * (len(counted.met) + 1)
    assert sum(one["amount"] for one in made) == 150 * (len(counted.met) + 1)
    with capsys.disabled():
        print(f"\n{len(counted.met)} crash points of a refund in two parts")


def credit(api, row, status=201, **wanted):
    path = f"{BASE}/receivables/{row.stripe_invoice_id}/credit-notes"
    answer = api.post(path, {"settle": "refund", **wanted}, content_type="application/json")
    assert answer.status_code == status, answer.json()
    return answer.json()


def look(api, row, **wanted):
    path = f"{BASE}/receivables/{row.stripe_invoice_id}/credit-notes/preview"
    answer = api.post(path, {"settle": "refund", **wanted}, content_type="application/json")
    assert answer.status_code == 200, answer.json()
    return answer.json()["preview"]


def test_a_credit_note_gives_back_of_as_many_payments_as_it_takes(books, billed, api):
    first, second, third = (part(books, billed, cents) for cents in (12_000, 5_000, 3_000))
    row = refresh_any_invoice(billed.stripe_invoice_id)
    line = [{"position": 1, "amountCents": 14_000}]
    shown = look(api, row, reference="look", lines=line)
    assert (shown["totalCents"], shown["refundedCents"]) == (14_000, 14_000)
    assert Refund.objects.count() == 0
    made = credit(api, row, reference="c", lines=line)["creditNote"]
    assert (made["state"], made["refundedCents"], made["toBalanceCents"]) == ("issued", 14_000, 0)
    by_intent = {one["payment_intent"]: one["amount"] for one in books.get("refunds?limit=10")["data"]}
    assert by_intent == {third: 3_000, second: 5_000, first: 6_000}
    (note,) = books.get("credit_notes")["data"]
    assert sorted(one["amount_refunded"] for one in note["refunds"]) == [3_000, 5_000, 6_000]
    assert set(Refund.objects.values_list("credit_note", "state")) == {(UUID(made["id"]), "succeeded")}
    assert credit(api, row, 200, reference="c", lines=line)["reused"] is True
    assert credit(api, row, 422, reference="d", lines=[{"position": 1, "amountCents": 6_001}])
    rest = credit(api, row, reference="rest")["creditNote"]
    assert (rest["refundedCents"], rest["state"]) == (6_000, "issued")
    assert sum(one["amount"] for one in books.get("refunds?limit=10")["data"]) == 20_000
    assert give(api, row, 422, reference="more", amountCents=1)["reason"] == "refund_refused"
    assert run_jobs() == []
    assert Refund.objects.count() == 4
    statement = api.get(f"{BASE}/statements?clientOrgId=org_ada&period=2026-03").json()["statement"]
    (one,) = statement["currencies"]
    assert one["closingCents"] == 0


def test_a_refund_by_hand_that_nobody_told_us_of_is_not_given_back_twice(books, billed, api):
    _, second = part(books, billed, 15_000), part(books, billed, 5_000)
    row = refresh_any_invoice(billed.stripe_invoice_id)
    books.post("refunds", payment_intent=second, amount=5_000)
    refused = credit(api, row, 422, reference="all")
    assert refused["reason"] == "stripe_refused"
    assert "that much left to go back" in refused["error"]
    assert sum(one["amount"] for one in books.get("refunds")["data"]) == 5_000
    assert credit(api, row, reference="rest", lines=[{"position": 1, "amountCents": 15_000}])
    assert sum(one["amount"] for one in books.get("refunds")["data"]) == 20_000


def test_a_part_that_is_refused_after_another_went_back_is_tried_again(books, billed, api, monkeypatch):
    part(books, billed, 15_000), part(books, billed, 5_000)
    row = refresh_any_invoice(billed.stripe_invoice_id)
    asked, real = [], StripeAccount.create_refund

    def short_of_money_once(self, intent, amount, **more):
        asked.append(amount)
        if len(asked) == 2:
            raise StripeFailed("insufficient_funds", "Your account does not have that much.", status=400)
        return real(self, intent, amount, **more)

    monkeypatch.setattr(StripeAccount, "create_refund", short_of_money_once)
    monkeypatch.setattr(credit_notes, "Patience", lambda: Patience(tries=1))
    waiting = credit(api, row, 503, reference="all")
    assert waiting["reason"] == "stripe_unavailable"
    note = CreditNote.objects.get()
    assert (note.state, note.failure != "") == ("making", True)
    assert {one.amount_cents: one.state for one in Refund.objects.all()} == {
        5_000: "succeeded",
        15_000: "refused",
    }
    defer_forgotten()
    assert run_jobs() == []
    note.refresh_from_db()
    assert (note.state, note.refunded_cents, note.failure) == ("issued", 20_000, "")
    assert len(books.get("refunds")["data"]) == 2


def test_after_a_crash_anywhere_a_note_has_its_refunds_once(books, billed, monkeypatch, capsys):
    """Each note takes one payment and a part of another. Every second point: a note's own are walked elsewhere."""
    for _ in range(45):
        part(books, billed, 100)
    row = refresh_any_invoice(billed.stripe_invoice_id)
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", paid_out_of_band="true")
    row = refresh_any_invoice(billed.stripe_invoice_id)
    account, journal = accounts.provider_account(), refunds.DatabaseJournal

    def run(number, fuse):
        with monkeypatch.context() as patched:
            patched.setattr(accounts, "_account", lambda *_given: Crashing(account, fuse))
            for module in (credit_notes, refunds):
                patched.setattr(module, "DatabaseJournal", lambda: Crashing(journal(), fuse))
            wanted = CreditRequest(f"c{number}", (CreditLine(1, 110),), settle="refund")
            credit_notes.issue_credit_note(row, wanted, actor="operator:t")

    counted = Fuse()
    run(0, counted)
    chosen = range(1, len(counted.met), 2)
    for at in chosen:
        with pytest.raises(Crashed):
            run(at + 1, Fuse(at))
        books.simulator.control("faults", kind="forget_idempotency", key=books.key)
        if at % 4 == 1:
            run(at + 1, Fuse())
        else:
            defer_forgotten()
        assert run_jobs() == []
    notes = books.get("credit_notes?limit=100")["data"]
    made = books.get("refunds?limit=100")["data"]
    assert len(notes) == CreditNote.objects.filter(state="issued").count() == len(chosen) + 1
    assert len(made) == Refund.objects.filter(state="succeeded").count() == Refund.objects.count()
    assert len(made) >= 2 * len(notes)
    assert {sum(one["amount_refunded"] for one in note["refunds"]) for note in notes} == {110}
    assert sum(one["amount"] for one in made) == 110 * len(notes)
    with capsys.disabled():
        print(f"\n{len(chosen)} of {len(counted.met)} crash points of a credit note refunded in parts")


def test_a_statement_dates_each_part_by_when_it_was_paid(books, billed, api, at):
    at(datetime(2026, 3, 12, 9, tzinfo=UTC))
    part(books, billed, 12_000)
    at(datetime(2026, 3, 30, 9, tzinfo=UTC))
    part(books, billed, 5_000)
    at(datetime(2026, 4, 2, 9, tzinfo=UTC))
    refresh_any_invoice(billed.stripe_invoice_id)  # seen for the first time in April
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", paid_out_of_band="true")
    refresh_any_invoice(billed.stripe_invoice_id)

    def entries(month):
        answer = api.get(f"{BASE}/statements?clientOrgId=org_ada&period={month}").json()
        (one,) = answer["statement"]["currencies"]
        paid = [(e["at"][:10], e["text"], e["amountCents"]) for e in one["entries"] if e["kind"] == "payment"]
        return paid, one["closingCents"]

    assert entries("2026-03") == (
        [("2026-03-12", "Payment", -12_000), ("2026-03-30", "Payment", -5_000)],
        3_000,
    )
    assert entries("2026-04") == ([("2026-04-02", "Payment outside of Stripe", -3_000)], 0)
