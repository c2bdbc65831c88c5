"""The stored Stripe events over HTTP: pages and filters, and sending what was parked round again."""

from __future__ import annotations

import pytest
from django.test import Client
from tests.integration.portal.revenue.rig import FEBRUARY, deliver, jobs, run_jobs

from provider_federation.kit import clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.audit.services import Kind
from provider_federation.portal.operators.services import create_token
from provider_federation.portal.revenue.models import EventState, StripeEvent, UsageInvoice
from provider_federation.portal.revenue.services import events as event_services
from provider_federation.portal.revenue.services.jobs import APPLY

EVENTS = "/api/provider/billing/stripe-events"


@pytest.fixture
def billed(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 1)
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post("/api/provider/billing/revenue", wanted, content_type="application/json")
    run_jobs()
    return UsageInvoice.objects.get()


@pytest.fixture
def parked(books, billed, api):
    """A payment that was told of while our key was not accepted."""
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    deliver(api, books.events("invoice.paid")[-1])
    books.fault("error_before", f"/v1/invoices/{billed.stripe_invoice_id}", count=99)
    row = StripeEvent.objects.get()
    StripeEvent.objects.update(attempts=event_services.STRIPE_ATTEMPTS - 1)
    assert run_jobs() == []
    books.simulator.ask("DELETE", "/_sim/faults")
    row.refresh_from_db()
    assert row.state == "parked"
    return row


def stored(number, state):
    now = clock.now()
    return StripeEvent.objects.create(
        event_id=f"evt_{number}", type="invoice.paid" if number % 2 else "customer.deleted", livemode=False,
        object_id=f"in_{number}", payload="{}", received_at=now, state=state, attempts=3, error="E" if state == "parked" else "",
    )  # fmt: skip


def post(api, path=""):
    answer = api.post(f"{EVENTS}{path}/retry", content_type="application/json")
    return answer.status_code, answer.json()


def told():
    return list(AuditEvent.objects.filter(kind=Kind.WEBHOOK_RETRIED).values_list("actor", "subject"))


def test_a_parked_event_is_listed_sent_round_again_and_applied(parked, billed, api):
    [item] = api.get(f"{EVENTS}?state=parked").json()["items"]
    assert (item["eventId"], item["type"], item["objectId"]) == (
        parked.event_id,
        "invoice.paid",
        billed.stripe_invoice_id,
    )
    assert item["attempts"] == event_services.STRIPE_ATTEMPTS
    assert "Stripe: " in item["error"]
    assert "payload" not in item
    status, answer = post(api, f"/{parked.event_id}")
    assert (status, answer["retried"], answer["event"]["state"]) == (200, True, "pending")
    assert (answer["event"]["attempts"], answer["event"]["error"]) == (0, None)
    assert post(api, f"/{parked.event_id}")[1]["retried"] is False
    assert told() == [("token:tests", f"stripe_event:{parked.event_id}")]
    assert jobs(APPLY) == 1
    assert run_jobs() == []
    billed.refresh_from_db()
    assert billed.status == "paid"
    [item] = api.get(EVENTS).json()["items"]
    assert (item["state"], item["appliedAt"] is not None) == ("applied", True)
    assert post(api, f"/{parked.event_id}") == (200, {"ok": True, "retried": False, "event": item})


def test_all_that_are_parked_go_round_again_once(parked, billed, api):
    for number, state in enumerate(("parked", "parked", "applied", "ignored", "pending")):
        stored(number, state)
    assert post(api) == (200, {"ok": True, "retried": 3, "left": 0})
    assert post(api) == (200, {"ok": True, "retried": 0, "left": 0})
    assert {subject for _actor, subject in told()} == {
        f"stripe_event:{name}" for name in (parked.event_id, "evt_0", "evt_1")
    }
    assert jobs(APPLY) == 3
    run_jobs()
    assert StripeEvent.objects.get(pk=parked.pk).state == "applied"
    billed.refresh_from_db()
    assert billed.status == "paid"


def test_a_call_takes_the_oldest_and_says_how_many_are_left(api):
    for number in range(5):
        stored(number, "parked")
    assert event_services.retry_parked(actor="system", most=2) == (2, 3)
    left = StripeEvent.objects.filter(state=EventState.PARKED)
    assert set(left.values_list("event_id", flat=True)) == {"evt_2", "evt_3", "evt_4"}


def test_pages_and_filters(api):
    assert api.get(EVENTS).json() == {"ok": True, "items": [], "nextCursor": None}
    for number in range(7):
        stored(number, "parked" if number < 3 else "applied")
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(f"{EVENTS}?limit=3&cursor={cursor}").json()
        seen += [item["eventId"] for item in page["items"]]
        cursor = page["nextCursor"]
    assert seen == [f"evt_{number}" for number in reversed(range(7))]
    for query, numbers in (
        ("state=parked", (2, 1, 0)),
        ("state=parked&type=invoice.paid", (1,)),
        ("type=customer.deleted", (6, 4, 2, 0)),
        ("objectId=in_5", (5,)),
        ("type=nothing", ()),
    ):
        items = api.get(f"{EVENTS}?{query}").json()["items"]
        assert [item["eventId"] for item in items] == [f"evt_{number}" for number in numbers], query


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("state=poison", "invalid_field"),
        ("limit=0", "invalid_field"),
        ("limit=201", "invalid_field"),
        ("page=2", "unknown_field"),
        ("cursor=!", "bad_cursor"),
        ("cursor=WyJ4IiwxXQ", "bad_cursor"),  # ["x",1]
        ("cursor=WyIyMDI2LTAxLTAxIiwxXQ", "bad_cursor"),  # without a zone
    ],
)
def test_a_list_that_makes_no_sense_is_refused(api, query, reason):
    answer = api.get(f"{EVENTS}?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)


def test_what_is_not_there_and_what_a_retry_does_not_take(api):
    stored(1, "parked")
    assert post(api, "/evt_none")[0] == 404
    assert post(api, "/evt%00")[0] == 404
    for path in ("", "/evt_1"):
        answer = api.post(f"{EVENTS}{path}/retry", {"force": True}, content_type="application/json")
        assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_field")
        answer = api.post(f"{EVENTS}{path}/retry?all=1", content_type="application/json")
        assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_field")
    assert StripeEvent.objects.get().state == "parked"


def test_who_may_read_and_who_may_retry(api):
    stored(1, "parked")
    assert Client().get(EVENTS).status_code == 401
    _, secret = create_token(name="reader", role="support", actor="system")
    reader = Client(headers={"Authorization": f"Bearer {secret}"})
    assert reader.get(EVENTS).status_code == 200
    for path in ("", "/evt_1"):
        assert post(reader, path)[0] == 403
        assert post(Client(), path)[0] == 401
    assert (StripeEvent.objects.get().state, told()) == ("parked", [])
