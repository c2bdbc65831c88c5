"""The provider's usage invoice: once per client and month, from what was calculated, whatever repeats or runs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY, deliver, jobs, proven, run_jobs

from provider_federation.portal.receivables.ledger import ledger_totals
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageLine
from provider_federation.portal.revenue.services.jobs import PLACE

URL = "/api/provider/billing/revenue"


def ask(api, org, month=FEBRUARY, last="28", **more):
    body = {"clientOrgId": org, "periodStart": f"{month}-01", "periodEnd": f"{month}-{last}", **more}
    return api.post(URL, body, content_type="application/json")


def test_usage_becomes_one_invoice_in_stripe_and_is_paid(books, grow, api):
    usage, ada = grow("ada")
    usage.uses(FEBRUARY, 5, "12.345")
    answer = ask(api, "org_ada")
    assert answer.status_code == 201, answer.json()
    invoice = answer.json()["invoice"]
    assert (invoice["status"], invoice["totalCents"], invoice["currency"]) == ("planned", 51_235, "usd")
    assert [(line["kind"], line["quantity"], line["amountCents"]) for line in invoice["lines"]] == [
        ("leads", 5, 50_000),
        ("ai", 1, 1_235),
    ]
    assert run_jobs() == []
    placed = api.get(f"/api/provider/billing/invoices/{invoice['id']}").json()["invoice"]
    assert placed["status"] == "open"
    assert placed["hostedInvoiceUrl"]
    [there] = books.invoices()
    assert (there["total"], there["status"], there["id"]) == (51_235, "open", placed["stripeInvoiceId"])

    books.post(f"invoices/{there['id']}/pay", paid_out_of_band="false", payment_method="pm_card_visa")
    for event in books.events("invoice."):
        assert deliver(api, event).status_code == 200
    assert run_jobs() == []
    row = UsageInvoice.objects.get()
    assert (row.status, row.paid_cents, row.remaining_cents) == ("paid", 51_235, 0)
    totals = ledger_totals(ada)["usd"]
    assert (totals.billed, totals.paid, totals.collected, totals.outstanding) == (51_235, 51_235, 51_235, 0)
    report = api.get("/api/provider/billing/reconcile?clientOrgId=org_ada").json()
    assert report["agrees"], report


def test_asking_again_answers_the_same_invoice(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    first = ask(api, "org_ada")
    run_jobs()
    usage.uses(FEBRUARY, 9)
    again = ask(api, "org_ada")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["reused"] is True
    assert again.json()["invoice"]["id"] == first.json()["invoice"]["id"]
    assert again.json()["invoice"]["totalCents"] == 10_000
    assert len(books.invoices()) == 1


def test_requests_at_once_make_one_invoice(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 3)

    def post(_number):
        try:
            return ask(api, "org_ada")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post, range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["invoice"]["id"] for answer in answers}) == 1
    assert (UsageInvoice.objects.count(), LeadCharge.objects.count(), jobs(PLACE)) == (1, 3, 1)
    assert run_jobs() == []
    assert [one["total"] for one in books.invoices()] == [30_000]


def test_a_lead_is_billed_once_in_its_life(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(JANUARY, 2)
    assert ask(api, "org_ada", JANUARY, "31").json()["invoice"]["totalCents"] == 20_000
    usage.uses(FEBRUARY, 1)
    again = {**usage.months[FEBRUARY]["items"][0], "leadId": f"lead-{JANUARY}-1", "leadPublicId": "again"}
    usage.months[FEBRUARY]["items"].append(proven(again))
    assert ask(api, "org_ada").json()["invoice"]["totalCents"] == 10_000


def test_the_database_itself_refuses_a_second_charge_and_a_second_invoice(grow, books, api):
    usage, ada = grow("ada")
    usage.uses(FEBRUARY, 1)
    ask(api, "org_ada")
    charge, row = LeadCharge.objects.get(), UsageInvoice.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        LeadCharge.objects.create(
            instance=ada,
            lead_id=charge.lead_id,
            converted_at=charge.converted_at,
            line=charge.line,
            amount_cents=1,
        )
    row.pk, row.order_key = None, "another"
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


@pytest.mark.parametrize(
    "extra", [{"amount": 1}, {"totalCents": 100}, {"usageRevenue": 5}, {"currency": "eur"}]
)
def test_amounts_in_the_request_are_refused(books, grow, api, extra):
    grow("ada")
    answer = ask(api, "org_ada", **extra)
    assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_field")
    assert UsageInvoice.objects.count() == 0


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("2026-02-01", "2026-02-27", "not_whole_months"), ("2026-02-02", "2026-02-28", "not_whole_months"),
        ("2026-01-01", "2026-02-28", "not_one_month"), ("2026-02-30", "2026-02-28", "bad_date"), ("soon", "later", "bad_date"),
        ("2026-02-01T00:00:00", "2026-03-01T00:00:00", "bad_date"), ("2026-02-28", "2026-02-01", "bad_date"),
    ],
)  # fmt: skip
def test_what_is_not_a_billing_month_is_refused(books, grow, api, start, end, reason):
    grow("ada")
    body = {"clientOrgId": "org_ada", "periodStart": start, "periodEnd": end}
    answer = api.post(URL, body, content_type="application/json")
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)


@pytest.mark.parametrize(
    ("start", "end"), [("2026-02-01", "2026-03-01"), ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")]
)
def test_a_month_may_be_written_half_open(books, grow, api, start, end):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    body = {"clientOrgId": "org_ada", "periodStart": start, "periodEnd": end}
    assert api.post(URL, body, content_type="application/json").json()["invoice"]["period"] == FEBRUARY


def test_nothing_to_bill_says_so_without_stripe(books, grow, api):
    grow("ada")
    answer = ask(api, "org_ada")
    assert (answer.status_code, answer.json()["invoice"]) == (200, None)
    assert "Nothing to bill" in answer.json()["message"]
    assert (UsageInvoice.objects.count(), books.get("customers")["data"]) == (0, [])


def test_a_month_that_is_not_over_is_held_and_billed_once_it_is(books, grow, api, at):
    from datetime import UTC, datetime

    usage, _ = grow("ada")
    usage.uses("2026-03", 1)
    held = ask(api, "org_ada", "2026-03", "31").json()
    assert (held["invoice"]["status"], held["invoice"]["holdCode"]) == ("held", "period_open")
    assert jobs(PLACE) == 0
    usage.uses("2026-03", 4)
    at(datetime(2026, 4, 1, tzinfo=UTC))
    billed = ask(api, "org_ada", "2026-03", "31").json()
    assert (billed["invoice"]["status"], billed["invoice"]["totalCents"]) == ("planned", 40_000)
    assert billed["invoice"]["id"] == held["invoice"]["id"]
    run_jobs()
    assert [one["total"] for one in books.invoices()] == [40_000]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"count": 7}, "count_mismatch"), ({"ai": "-1"}, "negative_usage"), ({"ai": "9000000"}, "absurd_usage"),
    ],
)  # fmt: skip
def test_suspicious_usage_is_held_and_nothing_is_sent(books, grow, api, wrong, code):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    usage.months[FEBRUARY].update(wrong)
    answer = ask(api, "org_ada").json()
    assert (answer["invoice"]["status"], answer["invoice"]["holdCode"], answer["invoice"]["totalCents"]) == (
        "held",
        code,
        0,
    )
    assert run_jobs() == []
    assert (books.invoices(), UsageLine.objects.count(), LeadCharge.objects.count()) == ([], 0, 0)


def test_a_hundredfold_jump_waits_for_a_person_and_is_released_by_one(books, grow, api):
    usage, _ = grow("ada")
    usage.page = 500
    usage.uses(JANUARY, 1)
    ask(api, "org_ada", JANUARY, "31")
    usage.uses(FEBRUARY, 150)
    held = ask(api, "org_ada").json()["invoice"]
    assert (held["status"], held["holdCode"]) == ("held", "usage_jump")
    released = api.post(
        f"/api/provider/billing/invoices/{held['id']}/release", content_type="application/json"
    ).json()
    assert (released["invoice"]["status"], released["invoice"]["totalCents"]) == ("planned", 1_500_000)
    again = api.post(f"/api/provider/billing/invoices/{held['id']}/release", content_type="application/json")
    assert (again.status_code, again.json()["reason"]) == (409, "not_held")


def test_an_instance_that_does_not_answer_writes_nothing(books, grow, api):
    usage, _ = grow("ada")
    usage.faults = [(500, {"ok": False, "error": "broken", "reason": "internal_error"})]
    bad = ask(api, "org_ada")
    usage.faults = [(200, {"ok": True, "clientOrgId": 7})]
    wrong = ask(api, "org_ada")
    usage.uses(FEBRUARY, 1, org="org_eve")
    stranger = ask(api, "org_ada")
    usage.stop()
    gone = ask(api, "org_ada")
    assert [one.status_code for one in (bad, wrong, stranger, gone)] == [502, 502, 502, 503]
    assert [one.json()["ok"] for one in (bad, wrong, stranger, gone)] == [False] * 4
    assert UsageInvoice.objects.count() == 0


def test_the_ai_cap_in_force_that_month_holds(books, grow, api, at):
    from datetime import UTC, datetime

    at(datetime(2026, 1, 15, tzinfo=UTC))
    usage, ada = grow("ada", ai_cap_cents=2_000)
    at(datetime(2026, 2, 20, tzinfo=UTC))
    ada.ai_cap_cents = 100_000
    ada.save()
    at(datetime(2026, 4, 2, tzinfo=UTC))
    usage.uses(FEBRUARY, 0, "500.00")
    usage.uses("2026-03", 0, "500.00")
    assert ask(api, "org_ada").json()["invoice"]["totalCents"] == 2_000
    assert ask(api, "org_ada", "2026-03", "31").json()["invoice"]["totalCents"] == 50_000


def test_voiding_in_stripe_frees_the_leads_and_the_month(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    ask(api, "org_ada")
    run_jobs()
    [there] = books.invoices()
    books.post(f"invoices/{there['id']}/void")
    deliver(api, books.events("invoice.voided")[0])
    assert run_jobs() == []
    assert UsageInvoice.objects.get().status == "void"
    assert LeadCharge.objects.filter(released_at=None).count() == 0
    second = ask(api, "org_ada")
    assert (second.status_code, second.json()["invoice"]["totalCents"]) == (201, 20_000)
    run_jobs()
    assert sorted(one["status"] for one in books.invoices()) == ["open", "void"]


def test_unknown_client_and_missing_permission(books, grow, api):
    from django.test import Client

    assert ask(api, "org_nobody").status_code == 404
    assert ask(Client(), "org_ada").status_code == 401


def test_a_lead_that_converts_between_two_pages_is_neither_lost_nor_doubled(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 5)
    usage.after_a_page = lambda: usage.uses(FEBRUARY, 6)
    assert ask(api, "org_ada").json()["invoice"]["totalCents"] == 60_000


def test_169_a_counter_that_runs_backwards_is_held(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, "10.00", calls=10)
    ask(api, "org_ada")
    run_jobs()
    [there] = books.invoices()
    books.post(f"invoices/{there['id']}/void")
    deliver(api, books.events("invoice.voided")[0])
    run_jobs()
    usage.uses(FEBRUARY, 1, "5.00", calls=5)
    held = ask(api, "org_ada").json()["invoice"]
    assert (held["status"], held["holdCode"]) == ("held", "counter_backwards")
    assert jobs(PLACE) == 0


def test_170_another_currency_than_the_clients_is_held(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    usage.currency = "eur"
    held = ask(api, "org_ada").json()["invoice"]
    assert (held["status"], held["holdCode"]) == ("held", "currency_mismatch")
