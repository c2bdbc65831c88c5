"""Changes of plan with every amount written out by hand, and what may not happen before it is paid.

PRO is $97, ELITE $297 a month; everybody subscribes on 10 March 2026 at 12:00 UTC unless it says otherwise, so that
the period is 31 days, 2,678,400 seconds.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.integration.portal.subscriptions.moves import URL, moment

from provider_federation.kit import clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.revenue.models import Alert
from provider_federation.portal.subscriptions import queries
from provider_federation.portal.subscriptions.models import (
    FormerCustomer,
    PlanChange,
    Subscription,
    SubscriptionChange,
)

# now, subscribed at, upgrade at, credit of PRO, charge of ELITE: price x seconds left / seconds of the period, half up.
UPGRADES = {
    # 21 of 31 days are left: 9700 x 21/31 = 6570.97, 29700 x 21/31 = 20119.35
    "mid-month": ("2026-03-10T12:00:00", "2026-03-20T12:00:00", 6_571, 20_119),
    # at the very start all of it, in the last second 1/2678400 of it: 0.0036 and 0.011
    "first second": ("2026-03-10T12:00:00", "2026-03-10T12:00:00", 9_700, 29_700),
    "last second": ("2026-03-10T12:00:00", "2026-04-10T11:59:59", 0, 0),
    # 31 January to 29 February 2028 is 29 days; 14.5 of them are left
    "leap February": ("2028-01-31T12:00:00", "2028-02-15T00:00:00", 4_850, 14_850),
    # the day of Berlin's clock change has 23 hours there; Stripe counts 2,631,600 of 2,678,400 seconds:
    # 9700 x 0.98252688 = 9530.51, 29700 x 0.98252688 = 29181.05
    "daylight saving": ("2026-03-28T12:00:00", "2026-03-29T01:00:00", 9_531, 29_181),
    # exactly at midnight between two billing months: 9.5 of 31 days are left: 2972.58, 9101.61
    "midnight of the month": ("2026-03-10T12:00:00", "2026-04-01T00:00:00", 2_973, 9_102),
}


def check_upgrade(desk, at, settings, name):
    start, change, credit, charge = UPGRADES[name]
    at(moment(start))
    if name == "daylight saving":
        settings.PROVIDER_TIME_ZONE = "Europe/Berlin"
    made = desk.subscribe()
    at(moment(change))
    preview = desk.previewed(made, "ELITE")
    assert (preview["direction"], preview["prorationBehavior"]) == (
        "upgrade",
        "always_invoice",
    )
    assert sorted(line["amountCents"] for line in preview["lines"]) == [-credit, charge]
    assert (preview["totalNowCents"], preview["amountNextCents"]) == (charge - credit, 29_700)
    assert preview["prorationDate"] == f"{change}Z"
    assert (preview["taxNowCents"], preview["taxNextCents"]) == (0, 0)
    at(moment(change) + timedelta(seconds=0 if name == "last second" else 90))
    done = desk.change(
        made, "ELITE", previewToken=preview["previewToken"], prorationDate=preview["prorationDate"]
    )
    assert (done["change"]["state"], done["subscription"]["planId"]) == ("done", "ELITE")
    assert (done["change"]["amountNowCents"], done["change"]["prorationDate"]) == (
        preview["amountNowCents"],
        f"{change}Z",
    )
    assert desk.totals() == [9_700, charge - credit]
    return made


@pytest.mark.parametrize("name", ["mid-month", "last second"])
def test_an_upgrade_costs_what_its_preview_says(desk, grow, at, settings, name):
    _, ada = grow("ada")
    check_upgrade(desk, at, settings, name)
    desk.hear()
    assert [change.plan for change in queries.plan_history(ada)] == ["PRO", "ELITE"]
    assert queries.plan_in_force(ada, moment("2026-03-15T00:00:00")) == "PRO"
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"


@pytest.mark.parametrize(
    "name", ["first second", "leap February", "daylight saving", "midnight of the month"]
)
def test_threat_171_plan_change_at_month_ends_leap_days_and_clock_changes(desk, grow, at, settings, name):
    _, ada = grow("ada")
    check_upgrade(desk, at, settings, name)
    history = queries.plan_history(ada)
    assert [change.plan for change in history] == ["PRO", "ELITE"]
    assert queries.plan_in_force(ada, history[1].effective_at) == "ELITE"
    assert queries.plan_in_force(ada, history[1].effective_at - timedelta(microseconds=1)) == "PRO"


def test_threat_171_a_leap_february_renews_on_its_last_day(desk, grow, at):
    grow("ada")
    at(moment("2028-01-31T12:00:00"))
    made = desk.subscribe()
    ends = [made["currentPeriodEnd"]]
    for day in ("2028-03-01T00:00:00", "2028-04-01T00:00:00", "2028-05-01T00:00:00"):
        desk.go(day)
        ends.append(desk.shown(made)["subscription"]["currentPeriodEnd"])
    assert ends == [
        "2028-02-29T12:00:00Z",
        "2028-03-31T12:00:00Z",
        "2028-04-30T12:00:00Z",
        "2028-05-31T12:00:00Z",
    ]
    assert desk.totals() == [9_700] * 4


def test_a_downgrade_waits_for_the_end_of_what_is_paid(desk, grow, at):
    _, ada = grow("ada")
    made = desk.subscribe(plan="ELITE")
    at(moment("2026-03-20T12:00:00"))
    preview = desk.previewed(made, "PRO")
    assert (preview["prorationBehavior"], preview["amountNowCents"], preview["amountNextCents"]) == (
        "at_period_end",
        0,
        9_700,
    )
    assert preview["effectiveAt"] == "2026-04-10T12:00:00Z"
    done = desk.change(made, "PRO", previewToken=preview["previewToken"])
    assert (done["change"]["state"], done["change"]["effectiveAt"]) == ("scheduled", "2026-04-10T12:00:00Z")
    assert desk.change(made, "PRO")["reused"] is True
    assert desk.shown(made)["pendingChange"]["toPlanId"] == "PRO"
    desk.go("2026-04-10T11:59:59")
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"
    desk.go("2026-04-10T14:00:00")
    after = desk.shown(made)
    assert (after["subscription"]["planId"], after["changes"][0]["state"], after["pendingChange"]) == (
        "PRO",
        "done",
        None,
    )
    assert desk.totals() == [29_700, 9_700]
    assert queries.plan_in_force(ada, clock.now()) == "PRO"


def test_a_scheduled_downgrade_can_be_taken_back(desk, grow, api):
    _, ada = grow("ada")
    made = desk.subscribe(plan="ELITE")
    desk.change(made, "PRO")
    back = api.delete(f"{URL}/{made['id']}/change").json()
    assert (back["change"]["kind"], back["change"]["state"]) == ("withdraw", "done")
    assert api.delete(f"{URL}/{made['id']}/change").json()["reused"] is True
    assert desk.stripe()["schedule"] is None
    desk.change(made, "PRO")
    assert desk.change(made, "ELITE")["change"]["kind"] == "withdraw", (
        "the plan that it has: the same as taking back"
    )
    states = sorted(SubscriptionChange.objects.values_list("kind", "state"))
    assert states == [
        ("plan", "withdrawn"),
        ("plan", "withdrawn"),
        ("withdraw", "done"),
        ("withdraw", "done"),
    ]
    desk.go("2026-04-10T14:00:00")
    assert desk.totals() == [29_700, 29_700]
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"


def test_a_downgrade_may_be_had_at_once_and_its_credit_stays(desk, grow, at):
    """10 of 31 days used: 29700 x 21/31 = 20119 credited, 9700 x 21/31 = 6571 charged; -13548 pay for the next months."""
    grow("ada")
    made = desk.subscribe(plan="ELITE")
    at(moment("2026-03-20T12:00:00"))
    preview = desk.previewed(made, "PRO", prorationBehavior="always_invoice")
    assert (preview["amountNowCents"], preview["totalNowCents"]) == (0, -13_548)
    done = desk.change(made, "PRO", prorationBehavior="always_invoice", previewToken=preview["previewToken"])
    assert (done["change"]["state"], done["subscription"]["planId"]) == ("done", "PRO")
    assert desk.books.get("customers")["data"][0]["balance"] == -13_548
    assert desk.books.get("refunds")["data"] == []


def test_the_difference_can_come_with_the_next_invoice_and_the_policy_is_a_setting(desk, grow, at, settings):
    """create_prorations: nothing now; 29700 + 20119 - 6571 = 43248 next."""
    grow("ada")
    settings.UPGRADE_PRORATION = "create_prorations"
    made = desk.subscribe()
    at(moment("2026-03-20T12:00:00"))
    preview = desk.previewed(made, "ELITE")
    assert (preview["prorationBehavior"], preview["amountNowCents"], preview["amountNextCents"]) == (
        "create_prorations",
        0,
        43_248,
    )
    assert desk.change(made, "ELITE")["change"]["state"] == "done"
    desk.go("2026-04-10T14:00:00")
    assert desk.totals() == [9_700, 43_248]


def test_an_unpaid_upgrade_is_not_in_force_until_it_is_paid(desk, grow, at):
    _, ada = grow("ada")
    made = desk.subscribe()
    at(moment("2026-03-20T12:00:00"))
    desk.break_card()
    done = desk.change(made, "ELITE")
    assert (done["change"]["state"], done["subscription"]["planId"]) == ("awaiting_payment", "PRO")
    assert done["subscription"]["hostedInvoiceUrl"]
    assert queries.plan_in_force(ada, clock.now()) == "PRO"
    assert desk.change(made, "ELITE")["reused"] is True
    desk.hear()
    assert desk.shown(made)["entitlement"]["planId"] == "PRO"
    desk.pay(desk.stripe()["latest_invoice"])
    after = desk.shown(made)
    assert (after["subscription"]["planId"], after["changes"][0]["state"]) == ("ELITE", "done")
    assert after["entitlement"]["planId"] == "ELITE"
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"
    assert desk.totals() == [9_700, 13_548]


def test_an_upgrade_that_nobody_pays_ends_as_if_it_had_not_been(desk, grow, api):
    _, ada = grow("ada")
    made = desk.subscribe()
    desk.break_card()
    desk.change(made, "ELITE")
    desk.go("2026-03-12T12:00:00")
    after = desk.shown(made)
    assert (
        after["changes"][0]["state"],
        after["subscription"]["planId"],
        after["subscription"]["status"],
    ) == (
        "failed",
        "PRO",
        "active",
    )
    assert after["subscription"]["hostedInvoiceUrl"] is None
    desk.change(made, "ELITE")
    assert api.delete(f"{URL}/{made['id']}/change").json()["change"]["state"] == "done"
    assert desk.shown(made)["pendingChange"] is None
    assert PlanChange.objects.filter(instance=ada).count() == 1


def test_a_trial_costs_nothing_and_then_begins_to(desk, grow, at):
    """14 days from 10 March: the first $97 on 24 March, for 24 March to 24 April."""
    _, ada = grow("ada")
    made = desk.subscribe(trialDays=14)
    assert (made["status"], made["trialEnd"]) == ("trialing", "2026-03-24T12:00:00Z")
    assert queries.plan_in_force(ada, clock.now()) == "PRO"
    assert queries.summarise().mrr_cents == {}
    assert desk.totals() == [0]
    desk.go("2026-03-24T14:00:00")
    after = desk.shown(made)["subscription"]
    assert (after["status"], after["currentPeriodStart"], after["currentPeriodEnd"]) == (
        "active",
        "2026-03-24T12:00:00Z",
        "2026-04-24T12:00:00Z",
    )
    assert desk.totals() == [0, 9_700]


def test_cancelling_at_the_end_and_changing_ones_mind(desk, grow, api):
    _, ada = grow("ada")
    made = desk.subscribe()
    later = api.delete(f"{URL}/{made['id']}").json()
    assert (later["change"]["state"], later["change"]["effectiveAt"]) == ("scheduled", "2026-04-10T12:00:00Z")
    assert desk.put(made, "ELITE").json()["reason"] == "subscription_ends"
    back = api.post(f"{URL}/{made['id']}/resume", content_type="application/json").json()
    assert (back["change"]["state"], back["subscription"]["cancelAtPeriodEnd"]) == ("done", False)
    assert api.post(f"{URL}/{made['id']}/resume", content_type="application/json").json()["reused"] is True
    desk.go("2026-03-11T12:00:00")  # changes of one instant have no order
    assert desk.change(made, "BASE")["change"]["state"] == "scheduled", (
        "BASE is the plan without a subscription"
    )
    desk.go("2026-04-10T14:00:00")
    after = desk.shown(made)
    assert (after["subscription"]["status"], after["changes"][0]["state"]) == ("canceled", "done")
    assert desk.totals() == [9_700]
    assert queries.plan_in_force(ada, clock.now()) == "BASE"
    assert (
        api.post(f"{URL}/{made['id']}/resume", content_type="application/json").json()["reason"]
        == "subscription_ended"
    )


@pytest.mark.parametrize(("prorate", "balance"), [("true", -6_571), ("false", 0)])
def test_cancelling_at_once_with_and_without_credit(desk, grow, api, at, prorate, balance):
    """10 of 31 days used: 9700 x 21/31 = 6571 are credited, or nothing."""
    grow("ada")
    made = desk.subscribe()
    at(moment("2026-03-20T12:00:00"))
    gone = api.delete(f"{URL}/{made['id']}?immediate=true&prorate={prorate}").json()
    assert (gone["subscription"]["status"], gone["change"]["state"]) == ("canceled", "done")
    assert desk.books.get("customers")["data"][0]["balance"] == balance
    again = api.delete(f"{URL}/{made['id']}?immediate=true&prorate={prorate}").json()
    assert again["reused"] is True
    assert api.delete(f"{URL}/{made['id']}?prorate=true").json()["reason"] == "invalid_field"


def test_base_becomes_a_paid_plan_and_back(desk, grow):
    _, ada = grow("ada")
    base = desk.subscribe(plan="BASE")
    preview = desk.previewed(base, "PRO")
    assert (preview["amountNowCents"], preview["amountNextCents"]) == (9_700, 9_700)
    assert (preview["taxNowCents"], preview["taxNextCents"]) == (0, 0)
    assert preview["nextAt"] == "2026-04-10T12:00:00Z"
    answer = desk.put(base, "PRO", previewToken=preview["previewToken"], paymentMethodId="pm_card_visa")
    assert (answer.status_code, answer.json()["subscription"]["planId"]) == (201, "PRO")
    assert desk.put(base, "PRO").json()["reused"] is True
    assert queries.plan_in_force(ada, clock.now()) == "PRO"
    assert [row.plan for row in Subscription.objects.exclude(status="canceled")] == ["PRO"]


def test_the_first_month_costs_what_its_preview_says_tax_included(desk, grow, api, settings):
    """19% of 9700 are 1843; PRO to ELITE at once is 20000 and 3800 more; ELITE renews at 29700 and 5643."""
    grow("ada")
    rate = desk.books.post("tax_rates", display_name="VAT", percentage=19, inclusive="false")
    settings.PROVIDER_STRIPE_TAX_RATES = (rate["id"],)
    base = desk.subscribe(plan="BASE")
    preview = desk.previewed(base, "PRO")
    assert desk.books.get("customers")["data"] == [], "a preview makes nothing"
    assert (preview["amountNowCents"], preview["totalNowCents"], preview["taxNowCents"]) == (
        11_543,
        11_543,
        1_843,
    )
    assert (preview["amountNextCents"], preview["taxNextCents"]) == (11_543, 1_843)
    answer = desk.put(base, "PRO", previewToken=preview["previewToken"], paymentMethodId="pm_card_visa")
    assert (answer.status_code, desk.totals()) == (201, [11_543])
    pro = answer.json()["subscription"]
    upgrade = desk.previewed(pro, "ELITE")
    assert (upgrade["totalNowCents"], upgrade["taxNowCents"]) == (23_800, 3_800)
    assert (upgrade["amountNextCents"], upgrade["taxNextCents"]) == (35_343, 5_643)
    desk.change(pro, "ELITE", previewToken=upgrade["previewToken"])
    revenue = api.get("/api/provider/billing/revenue?clientOrgId=org_ada&period=2026-03").json()["revenue"]
    assert revenue["subscriptionRevenue"] == 9_700 + 20_000, "revenue is without tax"
    assert desk.change(pro, "PRO")["change"]["state"] == "scheduled"
    desk.go("2026-04-10T14:00:00")
    assert desk.totals() == [11_543, 23_800, 11_543], "the schedule keeps the tax rates"


def test_a_preview_from_base_uses_the_clients_credit_and_goes_stale_with_it(desk, grow):
    grow("ada")
    made = desk.subscribe(plan="PRO")
    customer = desk.books.get("customers")["data"][0]["id"]
    desk.api.delete(f"{URL}/{made['id']}?immediate=true")
    base = desk.subscribe(plan="BASE")
    desk.books.post(f"customers/{customer}/balance_transactions", amount=-500, currency="usd")
    preview = desk.previewed(base, "PRO")
    assert (preview["amountNowCents"], preview["totalNowCents"], preview["amountNextCents"]) == (
        9_200,
        9_700,
        9_700,
    )
    desk.books.post(f"customers/{customer}/balance_transactions", amount=-500, currency="usd")
    stale = desk.put(base, "PRO", previewToken=preview["previewToken"], paymentMethodId="pm_card_visa")
    assert stale.json()["reason"] == "preview_stale"
    desk.books.simulator.ask("DELETE", f"/v1/customers/{customer}", key=desk.books.key)
    assert desk.previewed(base, "PRO")["amountNowCents"] == 9_700, "a deleted customer has no credit"


def test_a_stale_an_altered_and_a_strange_preview_are_refused(desk, grow, at):
    grow("ada")
    made = desk.subscribe()
    token = desk.previewed(made, "ELITE")["previewToken"]
    for bad in (
        token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1],
        "x" + token,
        "nonsense",
        f"{token}:",
    ):
        assert desk.put(made, "ELITE", previewToken=bad).json()["reason"] == "bad_preview"
    assert (
        desk.put(made, "ELITE", previewToken=token, prorationBehavior="none").json()["reason"]
        == "bad_preview"
    )
    assert desk.put(made, "ELITE", previewToken=token, prorationDate="2026-03-10T12:00:01Z").json()[
        "reason"
    ] == ("bad_preview")
    assert desk.put(made, "ELITE", prorationDate="2026-03-10T12:00:00Z").json()["reason"] == "invalid_field"
    customer = desk.books.get("customers")["data"][0]["id"]
    desk.books.post(f"customers/{customer}/balance_transactions", amount=-500, currency="usd")
    assert desk.put(made, "ELITE", previewToken=token).json()["reason"] == "preview_stale", (
        "it would cost less now"
    )
    token = desk.previewed(made, "ELITE")["previewToken"]
    at(moment("2026-03-10T12:30:01"))
    assert desk.put(made, "ELITE", previewToken=token).json()["reason"] == "preview_stale", "half an hour old"
    assert SubscriptionChange.objects.count() == 0
    assert desk.totals() == [9_700]


def test_a_preview_changes_nothing_and_says_why_it_cannot_be(desk, grow, api):
    grow("ada")
    made = desk.subscribe()
    events = len(desk.books.events())
    desk.previewed(made, "ELITE")
    desk.previewed(made, "BASE")
    assert len(desk.books.events()) == events
    assert desk.preview(made, "PRO").json()["reason"] == "same_plan"
    assert desk.preview(made, "GOLD").json()["reason"] == "invalid_field"
    api.delete(f"{URL}/{made['id']}?immediate=true")
    assert desk.preview(made, "ELITE").json()["reason"] == "subscription_ended"
    unpaid = desk.subscribe(paymentMethodId=None)
    assert desk.preview(unpaid, "ELITE").json()["reason"] == "subscription_unpaid"


def test_threat_170_another_currency_than_the_plans_is_refused(desk, grow, api):
    grow("eve", currency="eur")
    body = {"clientOrgId": "org_eve", "planId": "PRO"}
    answer = api.post(URL, body, content_type="application/json")
    assert (answer.status_code, answer.json()["reason"]) == (422, "currency_mismatch")
    base = desk.subscribe("org_eve", "BASE", paymentMethodId=None)
    assert desk.put(base, "PRO").json()["reason"] == "currency_mismatch"
    assert desk.books.get("customers")["data"] == []


@pytest.mark.parametrize("price", [-1, 0, 10**15, 97.5, "97", True])
def test_threat_173_nobody_sets_a_price(desk, grow, price):
    grow("ada")
    made = desk.subscribe()
    for field in ("price", "feeCents", "amountNowCents"):
        answer = desk.put(made, "ELITE", **{field: price})
        assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_field")
    assert desk.totals() == [9_700]


def test_the_end_of_an_older_subscription_changes_nothing(desk, grow, api):
    _, ada = grow("ada")
    first = desk.subscribe()
    api.delete(f"{URL}/{first['id']}?immediate=true")
    desk.subscribe(plan="ELITE")
    version = desk.shown(first)["entitlement"]["version"]
    desk.hear()
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"
    assert (
        desk.shown(first)["entitlement"] | {"planId": "ELITE", "version": version}
        == (desk.shown(first)["entitlement"])
    )


@pytest.mark.parametrize("told", [True, False])
def test_a_customer_deleted_in_stripe_gets_another_one(desk, grow, told):
    _, ada = grow("ada")
    made = desk.subscribe()
    old = desk.books.get("customers")["data"][0]["id"]
    desk.books.simulator.ask("DELETE", f"/v1/customers/{old}", key=desk.books.key)
    if told:
        desk.hear()
        assert desk.shown(made)["subscription"]["status"] == "canceled"
        assert queries.plan_in_force(ada, clock.now()) == "BASE"
        assert Alert.objects.get().kind == "customer_deleted"
    else:
        Subscription.objects.update(status="canceled")  # its end was heard of, the customer's was not
    again = desk.subscribe(plan="ELITE")
    assert again["status"] == "active"
    assert FormerCustomer.objects.get().stripe_customer_id == old
    desk.hear()
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"
    assert {alert.kind for alert in Alert.objects.all()} <= {"customer_deleted"}


def test_what_was_done_is_on_the_audit_trail(desk, grow, api):
    grow("ada")
    made = desk.subscribe()
    desk.change(made, "ELITE")
    api.delete(f"{URL}/{made['id']}")
    kinds = list(AuditEvent.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds.count("subscription.changed") == 3  # asked for, done; the cancellation scheduled
    assert "subscription.cancelled" in kinds
    assert "entitlement.changed" in kinds


def test_lists_are_sorted_paged_and_exported(desk, grow, api, at):
    for name, plan in (("ada", "PRO"), ("bob", "ELITE"), ("cyd", "BASE")):
        grow(name)
        at(clock.now() + timedelta(seconds=1))
        desk.subscribe(f"org_{name}", plan, **({"paymentMethodId": None} if plan == "BASE" else {}))
    for sort, expected in (
        ("fee", ["BASE", "PRO", "ELITE"]),
        ("-fee", ["ELITE", "PRO", "BASE"]),
        ("client", ["PRO", "ELITE", "BASE"]),
        ("createdAt", ["PRO", "ELITE", "BASE"]),
    ):
        seen, cursor = [], ""
        while cursor is not None:
            page = api.get(f"{URL}?sort={sort}&limit=1&cursor={cursor}").json()
            seen += [one["planId"] for one in page["items"]]
            cursor = page["nextCursor"]
            assert page["summary"]["total"] == 3
        assert seen == expected, sort
    assert api.get(f"{URL}?sort=status").json()["reason"] == "invalid_field"
    assert api.get(f"{URL}?sort=fee&cursor={page['nextCursor'] or 'x'}").json()["reason"] == "bad_cursor"
    text = api.get(f"{URL}/export.csv?planId=PRO").content.decode()
    assert text.splitlines()[1].startswith("Ada Ltd,org_ada,PRO,active,USD,9700,2026-03-10T12:00:01Z")
    assert len(text.splitlines()) == 2
