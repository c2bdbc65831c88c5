"""Invoices after they left: void, written off, credited, refunded, disputed. Over HTTP, against the simulator."""

from __future__ import annotations

import json

import pytest
from tests.integration.portal.clicking import Person
from tests.integration.portal.revenue.rig import FEBRUARY, jobs, run_jobs

from provider_federation.portal.receivables.models import CreditNote, LeadDispute, Refund
from provider_federation.portal.receivables.services.jobs import CREDIT
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice
from provider_federation.portal.subscriptions.models import SubscriptionInvoice

BASE = "/api/provider/billing"


@pytest.fixture
def billed(books, grow, api):
    """A client with one open usage invoice: two leads and $3.00 of AI usage; returns its row."""
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, ai="3.00")
    bill(api)
    return UsageInvoice.objects.get()


def bill(api):
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    answer = api.post(f"{BASE}/revenue", wanted, content_type="application/json")
    assert answer.status_code in {200, 201}, answer.json()
    assert run_jobs() == []


def ask(api, path, body=None, *, status=None):
    raw = "" if body is None else json.dumps(body)
    answer = api.post(f"{BASE}/{path}", raw, content_type="application/json")
    assert status is None or answer.status_code == status, answer.json()
    return answer.json()


def pay(books, row):
    books.post(f"invoices/{row.stripe_invoice_id}/pay", payment_method="pm_card_visa")


def at(row, path=""):
    return f"receivables/{row.stripe_invoice_id}{path}"


def reason(answer):
    return answer["reason"]


def test_voiding_frees_the_leads_and_they_are_billed_again_once(books, billed, api):
    for _ in range(2):
        answer = ask(api, at(billed, "/void"), status=200)
        assert answer["invoice"]["status"] == "void"
    assert LeadCharge.objects.filter(released_at=None).count() == 0
    assert books.writes(f"/v1/invoices/{billed.stripe_invoice_id}/void") == 1
    bill(api)
    assert UsageInvoice.objects.exclude(status="void").get().total_cents == 20_300
    assert LeadCharge.objects.filter(released_at=None).count() == 2


def test_a_paid_invoice_is_neither_voided_nor_written_off(books, billed, api):
    pay(books, billed)
    billed.refresh_from_db()
    UsageInvoice.objects.filter(pk=billed.pk).update(status="paid")
    for way in ("void", "uncollectible"):
        assert reason(ask(api, at(billed, f"/{way}"), status=409)) == "not_open"


def test_writing_off_and_the_payment_that_comes_all_the_same(books, billed, api):
    answer = ask(api, at(billed, "/uncollectible"), status=200)["invoice"]
    assert (answer["status"], answer["amountRemainingCents"]) == ("uncollectible", 20_300)
    pay(books, billed)
    assert ask(api, "sweep", status=200)["found"] >= 1
    billed.refresh_from_db()
    assert (billed.status, billed.paid_cents) == ("paid", 20_300)


def test_a_credit_note_of_a_line_before_payment(books, billed, api):
    wanted = {"reference": "a-1", "lines": [{"position": 2, "amountCents": 100}]}
    shown = ask(api, at(billed, "/credit-notes/preview"), wanted, status=200)["preview"]
    assert (shown["totalCents"], shown["remainingAfterCents"]) == (100, 20_200)
    made = ask(api, at(billed, "/credit-notes"), wanted, status=201)["creditNote"]
    assert (made["state"], made["totalCents"], made["beforePaymentCents"]) == ("issued", 100, 100)
    again = ask(api, at(billed, "/credit-notes"), wanted, status=200)
    assert (again["reused"], again["creditNote"]["id"]) == (True, made["id"])
    assert reason(ask(api, at(billed, "/credit-notes"), {"reference": "a-1"}, status=409)) == "reference_used"
    more = {"reference": "a-2", "lines": [{"position": 2, "amountCents": 201}]}
    assert reason(ask(api, at(billed, "/credit-notes"), more, status=422)) == "credit_refused"
    billed.refresh_from_db()
    assert (billed.remaining_cents, billed.credited_unpaid_cents, billed.total_cents) == (20_200, 100, 20_300)
    assert jobs(CREDIT) == 1
    assert run_jobs() == []
    assert books.writes("/v1/credit_notes") == 1


def test_the_whole_of_an_open_invoice_credited_with_its_leads_freed(books, billed, api):
    made = ask(api, at(billed, "/credit-notes"), {"reference": "all", "freesLeads": True}, status=201)
    assert made["creditNote"]["totalCents"] == 20_300
    billed.refresh_from_db()
    assert (billed.status, billed.paid_cents, billed.remaining_cents) == ("paid", 0, 0)
    assert LeadCharge.objects.filter(released_at=None).count() == 0
    assert (
        reason(ask(api, at(billed, "/credit-notes"), {"reference": "more"}, status=422)) == "credit_refused"
    )


@pytest.mark.parametrize(("settle", "balance"), [("refund", 0), ("balance", -10_000), ("outside", 0)])
def test_after_payment_the_money_goes_where_it_was_told(books, billed, api, settle, balance):
    pay(books, billed)
    ask(api, "sweep", status=200)
    wanted = {"reference": "r", "lines": [{"position": 1, "amountCents": 10_000}], "settle": settle}
    made = ask(api, at(billed, "/credit-notes"), wanted, status=201)["creditNote"]
    parts = {"refund": "refundedCents", "balance": "toBalanceCents", "outside": "outsideCents"}
    assert {name for name in parts.values() if made[name]} == {parts[settle]}
    customer = books.get(f"customers/{billed.instance.billing_customer.stripe_customer_id}")
    assert customer["balance"] == balance
    assert Refund.objects.filter(credit_note=made["id"]).count() == (settle == "refund")
    whole = api.get(f"{BASE}/{at(billed)}").json()["invoice"]
    assert whole["refundableCents"] == whole["creditableCents"] == 10_300


def test_tax_is_carried_through_and_credited_in_parts(books, grow, api, settings):
    rate = books.post("tax_rates", display_name="VAT", percentage=19, inclusive="false")
    settings.PROVIDER_STRIPE_TAX_RATES = (rate["id"],)
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1, ai="3.33")
    bill(api)
    row = UsageInvoice.objects.get()
    assert (row.status, row.total_cents, row.tax_cents) == ("open", 10_333 + 1_900 + 63, 1_963)
    pay(books, row)
    ask(api, "sweep", status=200)
    taxes = []
    for number, amount in enumerate((111, 111, 111)):
        wanted = {
            "reference": f"t{number}",
            "lines": [{"position": 2, "amountCents": amount}],
            "settle": "refund",
        }
        taxes.append(ask(api, at(row, "/credit-notes"), wanted, status=201)["creditNote"]["taxCents"])
    assert sum(taxes) == 63
    rest = ask(api, at(row, "/credit-notes"), {"reference": "rest"}, status=201)["creditNote"]
    assert (rest["subtotalCents"], rest["totalCents"]) == (10_000, 11_900)


def test_threat_174_a_refund_is_made_once_and_never_more_than_was_paid(books, billed, api):
    assert reason(ask(api, at(billed, "/refunds"), {"reference": "early"}, status=422)) == "refund_refused"
    pay(books, billed)
    ask(api, "sweep", status=200)
    wanted = {"reference": "r1", "amountCents": 300}
    made = ask(api, at(billed, "/refunds"), wanted, status=201)["refund"]
    assert (made["state"], made["amountCents"]) == ("succeeded", 300)
    assert ask(api, at(billed, "/refunds"), wanted, status=200)["refund"]["id"] == made["id"]
    more = {"reference": "r2", "amountCents": 20_001}
    assert reason(ask(api, at(billed, "/refunds"), more, status=422)) == "refund_refused"
    assert (
        ask(api, at(billed, "/refunds"), {"reference": "r3"}, status=201)["refund"]["amountCents"] == 20_000
    )
    assert reason(ask(api, at(billed, "/refunds"), {"reference": "r4"}, status=422)) == "refund_refused"
    assert run_jobs() == []
    assert books.writes("/v1/refunds") == 2


def test_paid_outside_of_stripe_there_is_no_cash_to_give_back(books, billed, api):
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", paid_out_of_band="true")
    ask(api, "sweep", status=200)
    assert reason(ask(api, at(billed, "/refunds"), {"reference": "r"}, status=422)) == "refund_refused"
    wanted = {"reference": "c", "settle": "refund"}
    assert reason(ask(api, at(billed, "/credit-notes"), wanted, status=422)) == "refund_refused"
    assert Refund.objects.count() == CreditNote.objects.count() == 0


@pytest.mark.parametrize("frees", [True, False])
def test_a_disputed_lead_is_credited_and_freed_or_not(books, billed, api, frees):
    charge = LeadCharge.objects.first()
    words = {"clientOrgId": "org_ada", "leadId": charge.lead_public_id, "claim": "They never called."}
    raised = ask(api, "disputes", words, status=201)["dispute"]
    assert raised["evidence"] == charge.evidence
    assert ask(api, "disputes", words, status=201)["dispute"]["id"] == raised["id"]
    decide = {"decision": "Right you are.", "freesLead": frees}
    for _ in range(2):
        done = ask(api, f"disputes/{raised['id']}/accept", decide, status=200)["dispute"]
    assert (done["state"], done["leadFreed"]) == ("accepted", frees)
    assert CreditNote.objects.get().total_cents == 10_000
    billed.refresh_from_db()
    assert billed.remaining_cents == 10_300
    status = 404 if frees else 409
    ask(api, "disputes", words, status=status)
    assert (
        reason(ask(api, f"disputes/{raised['id']}/reject", {"decision": "no"}, status=409))
        == "dispute_decided"
    )
    assert LeadCharge.objects.filter(released_at=None).count() == 2 - frees


def test_a_rejected_dispute_can_be_raised_again(books, billed, api):
    charge = LeadCharge.objects.first()
    words = {"clientOrgId": "org_ada", "leadId": charge.lead_id, "claim": "No."}
    first = ask(api, "disputes", words, status=201)["dispute"]
    assert (
        ask(api, f"disputes/{first['id']}/reject", {"decision": "Yes."}, status=200)["dispute"]["state"]
        == "rejected"
    )
    assert ask(api, "disputes", words, status=201)["dispute"]["id"] != first["id"]
    assert LeadDispute.objects.count() == 2
    assert len(api.get(f"{BASE}/disputes?state=open").json()["items"]) == 1
    assert CreditNote.objects.count() == 0


def test_a_credit_note_that_stripe_refused_is_said_on_the_disputes_page(books, billed, api):
    words = {"clientOrgId": "org_ada", "leadId": LeadCharge.objects.first().lead_id, "claim": "No."}
    raised = ask(api, "disputes", words, status=201)["dispute"]
    ask(api, f"disputes/{raised['id']}/accept", {"decision": "Right."}, status=200)
    person = Person("billing")
    assert "Stripe refused" not in person.sees(f"/disputes/{raised['id']}/")
    CreditNote.objects.update(state="refused", number="", failure="invoice_closed: too late")
    assert "Stripe refused the credit note" in person.sees(f"/disputes/{raised['id']}/")


def test_made_by_hand_in_stripe_it_is_mirrored(books, billed, api):
    line = books.get(f"invoices/{billed.stripe_invoice_id}/lines")["data"][0]
    form = {
        "lines[0][type]": "invoice_line_item",
        "lines[0][invoice_line_item]": line["id"],
        "lines[0][amount]": 500,
    }
    books.post("credit_notes", invoice=billed.stripe_invoice_id, **form)
    ask(api, "sweep", status=200)
    note = CreditNote.objects.get()
    assert (note.reference, note.total_cents, note.lines.get().usage_line.position) == ("", 500, 1)
    wanted = {"reference": "x", "lines": [{"position": 1, "amountCents": 19_501}]}
    assert reason(ask(api, at(billed, "/credit-notes"), wanted, status=422)) == "credit_refused"


def test_a_subscriptions_invoice_is_credited_and_refunded_too(books, grow, api):
    grow("ada")
    card = {"clientOrgId": "org_ada", "planId": "PRO", "paymentMethodId": "pm_card_visa"}
    api.post(f"{BASE}/subscriptions", card, content_type="application/json")
    ask(api, "sweep", status=200)
    run_jobs()
    row = SubscriptionInvoice.objects.get()
    assert row.status == "paid"
    wanted = {"reference": "s", "lines": [{"position": 1, "amountCents": 700}], "settle": "refund"}
    assert ask(api, at(row, "/credit-notes"), wanted, status=201)["creditNote"]["refundedCents"] == 700
    assert ask(api, at(row, "/refunds"), {"reference": "rest"}, status=201)["refund"]["amountCents"] == 9_000


def test_ages_stand_side_by_side_by_currency(books, billed, api):
    answer = api.get(f"{BASE}/receivables").json()
    assert [(one["currency"], one["outstandingCents"]) for one in answer["ages"]] == [("usd", 20_300)]
    assert answer["items"][0]["daysOverdue"] == 0
    assert api.get(f"{BASE}/receivables?overdue=true").json()["count"] == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((text, "invalid_field") for text in ("1.5", '"100"', "1e9", '"\u0661\u0662"', "-0", "-1", "0", "true", f"{10**15}", "1." + "0" * 30)),
        *((text, "bad_json") for text in ("NaN", "Infinity", "-Infinity")),
    ],
)  # fmt: skip
def test_threat_165_an_amount_that_is_no_number_of_cents(billed, api, text, why):
    bodies = {
        "/refunds": f'{{"reference": "r", "amountCents": {text}}}',
        "/credit-notes": f'{{"reference": "c", "lines": [{{"position": 1, "amountCents": {text}}}]}}',
    }
    for path, body in bodies.items():
        answer = api.post(f"{BASE}/{at(billed, path)}", body, content_type="application/json")
        assert (answer.status_code, reason(answer.json())) == (400, why)
    assert Refund.objects.count() == CreditNote.objects.count() == 0


def test_threat_166_a_credit_above_the_total_is_refused(billed, api):
    lines = [{"position": 1, "amountCents": 20_001}]
    assert reason(ask(api, at(billed, "/credit-notes"), {"reference": "c", "lines": lines}, status=422)) == (
        "credit_refused"
    )
    assert CreditNote.objects.count() == 0
