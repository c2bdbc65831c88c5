"""What a second look at billing runs asked for: nothing is billed twice, or as something else than was approved."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.integration.portal.billing_runs.test_billing_runs import refusal
from tests.integration.portal.billing_runs.walk import approved, billed, executed, item, planned, states
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY, run_jobs

from provider_federation.portal.billing_runs import queries, services
from provider_federation.portal.directory.services import edit_instance
from provider_federation.portal.reconciliation.services import Scope, compare_provider_account
from provider_federation.portal.revenue.models import UsageLine
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.services import invoice_usage, refresh_any_invoice
from provider_federation.portal.subscriptions.applying import Foreign
from provider_federation.stripe_account import StripeAccount, StripeFailed

ADA, BOB, EVE = (f"operator:{name}@example.com" for name in ("ada", "bob", "eve"))
MARCH = "2026-03"


def test_late_ai_usage_that_two_plans_hold_is_billed_by_one_of_them(books, grow, at):
    ada, _ = grow("ada")
    grow("bea")[0].uses(FEBRUARY, 1)
    ada.uses(JANUARY, 0, "30")
    billed(JANUARY)
    ada.uses(JANUARY, 0, "40")
    ada.uses(FEBRUARY, 0, "1")
    ada.uses(MARCH, 0, "2")
    at(datetime(2026, 4, 2, tzinfo=UTC))
    one, other = approved(planned(FEBRUARY)), approved(planned(MARCH))
    executed(one)
    other = executed(other)
    late = UsageLine.objects.filter(kind="ai", late_for=JANUARY).values_list("amount_cents", flat=True)
    assert list(late) == [1_000]
    assert (states(one)["ada"], states(other)["ada"]) == ("billed", "held")
    assert item(other, "ada").hold_code == "ai_already_billed"


def test_late_ai_usage_that_the_single_route_billed_since_the_plan(books, grow, at):
    ada, instance = grow("ada")
    ada.uses(JANUARY, 0, "30")
    billed(JANUARY)
    ada.uses(JANUARY, 0, "40")
    ada.uses(FEBRUARY, 0, "1")
    ada.uses(MARCH, 0, "2")
    at(datetime(2026, 4, 2, tzinfo=UTC))
    run = approved(planned(FEBRUARY))
    invoice_usage(instance, month(MARCH), actor=BOB)
    run = executed(run)
    assert item(run, "ada").hold_code == "ai_already_billed"
    late = UsageLine.objects.filter(kind="ai", late_for=JANUARY).values_list("amount_cents", flat=True)
    assert list(late) == [1_000]


def test_a_plan_in_one_currency_is_not_billed_in_another(books, grow):
    ada, instance = grow("ada")
    ada.uses(FEBRUARY, 2, "5")
    run = approved(planned())
    edit_instance(instance.pk, instance.version, actor=ADA, currency="eur")
    run = executed(run)
    assert books.invoices() == []
    assert (states(run), item(run, "ada").hold_code) == ({"ada": "held"}, "currency_mismatch")


def test_a_month_that_was_settled_in_another_currency_is_not_billed_as_late(books, grow):
    ada, instance = grow("ada")
    ada.uses(JANUARY, 0, "30")
    billed(JANUARY)
    edit_instance(instance.pk, instance.version, actor=ADA, currency="eur")
    ada.currency = "eur"
    ada.uses(JANUARY, 0, "40")
    ada.uses(FEBRUARY, 0, "1")
    assert [line["lateFor"] for line in item(planned(FEBRUARY), "ada").lines] == [""]


def test_who_planned_a_part_does_not_approve_it_after_another_ones_retry(books, grow, settings):
    settings.BILLING_FOUR_EYES = True
    ada, _ = grow("ada")
    bea, _ = grow("bea")
    ada.uses(FEBRUARY, 2)
    bea.uses(FEBRUARY, 1, calls=-1)
    run = planned(actor=ADA)
    retried(run, BOB)
    for person in (ADA, BOB):
        assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=person) == "four_eyes"
    run = executed(approved(run, EVE))
    bea.uses(FEBRUARY, 1)
    retried(run, BOB)
    assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=BOB) == "four_eyes"
    assert states(executed(approved(run, ADA))) == {"ada": "billed", "bea": "billed"}


def test_an_order_is_not_given_up_while_another_invoice_of_it_lives(books, grow, monkeypatch):
    grow("ada")[0].uses(FEBRUARY, 2)
    run, draft = held_as_a_draft(books, monkeypatch)
    key = item(run, "ada").invoice.order_key
    copied = {"metadata[pf_key]": key, "customer": draft["customer"]}
    books.post("invoiceitems", customer=draft["customer"], amount=20_000, currency="usd")
    twin = books.post("invoices", pending_invoice_items_behavior="include", **copied)
    books.post(f"invoices/{twin['id']}/finalize")
    books.simulator.ask("DELETE", f"/v1/invoices/{draft['id']}", key=books.key)
    retried(run, ADA)
    executed(approved(run))
    assert [one["id"] for one in books.invoices()] == [twin["id"]]
    assert states(run) == {"ada": "held"}


def test_the_report_compares_what_is_comparable_where_tax_is_added(books, grow, settings):
    rate = books.post("tax_rates", display_name="VAT", percentage=19, inclusive="false")
    settings.PROVIDER_STRIPE_TAX_RATES = (rate["id"],)
    ada, _ = grow("ada")
    for label in (JANUARY, FEBRUARY):
        ada.uses(label, 1)
        run = billed(label)
    sums = queries.report(run).totals["usd"]
    assert (sums.planned, sums.billed, sums.before) == (10_000, 10_000, 10_000)
    assert item(run, "ada").difference_cents == 0


def held_as_a_draft(books, monkeypatch):
    """A run whose one invoice Stripe did not want to finalise, and the draft that is left there."""

    def refuse(*_arguments, **_named):
        raise StripeFailed("invalid_request", "not today", status=400)

    with monkeypatch.context() as patched:
        patched.setattr(StripeAccount, "finalize_invoice", refuse)
        run = executed(approved(planned()))
    return run, books.invoices()[0]


def retried(run, actor):
    services.retry_held(run.pk, actor=actor)
    run_jobs()
    run.refresh_from_db()


def test_an_order_that_was_given_up_is_not_brought_back_by_a_late_twin(books, grow, api, monkeypatch):
    grow("ada")[0].uses(FEBRUARY, 2)
    run, draft = held_as_a_draft(books, monkeypatch)
    first = item(run, "ada").invoice
    books.simulator.ask("DELETE", f"/v1/invoices/{draft['id']}", key=books.key)
    retried(run, ADA)
    first.refresh_from_db()
    assert first.status == "void"
    copied = {"metadata[pf_key]": first.order_key, "customer": draft["customer"]}
    books.post("invoiceitems", customer=draft["customer"], amount=20_000, currency="usd")
    twin = books.post("invoices", pending_invoice_items_behavior="include", **copied)
    books.post(f"invoices/{twin['id']}/finalize")
    with pytest.raises(Foreign) as caught:
        refresh_any_invoice(twin["id"])
    assert caught.value.code == "second_invoice"
    first.refresh_from_db()
    assert first.status == "void"


def test_a_draft_that_was_given_up_is_no_difference(books, grow, monkeypatch):
    grow("ada")[0].uses(FEBRUARY, 2)
    run, draft = held_as_a_draft(books, monkeypatch)
    refresh_any_invoice(draft["id"])
    books.simulator.ask("DELETE", f"/v1/invoices/{draft['id']}", key=books.key)
    retried(run, ADA)
    executed(approved(run))
    assert compare_provider_account(Scope(month(FEBRUARY))).differences == ()
