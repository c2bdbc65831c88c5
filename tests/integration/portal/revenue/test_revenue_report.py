"""What a month brings: the contract's shape, coverage, and what the ledger and Stripe say to each other."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
from django.db import connection
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY, deliver, run_jobs

from provider_federation.portal.receivables.ledger import ledger_totals
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.subscriptions.models import SubscriptionInvoice
from provider_federation.portal.subscriptions.services import create_subscription

URL = "/api/provider/billing/revenue"


def subscribe(instance, plan="PRO"):
    return create_subscription(instance, plan, actor="tests", payment_method="pm_card_visa").subscription


def bill(api, org="org_ada", month=FEBRUARY, last="28"):
    body = {"clientOrgId": org, "periodStart": f"{month}-01", "periodEnd": f"{month}-{last}"}
    answer = api.post(URL, body, content_type="application/json")
    assert run_jobs() == []
    return answer.json()["invoice"]


def test_the_contracts_shape_and_sums(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 3, "1.005")
    answer = api.get(f"{URL}?clientOrgId=org_ada&period={FEBRUARY}").json()
    assert answer["ok"] is True
    assert answer["revenue"] == {
        "clientOrgId": "org_ada", "billingPeriodStart": "2026-02-01T00:00:00Z", "billingPeriodEnd": "2026-03-01T00:00:00Z",
        "subscriptionRevenue": 0, "usageRevenue": 30_000, "aiUsageRevenue": 101, "totalRevenue": 30_101, "currency": "usd",
        "status": "calculated",
    }  # fmt: skip
    assert (answer["breakdown"]["usage"]["amount"], answer["breakdown"]["usage"]["leadCount"]) == (30_000, 3)
    assert answer["breakdown"]["aiUsage"]["amount"] == 101
    assert answer["period"] == {
        "start": "2026-02-01T00:00:00Z",
        "end": "2026-03-01T00:00:00Z",
        "label": FEBRUARY,
    }
    assert UsageInvoice.objects.count() == 0


def test_days_and_period_mean_the_same_and_several_months_add_up(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(JANUARY, 1)
    usage.uses(FEBRUARY, 2)
    one = api.get(f"{URL}?clientOrgId=org_ada&startDate=2026-02-01&endDate=2026-02-28").json()
    both = api.get(f"{URL}?clientOrgId=org_ada&startDate=2026-01-01&endDate=2026-02-28").json()
    assert (one["revenue"]["usageRevenue"], both["revenue"]["usageRevenue"]) == (20_000, 30_000)
    assert both["period"]["label"] == "2026-01 to 2026-02"


def test_what_was_invoiced_is_told_from_the_invoice(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    bill(api)
    usage.uses(FEBRUARY, 50)
    before = usage.requests
    answer = api.get(f"{URL}?clientOrgId=org_ada&period={FEBRUARY}").json()
    assert (answer["revenue"]["usageRevenue"], answer["revenue"]["status"]) == (20_000, "open")
    assert usage.requests == before


def test_subscription_revenue_is_what_it_billed_or_is_about_to(books, grow, api):
    _, ada = grow("ada")
    subscribe(ada)
    march = api.get(f"{URL}?clientOrgId=org_ada&period=2026-03").json()
    assert march["revenue"]["subscriptionRevenue"] == 9_700
    april = api.get(f"{URL}?clientOrgId=org_ada&period=2026-04").json()
    assert (april["revenue"]["subscriptionRevenue"], april["revenue"]["status"]) == (9_700, "running")
    assert "renews on 2026-04-10" in april["breakdown"]["subscription"]["description"]
    february = api.get(f"{URL}?clientOrgId=org_ada&period={FEBRUARY}").json()
    assert february["revenue"]["subscriptionRevenue"] == 0


def test_a_renewal_is_counted_once_whether_its_webhook_came_or_not(books, grow, api, at):
    _, ada = grow("ada")
    subscribe(ada)
    books.simulator.control("clock/advance", to=datetime(2026, 4, 12, 12, tzinfo=UTC).isoformat())
    told = api.get(f"{URL}?clientOrgId=org_ada&period=2026-04").json()["revenue"]["subscriptionRevenue"]
    for fact in books.events():
        deliver(api, fact)
    run_jobs()
    assert SubscriptionInvoice.objects.count() == 2
    after = api.get(f"{URL}?clientOrgId=org_ada&period=2026-04").json()["revenue"]["subscriptionRevenue"]
    assert (told, after) == (9_700, 9_700)
    assert (
        api.get(f"{URL}?clientOrgId=org_ada&period=2026-03").json()["revenue"]["subscriptionRevenue"] == 9_700
    )


def test_all_clients_with_coverage_and_never_a_silent_zero(books, grow, api):
    ada, _ = grow("ada")
    ada.uses(FEBRUARY, 2)
    bob, _ = grow("bob")
    bob.uses(FEBRUARY, 1)
    cyd, _ = grow("cyd")
    cyd.stop()
    grow("dan", enabled=False)
    answer = api.get(f"{URL}?period={FEBRUARY}").json()
    assert (
        answer["revenue"]["usageRevenue"],
        answer["revenue"]["status"],
        answer["revenue"]["clientOrgId"],
    ) == (30_000, "partial", None)
    coverage = answer["coverage"]
    assert (coverage["answered"], coverage["of"], coverage["complete"], coverage["disabled"]) == (
        2,
        3,
        False,
        1,
    )
    assert [(one["clientOrgId"], one["reason"]) for one in coverage["stale"]] == [
        ("org_cyd", "connect_failed")
    ]
    assert sorted(one["clientOrgId"] for one in answer["clients"]) == ["org_ada", "org_bob"]


def test_an_impossible_time_spoils_one_client_only(books, grow, api):
    """An instant that no UTC clock has made the whole report a 500, for every client."""
    for name in ("ada", "bob"):
        usage, _ = grow(name)
        usage.uses(FEBRUARY, 1)
        if name == "bob":
            usage.months[FEBRUARY]["items"][0]["convertedAt"] = "0001-01-01T00:00:00+14:00"
    answer = api.get(f"{URL}?period={FEBRUARY}")
    assert answer.status_code == 200
    assert [one["reason"] for one in answer.json()["coverage"]["stale"]] == ["bad_usage"]
    assert api.get(f"{URL}?clientOrgId=org_bob&period={FEBRUARY}").status_code == 502


def test_an_invoice_that_is_voided_while_the_report_is_made(books, grow, api):
    """Its month is rated again: nobody had asked that instance yet."""
    ada, _ = grow("ada")
    ada.uses(FEBRUARY, 1)
    invoice = bill(api)
    bob, _ = grow("bob")
    bob.uses(FEBRUARY, 1)
    bob.after_a_page = lambda: UsageInvoice.objects.filter(pk=invoice["id"]).update(status="void")
    answer = api.get(f"{URL}?period={FEBRUARY}")
    assert answer.status_code == 200
    assert answer.json()["coverage"]["answered"] == 2


def test_an_instance_that_drips_its_pages_ends(books, grow, api, monkeypatch):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 300)
    usage.page = 1
    monkeypatch.setattr("provider_federation.portal.revenue.usage.ONE_TIMEOUT", 0.3)
    answer = api.get(f"{URL}?clientOrgId=org_ada&period={FEBRUARY}")
    assert (answer.status_code, answer.json()["outcome"]) == (503, "timed_out")
    assert usage.requests < 300


def test_a_disabled_client_is_neither_called_nor_billed(books, grow, api):
    usage, _ = grow("ada", enabled=False)
    usage.uses(FEBRUARY, 1)
    body = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    answers = [
        api.get(f"{URL}?clientOrgId=org_ada&period={FEBRUARY}"),
        api.post(URL, body, content_type="application/json"),
    ]
    assert [(one.status_code, one.json()["reason"]) for one in answers] == [(409, "instance_disabled")] * 2
    assert (usage.requests, UsageInvoice.objects.count()) == (0, 0)


def _every_session(setting: str) -> None:
    """For the whole database, and for sessions from now on: the request may take any connection of the pool."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{connection.settings_dict["NAME"]}" {setting}')
    connection.close()
    connection.close_pool()


def test_a_busy_database_is_a_503(books, grow, api):
    """A row that somebody holds too long (here: the server's own lock timeout) is no fault of the request."""
    usage, ada = grow("ada")
    usage.uses(FEBRUARY, 1)
    body = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    holder = psycopg.connect(**connection.get_connection_params())
    _every_session("SET lock_timeout = '50ms'")
    try:
        holder.execute("SELECT 1 FROM directory_instance WHERE id = %s FOR UPDATE", [ada.pk])
        answer = api.post(URL, body, content_type="application/json")
    finally:
        holder.close()
        _every_session("RESET lock_timeout")
    assert (answer.status_code, answer.json()["reason"]) == (503, "database_unavailable")
    assert UsageInvoice.objects.count() == 0


def test_bad_questions(books, grow, api):
    for query, reason in [
        ("period=2026-13", "bad_date"), ("period=2026-02&startDate=2026-02-01", "bad_date"), ("startDate=2026-02-01", "bad_date"),
        ("startDate=2026-02-03&endDate=2026-02-28", "not_whole_months"), ("perod=2026-02", "unknown_field"),
        ("period=2026-02&period=2026-03", "repeated_field"), ("startDate=1990-01-01&endDate=2026-02-28", "bad_date"),
    ]:  # fmt: skip
        answer = api.get(f"{URL}?{query}")
        assert (answer.status_code, answer.json()["reason"]) == (400, reason), query
    assert api.get(f"{URL}?clientOrgId=nobody").status_code == 404


def test_ledger_tells_billed_paid_collected_and_outstanding_apart(books, grow, api):
    usage, ada = grow("ada")
    usage.uses(JANUARY, 1)
    usage.uses(FEBRUARY, 2)
    subscribe(ada)
    elsewhere = bill(api, month=JANUARY, last="31")
    bill(api)
    january = api.get(f"/api/provider/billing/invoices/{elsewhere['id']}").json()["invoice"]
    books.post(f"invoices/{january['stripeInvoiceId']}/pay", paid_out_of_band="true")
    deliver(api, books.events("invoice.paid")[-1])
    assert run_jobs() == []
    totals = ledger_totals(ada)["usd"]
    assert (totals.invoices, totals.billed, totals.outstanding) == (3, 39_700, 20_000)
    assert (totals.paid, totals.off_stripe, totals.collected) == (19_700, 10_000, 9_700)
    assert (
        totals.billed
        == totals.paid
        + totals.outstanding
        + totals.over_balance
        + totals.written_off
        + totals.credited_unpaid
    )
    ledger = api.get("/api/provider/billing/ledger?clientOrgId=org_ada").json()
    assert (ledger["totals"][0]["collectedCents"], ledger["totals"][0]["outstandingCents"]) == (9_700, 20_000)
    report = api.get("/api/provider/billing/reconcile").json()
    assert (report["agrees"], report["differences"]) == (True, [])
    assert report["portal"] == report["stripe"]


def test_a_total_below_the_minimum_charge_is_billed_and_not_collected(books, grow, api):
    usage, ada = grow("ada")
    usage.uses(FEBRUARY, 0, "0.30")
    bill(api)
    row = UsageInvoice.objects.get()
    assert (row.status, row.total_cents) == ("paid", 30)
    totals = ledger_totals(ada)["usd"]
    assert (totals.billed, totals.collected, totals.over_balance, totals.outstanding) == (30, 0, 30, 0)
    assert api.get("/api/provider/billing/reconcile").json()["agrees"]


def test_each_difference_has_its_class(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    bill(api)
    row = UsageInvoice.objects.get()
    stripe_id = row.stripe_invoice_id

    def classes():
        return sorted(
            one["class"] for one in api.get("/api/provider/billing/reconcile").json()["differences"]
        )

    books.post(f"invoices/{stripe_id}/pay", payment_method="pm_card_visa")
    assert classes() == ["paid", "status"]
    deliver(api, books.events("invoice.paid")[0])
    run_jobs()
    assert classes() == []
    UsageInvoice.objects.update(total_cents=19_999)
    assert classes() == ["amount"]
    UsageInvoice.objects.update(total_cents=20_000, stripe_invoice_id="in_elsewhere")
    assert classes() == ["missing_in_stripe", "orphan"]
    UsageInvoice.objects.update(stripe_invoice_id=stripe_id, status="placing")
    assert classes() == ["not_placed", "status"]
