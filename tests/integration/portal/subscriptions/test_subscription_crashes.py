"""A change whose answers get lost at any call is done once, by whoever goes on: the repeat, or a job a day later."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from tests.integration.portal.revenue.rig import NOW, run_jobs
from tests.integration.portal.subscriptions.moves import URL

from provider_federation.portal.subscriptions.jobs import defer_unfinished
from provider_federation.portal.subscriptions.models import Subscription, SubscriptionChange


def _upgrade(desk, made):
    return desk.put(made, "ELITE")


def _downgrade(desk, made):
    return desk.put(made, "PRO")


def _withdraw(desk, made):
    return desk.api.delete(f"{URL}/{made['id']}/change")


def _cancel_later(desk, made):
    return desk.api.delete(f"{URL}/{made['id']}")


def _cancel_now(desk, made):
    return desk.api.delete(f"{URL}/{made['id']}?immediate=true&prorate=true")


def _resume(desk, made):
    return desk.api.post(f"{URL}/{made['id']}/resume", content_type="application/json")


# operation: plan before, what comes first, the call that fails (from 0), and what Stripe must show once
OPERATIONS = {
    "upgrade": ("PRO", None, 0, _upgrade),
    "schedule": ("ELITE", None, 0, _downgrade),
    "phases": ("ELITE", None, 1, _downgrade),
    "release": ("ELITE", _downgrade, 0, _withdraw),
    "cancel later": ("PRO", None, 0, _cancel_later),
    "cancel now": ("PRO", None, 0, _cancel_now),
    "resume": ("PRO", _cancel_later, 0, _resume),
}


def check(desk, name):
    stripe = desk.stripe()
    invoices = [one["billing_reason"] for one in desk.books.invoices()]
    schedules = desk.books.get("subscription_schedules")["data"]
    assert SubscriptionChange.objects.filter(state__in=("carrying_out", "failed")).count() == 0
    if name == "upgrade":
        assert stripe["items"]["data"][0]["price"]["unit_amount"] == 29_700
        assert invoices == ["subscription_update", "subscription_create"]
    if name in {"schedule", "phases"}:
        assert [len(one["phases"]) for one in schedules] == [2]
    if name == "release":
        assert (stripe["schedule"], [one["status"] for one in schedules]) == (None, ["released"])
    if name == "cancel now":
        assert (stripe["status"], desk.books.get("customers")["data"][0]["balance"]) == ("canceled", -9_700)
    if name in {"cancel later", "resume"}:
        assert stripe["cancel_at_period_end"] is (name == "cancel later")


CASES = [
    *((name, "drop_after") for name in OPERATIONS),
    ("upgrade", "drop_before"),
    ("upgrade", "error_after"),
    ("phases", "error_after"),
    ("cancel now", "error_after"),
    ("schedule", "rate_limit"),
]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_lost_answer_and_whoever_goes_on(desk, grow, at, name, fault):
    grow("ada")
    plan, before, skip, operation = OPERATIONS[name]
    made = desk.subscribe(plan=plan)
    if before:
        assert before(desk, made).status_code == 200
    method = "DELETE" if name == "cancel now" else "POST"
    desk.books.fault(fault, "/v1/subscription*", method=method, skip=skip, count=5)
    first = operation(desk, made)
    assert first.status_code in {200, 503}, first.json()
    desk.books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    if fault in {"drop_after", "error_after"}:  # nobody repeats it, and Stripe has forgotten the key
        at(NOW + timedelta(days=2))
        desk.books.fault("forget_idempotency", "")
        assert defer_unfinished() >= (first.status_code == 503)
        assert run_jobs() == []
    else:
        assert operation(desk, made).status_code == 200
    check(desk, name)


def test_a_creation_that_nobody_repeats_is_finished_by_a_job(desk, grow, api, at):
    grow("ada")
    desk.books.fault("drop_after", "/v1/subscriptions", count=5)
    body = {"clientOrgId": "org_ada", "planId": "PRO", "paymentMethodId": "pm_card_visa"}
    assert api.post(URL, body, content_type="application/json").status_code == 503
    desk.books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    assert defer_unfinished() == 0, "whoever asked may still be at it"
    at(NOW + timedelta(minutes=3))
    assert (defer_unfinished(), defer_unfinished()) == (1, 0)
    assert run_jobs() == []
    assert Subscription.objects.get().status == "active"
    assert len(desk.books.get("subscriptions?status=all")["data"]) == 1


def test_asking_at_once_changes_once(desk, grow):
    grow("ada")
    made = desk.subscribe()

    def put(_number):
        try:
            return desk.put(made, "ELITE").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(put, range(4))) <= {200, 409, 503}
    assert desk.put(made, "ELITE").status_code == 200
    assert desk.totals() == [9_700, 20_000]
    assert SubscriptionChange.objects.filter(kind="plan", state="done").count() == 1


def test_another_change_waits_for_the_one_under_way(desk, grow):
    grow("ada")
    made = desk.subscribe()
    desk.books.fault("drop_before", "/v1/subscriptions/*", method="POST", count=5)
    assert desk.put(made, "ELITE").status_code == 503
    desk.books.simulator.ask("DELETE", "/_sim/faults", b"{}")
    other = desk.put(made, "ELITE", prorationBehavior="none")
    assert (other.status_code, other.json()["reason"]) == (409, "change_in_progress")
    assert desk.change(made, "ELITE")["change"]["state"] == "done"


def test_what_stripe_refuses_ends_the_change(desk, grow, settings):
    grow("ada")
    made = desk.subscribe()
    token = desk.previewed(made, "ELITE")["previewToken"]
    elite = settings.PROVIDER_STRIPE_PRICES["ELITE"]
    desk.books.post(f"prices/{elite}", active="false")
    answer = desk.put(made, "ELITE", previewToken=token)
    assert (answer.status_code, answer.json()["reason"]) == (422, "stripe_refused")
    assert SubscriptionChange.objects.count() == 0, "the preview was refused before anything was promised"
    assert desk.shown(made)["subscription"]["planId"] == "PRO"
