"""What a second look at the ledger asked for: nothing given back twice, nobody charged again, no alarm without a cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.integration.portal.revenue.books_rig import classes, reconcile
from tests.integration.portal.revenue.rig import FEBRUARY, NOW, deliver, run_jobs
from tests.integration.portal.revenue.test_receivables import ask, bill, pay, reason
from tests.integration.portal.revenue.test_receivables import at as of

from provider_federation.kit import clock
from provider_federation.portal.directory.services import edit_instance
from provider_federation.portal.receivables.models import CreditNote, Refund
from provider_federation.portal.revenue.models import Alert, LeadCharge, StripeEvent, UsageInvoice
from provider_federation.portal.revenue.services.jobs import defer_forgotten
from provider_federation.portal.subscriptions.models import SubscriptionInvoice
from provider_federation.stripe_account import StripeAccount


@pytest.fixture
def billed(books, grow, api):
    """A client with one open usage invoice: two leads and $3.00 of AI usage; returns its row."""
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, ai="3.00")
    bill(api)
    return UsageInvoice.objects.get()


def test_a_credit_note_that_is_voided_charges_its_leads_again(books, billed, api):
    wanted = {"reference": "all", "lines": [{"position": 1}], "freesLeads": True}
    note = ask(api, of(billed, "/credit-notes"), wanted, status=201)["creditNote"]
    assert LeadCharge.objects.filter(released_at=None).count() == 0
    books.post(f"credit_notes/{CreditNote.objects.get(pk=note['id']).stripe_credit_note_id}/void")
    ask(api, "sweep", status=200)
    assert CreditNote.objects.get().state == "void"
    assert LeadCharge.objects.filter(released_at=None).count() == 2


@pytest.mark.parametrize("settle", ["balance", "outside"])
def test_what_was_credited_after_payment_is_no_cash_to_give_back(books, billed, api, settle):
    pay(books, billed)
    ask(api, "sweep", status=200)
    note = {"reference": "n", "lines": [{"position": 1, "amountCents": 10_000}], "settle": settle}
    ask(api, of(billed, "/credit-notes"), note, status=201)
    refused = ask(api, of(billed, "/refunds"), {"reference": "r1", "amountCents": 10_301}, status=422)
    assert reason(refused) == "refund_refused"
    made = ask(api, of(billed, "/refunds"), {"reference": "r2"}, status=201)["refund"]
    assert made["amountCents"] == 10_300


@pytest.mark.parametrize("settle", ["balance", "outside", "refund"])
def test_what_was_refunded_is_not_credited_once_more(books, billed, api, settle):
    pay(books, billed)
    ask(api, "sweep", status=200)
    ask(api, of(billed, "/refunds"), {"reference": "r", "amountCents": 20_000}, status=201)
    note = {"reference": "n", "lines": [{"position": 1, "amountCents": 10_000}], "settle": settle}
    refused = ask(api, of(billed, "/credit-notes"), note, status=422)
    assert reason(refused) in {"credit_refused", "refund_refused"}


def test_the_event_of_a_draft_that_is_gone_is_not_parked(books, billed, api):
    customer = billed.instance.billing_customer.stripe_customer_id
    draft = books.post("invoices", customer=customer)
    [created] = [one for one in books.events("invoice.created") if one["data"]["object"]["id"] == draft["id"]]
    books.simulator.ask("DELETE", f"/v1/invoices/{draft['id']}", key=books.key)
    deliver(api, created)
    assert run_jobs() == []
    assert StripeEvent.objects.get().state == "applied"
    assert Alert.objects.count() == 0


def test_books_agree_after_a_customer_was_deleted_in_stripe(books, ada_billed, api):
    row = UsageInvoice.objects.get()
    pay(books, row)
    books.simulator.ask(
        "DELETE", f"/v1/customers/{row.instance.billing_customer.stripe_customer_id}", key=books.key
    )
    for event in [*books.events("invoice.paid"), *books.events("customer.deleted")]:
        deliver(api, event)
    assert run_jobs() == []
    assert classes(reconcile()) == {}


def test_one_invoice_that_stripe_does_not_know_does_not_end_the_sweep(books, billed, api):
    pay(books, billed)
    later = UsageInvoice.objects.get(pk=billed.pk)
    later.pk, later.order_key, later.stripe_invoice_id, later.period = (
        None,
        "usage:x",
        "in_0_nowhere",
        "2025-12",
    )
    later.save(force_insert=True)
    swept = ask(api, "sweep", status=200)
    assert (swept["problems"], Alert.objects.get().kind) == (1, "missing_in_stripe")
    billed.refresh_from_db()
    assert billed.status == "paid"


def test_what_was_overbilled_and_credited_is_no_difference_any_more(books, ada_billed, api):
    row = UsageInvoice.objects.get()
    ada_billed.uses(FEBRUARY, 1, "2.00", first=2)
    assert classes(reconcile()) == {"ai_overbilled": 1, "lead_without_evidence": 1}
    gone = LeadCharge.objects.get(lead_id="lead-2026-02-1")
    words = {"clientOrgId": "org_ada", "leadId": gone.lead_id, "claim": "There was no such lead."}
    raised = ask(api, "disputes", words, status=201)["dispute"]
    ask(api, f"disputes/{raised['id']}/accept", {"decision": "Right.", "freesLead": False}, status=200)
    ask(
        api,
        of(row, "/credit-notes"),
        {"reference": "ai", "lines": [{"position": 2, "amountCents": 100}]},
        status=201,
    )
    assert classes(reconcile()) == {}


def test_a_goodwill_credit_is_no_difference(books, ada_billed, api):
    ask(api, of(UsageInvoice.objects.get(), "/credit-notes"), {"reference": "all"}, status=201)
    assert classes(reconcile()) == {}


def test_the_revenue_of_a_billed_month_is_in_the_currency_that_it_was_billed_in(books, billed, api):
    instance = billed.instance
    edit_instance(instance.pk, instance.version, actor="operator:a@example.com", currency="eur")
    february = "/api/provider/billing/revenue?clientOrgId=org_ada&period=2026-02"
    assert api.get(february).json()["revenue"]["currency"] == "usd"
    both = api.get(
        "/api/provider/billing/revenue?clientOrgId=org_ada&startDate=2026-01-01&endDate=2026-02-28"
    )
    assert (both.status_code, both.json()["reason"]) == (409, "currency_mismatch")


def test_a_refund_that_may_be_there_is_not_called_refused_when_it_cannot_be_looked_up(
    books, billed, api, settings
):
    pay(books, billed)
    ask(api, "sweep", status=200)
    wanted = {"reference": "r", "amountCents": 5_000}
    books.fault("drop_after", "/v1/refunds", method="POST", count=1)
    books.fault("drop_before", "/v1/refunds", method="GET", count=99)
    ask(api, of(billed, "/refunds"), wanted, status=503)
    books.simulator.ask("DELETE", "/_sim/faults")
    good, settings.PROVIDER_STRIPE_SECRET_KEY = settings.PROVIDER_STRIPE_SECRET_KEY, "sk_wrong"
    ask(api, of(billed, "/refunds"), wanted, status=503)
    settings.PROVIDER_STRIPE_SECRET_KEY = good
    assert Refund.objects.get().state == "making"
    assert ask(api, of(billed, "/refunds"), wanted, status=200)["refund"]["state"] == "succeeded"
    assert len(books.get("refunds")["data"]) == 1


def test_a_held_invoice_of_a_run_that_was_released_is_not_forgotten(books, billed, clock_file):
    UsageInvoice.objects.update(status="placing", billing_run=uuid4(), stripe_invoice_id=None, updated_at=NOW)
    assert defer_forgotten() == 0  # its run is at it
    clock.set_clock(clock_file, at=NOW + timedelta(hours=2))
    assert (defer_forgotten(), defer_forgotten()) == (1, 0)


def test_a_month_held_in_one_currency_is_billed_in_the_one_it_is_rated_in(books, grow, api, at):
    usage, instance = grow("ada")
    usage.uses("2026-03", 0, ai="5")
    march = {"clientOrgId": "org_ada", "periodStart": "2026-03-01", "periodEnd": "2026-03-31"}
    assert ask(api, "revenue", march)["invoice"]["holdCode"] == "period_open"
    edit_instance(instance.pk, instance.version, actor="operator:a@example.com", currency="eur")
    usage.currency = "eur"
    at(datetime(2026, 4, 2, tzinfo=UTC))
    assert ask(api, "revenue", march)["invoice"]["currency"] == "eur"


def test_a_customer_that_was_deleted_unheard_of_is_replaced_when_an_invoice_needs_it(books, billed, api):
    customer = billed.instance.billing_customer.stripe_customer_id
    ask(api, f"receivables/{billed.stripe_invoice_id}/void", status=200)
    books.simulator.ask("DELETE", f"/v1/customers/{customer}", key=books.key)
    bill(api)
    again = UsageInvoice.objects.exclude(status="void").get()
    assert (again.status, again.hold_code) == ("open", "")


def test_a_sweep_reads_accounts_of_any_size(books, billed, api, monkeypatch):
    asked = []
    for name in ("list_invoices", "list_subscriptions", "list_credit_notes", "list_refunds"):
        real = getattr(StripeAccount, name)

        def spy(self, *, _real=real, most=0, **more):
            asked.append(most)
            return _real(self, most=most, **more)

        monkeypatch.setattr(StripeAccount, name, spy)
    ask(api, "sweep", status=200)
    assert set(asked) == {1_000_000}


def test_the_ledger_says_what_its_sums_cannot_hold(books, billed, api):
    UsageInvoice.objects.update(status="held")
    coverage = api.get("/api/provider/billing/ledger").json()["coverage"]
    assert (coverage["held"], coverage["complete"]) == (1, False)


def test_a_fee_is_not_credited_while_stripe_is_away(books, grow, api):
    grow("ada")
    wanted = {"clientOrgId": "org_ada", "planId": "PRO", "paymentMethodId": "pm_card_visa"}
    ask(api, "subscriptions", wanted, status=201)
    fee = SubscriptionInvoice.objects.get()
    books.fault("drop_before", f"/v1/invoices/{fee.stripe_invoice_id}/lines", count=99)
    for path in ("/credit-notes/preview", "/credit-notes"):
        assert reason(ask(api, of(fee, path), {"reference": "f"}, status=503)) == "stripe_unavailable"
    books.simulator.ask("DELETE", "/_sim/faults")
    assert (
        ask(api, of(fee, "/credit-notes"), {"reference": "f"}, status=201)["creditNote"]["totalCents"]
        == 9_700
    )
