"""What a second look at billing runs asked for: nothing is billed twice, or as something else than was approved."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.integration.portal.billing_runs.walk import approved, billed, executed, item, planned, states
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY

from provider_federation.portal.directory.services import edit_instance
from provider_federation.portal.revenue.models import UsageLine
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.services import invoice_usage

ADA, BOB = "operator:ada@example.com", "operator:bob@example.com"
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
