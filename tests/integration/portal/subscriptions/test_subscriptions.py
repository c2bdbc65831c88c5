"""Subscriptions in the provider's Stripe account: made once, applied as Stripe says, with a history of plans."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from tests.integration.portal.revenue.rig import NOW, deliver, run_jobs

from provider_federation.kit import clock
from provider_federation.portal.revenue.models import Alert
from provider_federation.portal.subscriptions import queries
from provider_federation.portal.subscriptions.applying import refresh_subscription
from provider_federation.portal.subscriptions.models import (
    BillingCustomer,
    PlanChange,
    Subscription,
    SubscriptionInvoice,
)

URL = "/api/provider/billing/subscriptions"


def subscribe(api, org="org_ada", plan="PRO", **more):
    return api.post(URL, {"clientOrgId": org, "planId": plan, **more}, content_type="application/json")


def catch_up(api, books):
    for fact in books.events():
        assert deliver(api, fact).status_code == 200
    assert run_jobs() == []


def test_with_a_payment_method_it_is_charged_at_once(books, grow, api):
    _, ada = grow("ada")
    answer = subscribe(
        api, paymentMethodId="pm_card_visa", billingDetails={"name": "Ada Ltd", "email": "pay@ada.example"}
    )
    assert answer.status_code == 201, answer.json()
    made = answer.json()["subscription"]
    assert (made["status"], made["planId"], made["feeCents"], made["hostedInvoiceUrl"]) == (
        "active",
        "PRO",
        9_700,
        None,
    )
    [customer] = books.get("customers")["data"]
    assert (customer["name"], customer["email"]) == ("Ada Ltd", "pay@ada.example")
    [invoice] = SubscriptionInvoice.objects.all()
    assert (invoice.status, invoice.total_cents, invoice.paid_cents) == ("paid", 9_700, 9_700)
    assert queries.plan_in_force(ada, clock.now()) == "PRO"
    assert queries.plan_in_force(ada, clock.now() - timedelta(days=1)) == "BASE"
    catch_up(api, books)
    assert (
        Subscription.objects.count(),
        PlanChange.objects.count(),
        SubscriptionInvoice.objects.count(),
    ) == (1, 1, 1)


def test_without_one_it_begins_incomplete_and_is_paid_on_the_hosted_page(books, grow, api):
    _, ada = grow("ada")
    made = subscribe(api).json()["subscription"]
    assert (made["status"], bool(made["hostedInvoiceUrl"])) == ("incomplete", True)
    assert queries.plan_in_force(ada, clock.now()) == "BASE"
    [invoice] = books.invoices()
    books.post(f"invoices/{invoice['id']}/pay", payment_method="pm_card_visa")
    catch_up(api, books)
    after = api.get(f"{URL}/{made['id']}").json()["subscription"]
    assert (after["status"], after["hostedInvoiceUrl"]) == ("active", None)
    assert queries.plan_in_force(ada, clock.now()) == "PRO"


def test_base_needs_no_stripe_and_can_become_a_paid_plan(books, grow, api):
    _, ada = grow("ada")
    base = subscribe(api, plan="BASE")
    assert (base.status_code, base.json()["subscription"]["stripeSubscriptionId"]) == (201, None)
    assert books.get("customers")["data"] == []
    assert subscribe(api, paymentMethodId="pm_card_visa").status_code == 201
    assert queries.plan_in_force(ada, clock.now()) == "PRO"
    assert sorted(Subscription.objects.values_list("plan", "status")) == [
        ("BASE", "canceled"),
        ("PRO", "active"),
    ]


def test_asking_again_and_asking_at_once_make_one(books, grow, api):
    grow("ada")

    def post(_number):
        try:
            return subscribe(api, paymentMethodId="pm_card_visa")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, range(4)))
    assert {answer.status_code for answer in answers} <= {200, 201, 503}
    assert subscribe(api, paymentMethodId="pm_card_visa").status_code == 200
    assert (
        len(books.get("subscriptions")["data"]),
        len(books.get("customers")["data"]),
        len(books.invoices()),
    ) == (1, 1, 1)
    other = subscribe(api, plan="ELITE")
    assert (other.status_code, other.json()["reason"]) == (409, "subscription_exists")


def test_the_database_refuses_a_second_living_subscription(grow):
    _, ada = grow("ada")
    values = {
        "instance": ada,
        "plan": "PRO",
        "fee_cents": 1,
        "currency": "usd",
        "created_at": NOW,
        "updated_at": NOW,
    }
    Subscription.objects.create(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscription.objects.create(**values)


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/subscriptions"])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "error_before", "error_after"])
def test_a_fault_at_any_call_and_a_repeat_double_nothing(books, grow, api, path, kind):
    grow("ada")
    books.fault(kind, path, count=5)
    first = subscribe(api)
    assert first.status_code in {201, 503}, first.json()
    books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    again = subscribe(api)
    assert again.status_code == 200, again.json()
    assert again.json()["subscription"]["status"] == "incomplete"
    assert (
        len(books.get("customers")["data"]),
        len(books.get("subscriptions?status=all")["data"]),
        len(books.invoices()),
    ) == (1, 1, 1)


def test_a_day_later_what_stripe_forgot_is_found_again(books, grow, api, at):
    grow("ada")
    books.fault("drop_after", "/v1/subscriptions", count=5)
    assert subscribe(api).status_code == 503
    books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    at(NOW + timedelta(hours=12))
    books.fault("forget_idempotency", "")
    assert subscribe(api).status_code == 200
    assert len(books.get("subscriptions?status=all")["data"]) == 1


def test_a_declined_card_can_be_tried_anew(books, grow, api):
    grow("ada")
    refused = subscribe(api, paymentMethodId="pm_nonsense")
    assert (refused.status_code, refused.json()["reason"]) == (422, "stripe_refused")
    assert subscribe(api, paymentMethodId="pm_card_visa").status_code == 201
    assert sorted(Subscription.objects.values_list("status", flat=True)) == ["active", "incomplete_expired"]


def test_cancel_at_the_end_of_the_period_and_at_once(books, grow, api):
    _, ada = grow("ada")
    made = subscribe(api, paymentMethodId="pm_card_visa").json()["subscription"]
    later = api.delete(f"{URL}/{made['id']}").json()["subscription"]
    assert (later["status"], later["cancelAtPeriodEnd"]) == ("active", True)
    now = api.delete(f"{URL}/{made['id']}?immediate=true").json()["subscription"]
    assert now["status"] == "canceled"
    assert api.delete(f"{URL}/{made['id']}?immediate=true").json()["subscription"]["status"] == "canceled"
    assert queries.plan_in_force(ada, clock.now()) == "BASE"
    assert subscribe(api, plan="ELITE", paymentMethodId="pm_card_visa").status_code == 201
    assert queries.plan_in_force(ada, clock.now()) == "ELITE"
    catch_up(api, books)
    assert queries.plan_in_force(ada, clock.now()) == "ELITE", (
        "a late word about the old one takes nothing away"
    )


def test_a_renewal_moves_the_period(books, grow, api, at):
    grow("ada")
    made = subscribe(api, paymentMethodId="pm_card_visa").json()["subscription"]
    assert made["currentPeriodEnd"] == "2026-04-10T12:00:00Z"
    books.simulator.control("clock/advance", to=datetime(2026, 4, 12, 12, tzinfo=UTC).isoformat())
    catch_up(api, books)
    after = api.get(f"{URL}/{made['id']}").json()["subscription"]
    assert after["currentPeriodEnd"] == "2026-05-10T12:00:00Z"
    assert SubscriptionInvoice.objects.count() == 2


def test_a_refusal_after_a_lost_answer_does_not_lead_to_a_second_subscription(books, grow, api):
    """The first try made it and its answer was lost; the repeat is refused for another reason. It was given up then,
    and the client could be subscribed, and charged, a second time.
    """
    grow("ada")
    books.fault("drop_after", "/v1/subscriptions", count=5)
    assert subscribe(api, paymentMethodId="pm_card_visa").status_code == 503
    books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    card = Subscription.objects.get().payment_method
    books.post(f"payment_methods/{card}/detach")
    books.post(f"payment_methods/{card}/attach", customer=books.post("customers", name="Mallory")["id"])
    assert subscribe(api, paymentMethodId="pm_card_visa").status_code == 200
    assert Subscription.objects.get().status == "active"
    subscribe(api, paymentMethodId="pm_card_mastercard")
    assert len(books.get("subscriptions?status=all")["data"]) == 1


def test_an_invoices_event_that_is_faster_than_our_own_answer_is_ours(books, grow, api):
    """Stripe tells of the first invoice before the portal has stored the subscription's id (or it crashed there)."""
    grow("ada")
    subscribe(api, paymentMethodId="pm_card_visa")
    SubscriptionInvoice.objects.all().delete()
    PlanChange.objects.all().delete()
    Subscription.objects.update(stripe_subscription_id=None, status="creating", version=0)
    for fact in books.events("invoice.paid"):
        deliver(api, fact)
    assert run_jobs() == []
    assert Alert.objects.count() == 0
    assert Subscription.objects.get().status == "active"
    assert SubscriptionInvoice.objects.get().status == "paid"


def test_a_new_price_of_a_plan_leaves_those_on_the_old_one_alone(books, grow, api, settings):
    """The provider puts another price id into the settings: who subscribed before keeps plan, events and cancelling."""
    _, ada = grow("ada")
    made = subscribe(api, paymentMethodId="pm_card_visa").json()["subscription"]
    settings.PROVIDER_STRIPE_PRICES = {**settings.PROVIDER_STRIPE_PRICES, "PRO": "price_new"}
    catch_up(api, books)
    assert Alert.objects.count() == 0
    ended = api.delete(f"{URL}/{made['id']}?immediate=true")
    assert (ended.status_code, ended.json()["subscription"]["status"]) == (200, "canceled")
    assert queries.plan_in_force(ada, clock.now()) == "BASE"


def test_a_row_that_another_worker_binds_while_we_look_is_ours(books, grow, api):
    """Between a query by Stripe's id and one by our mark it was bound: a stranger to both, and its event was lost."""
    grow("ada")
    subscribe(api, paymentMethodId="pm_card_visa")
    stripe_id = Subscription.objects.get().stripe_subscription_id
    Subscription.objects.update(stripe_subscription_id=None, version=0)
    looks = 0

    def bind_after_the_second_look(execute, sql, params, many, context):
        nonlocal looks
        answer = execute(sql, params, many, context)
        looks += "subscriptions_subscription" in sql
        if looks == 2:
            other.execute(
                "UPDATE subscriptions_subscription SET stripe_subscription_id = %s, version = 1", [stripe_id]
            )
            looks += 1
        return answer

    with (
        psycopg.connect(**connection.get_connection_params(), autocommit=True) as other,
        connection.execute_wrapper(bind_after_the_second_look),
    ):
        assert refresh_subscription(stripe_id).stripe_subscription_id == stripe_id


def test_a_price_that_is_no_plan_of_ours_keeps_nobody_from_cancelling(books, grow, api):
    """Somebody gave the subscription another price in Stripe. Ending it was a 500, and the plan stayed in force."""
    _, ada = grow("ada")
    made = subscribe(api, paymentMethodId="pm_card_visa").json()["subscription"]
    stripe_id = Subscription.objects.get().stripe_subscription_id
    product = books.post("products", name="Special")["id"]
    price = books.post(
        "prices", product=product, unit_amount=100, currency="usd", **{"recurring[interval]": "month"}
    )["id"]
    item = books.get(f"subscriptions/{stripe_id}")["items"]["data"][0]["id"]
    books.post(
        f"subscriptions/{stripe_id}",
        **{"items[0][id]": item, "items[0][price]": price, "proration_behavior": "none"},
    )
    later = api.delete(f"{URL}/{made['id']}")
    assert (later.status_code, later.json()["reason"]) == (409, "unknown_price")
    now = api.delete(f"{URL}/{made['id']}?immediate=true")
    assert (now.status_code, now.json()["subscription"]["status"]) == (200, "canceled")
    assert queries.plan_in_force(ada, clock.now()) == "BASE"


def test_a_subscription_made_by_hand_changes_nothing_and_raises_an_alert(books, grow, api):
    from provider_federation.portal.revenue.models import Alert

    grow("ada")
    subscribe(api, paymentMethodId="pm_card_visa")
    customer = BillingCustomer.objects.get().stripe_customer_id
    price = next(price["id"] for price in books.get("prices")["data"] if price["unit_amount"] == 29_700)
    books.post("subscriptions", customer=customer, **{"items[0][price]": price})
    for fact in books.events():
        deliver(api, fact)
    assert run_jobs() == []
    assert Subscription.objects.count() == 1
    assert {alert.kind for alert in Alert.objects.all()} == {"unknown_subscription"}


def test_the_list_has_pages_filters_and_sums_over_all_rows(books, grow, api):
    for name, plan in [("ada", "PRO"), ("bob", "ELITE"), ("cyd", "BASE"), ("dan", "PRO")]:
        grow(name)
        more = {} if plan == "BASE" else {"paymentMethodId": "pm_card_visa"}
        assert subscribe(api, f"org_{name}", plan, **more).status_code == 201
    first = api.get(f"{URL}?limit=3").json()
    second = api.get(f"{URL}?limit=3&cursor={first['nextCursor']}").json()
    assert (len(first["items"]), len(second["items"]), second["nextCursor"]) == (3, 1, None)
    assert len({one["id"] for one in first["items"] + second["items"]}) == 4
    for page in (first, second):
        assert page["summary"]["mrr"] == [{"currency": "usd", "amountCents": 49_100}]
        assert page["summary"]["byPlan"] == {"BASE": 1, "PRO": 2, "ELITE": 1}
    assert [one["clientOrgId"] for one in api.get(f"{URL}?planId=ELITE").json()["items"]] == ["org_bob"]
    assert api.get(f"{URL}?clientOrgId=org_cyd&status=active").json()["items"][0]["planId"] == "BASE"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("planId=GOLD", "invalid_field"),
        ("status=x", "invalid_field"),
        ("cursor=x", "bad_cursor"),
        ("limit=0", "invalid_field"),
        ("plan=PRO", "unknown_field"),
    ],
)
def test_bad_questions(grow, api, query, reason):
    answer = api.get(f"{URL}?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)


def test_bad_requests_write_nothing(books, grow, api):
    grow("ada")
    grow("eve", currency="eur")
    for body, status in [
        ({"clientOrgId": "org_ada"}, 400), ({"clientOrgId": "org_ada", "planId": "GOLD"}, 400), ({"clientOrgId": 7, "planId": "PRO"}, 400),
        ({"clientOrgId": "org_ada", "planId": "PRO", "price": 1}, 400), ({"clientOrgId": "nobody", "planId": "PRO"}, 404),
        ({"clientOrgId": "org_eve", "planId": "PRO"}, 422),
    ]:  # fmt: skip
        assert api.post(URL, body, content_type="application/json").status_code == status, body
    assert api.delete(f"{URL}/not-an-id").status_code == 404
    assert api.get(f"{URL}/00000000-0000-0000-0000-000000000000").status_code == 404
    assert Subscription.objects.count() == 0
