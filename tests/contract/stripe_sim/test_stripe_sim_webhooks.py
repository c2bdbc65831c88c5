"""Webhooks: signed as Stripe signs, at least once, and badly on demand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.conformance import client, complaints
from tests.contract.stripe_sim.sim_tools import Receiver, control, http, until

from provider_federation.kit import clock
from provider_federation.testing.stripe_sim import Hook, Running, start_in_thread


@pytest.fixture
def endpoint(api: stripe.StripeClient, receiver: Receiver) -> stripe.WebhookEndpoint:
    return api.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})


@pytest.fixture(autouse=True)
def _nothing_left_over(sim: Running) -> Any:
    yield
    control(sim.url, "/_sim/reset")


def test_the_sdk_accepts_the_signature_and_the_body(
    sim: Running, api: stripe.StripeClient, endpoint: stripe.WebhookEndpoint, receiver: Receiver
) -> None:
    customer = flows.customer(api)
    counts = control(sim.url, "/_sim/webhooks/flush")
    assert counts["pending"] == counts["failed"] == 0
    [(headers, body)] = until(lambda: receiver.received)
    event = stripe.Webhook.construct_event(body, headers["stripe-signature"], endpoint.secret)
    assert (event.type, event.data.object["id"]) == ("customer.created", customer.id)
    assert complaints(json.loads(body)) == []
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + b" ", headers["stripe-signature"], endpoint.secret)
    assert api.v1.events.retrieve(event.id).pending_webhooks == 0


def test_only_what_was_asked_for_arrives(sim: Running, api: stripe.StripeClient, receiver: Receiver) -> None:
    api.v1.webhook_endpoints.create(
        {"url": receiver.url, "enabled_events": ["invoice.paid", "invoice.finalized"]}
    )
    invoice = flows.opened(api, flows.customer(api).id, 1000)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    control(sim.url, "/_sim/webhooks/flush")
    assert receiver.types() == ["invoice.finalized", "invoice.paid"]


def test_a_disabled_or_deleted_endpoint_gets_nothing(
    sim: Running, api: stripe.StripeClient, endpoint: stripe.WebhookEndpoint, receiver: Receiver
) -> None:
    api.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    flows.customer(api)
    api.v1.webhook_endpoints.update(endpoint.id, {"disabled": False})
    api.v1.webhook_endpoints.delete(endpoint.id)
    flows.customer(api)
    assert control(sim.url, "/_sim/webhooks/flush")["delivered"] == 0
    assert receiver.received == []


def test_a_failing_receiver_is_told_again(
    sim: Running, api: stripe.StripeClient, endpoint: stripe.WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answers = [500, 302]
    flows.customer(api)
    assert until(lambda: receiver.types() == ["customer.created"] * 3)  # after 1 s and 2 s, by itself
    assert until(lambda: control(sim.url, "/_sim/state", "GET")["pending_webhooks"] == 0)
    assert len({event["id"] for event in receiver.events()}) == 1


def test_flush_tells_what_could_not_be_delivered(
    sim: Running, api: stripe.StripeClient, receiver: Receiver
) -> None:
    api.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    customer = flows.customer(api)
    counts = control(sim.url, "/_sim/webhooks/flush", attempts=2)
    assert (counts["delivered"], counts["pending"]) == (0, 1)
    assert counts["failed"] >= 1
    assert counts["failures"][0]["type"] == "customer.created"
    assert api.v1.events.list({"delivery_success": False}).data[0].data.object["id"] == customer.id


def test_moving_the_clock_makes_retries_due(
    sim: Running, api: stripe.StripeClient, endpoint: stripe.WebhookEndpoint, receiver: Receiver
) -> None:
    control(sim.url, "/_sim/webhooks/faults", kind="delay", seconds=3600)
    flows.customer(api)
    assert receiver.received == []
    control(sim.url, "/_sim/clock/advance", seconds=7200)
    assert until(receiver.types) == ["customer.created"]


FAULTED: list[tuple[dict[str, Any], list[str]]] = [
    ({"kind": "duplicate", "count": 2}, ["a", "a", "b", "b", "c"]),
    ({"kind": "drop", "count": 1}, ["b", "c"]),
    ({"kind": "reorder", "count": 3}, ["c", "b", "a"]),
    ({"kind": "reorder", "count": 5}, ["c", "b", "a"]),
    ({"kind": "delay", "count": 1, "seconds": 600}, ["a", "b", "c"]),
    ({"kind": "drop", "count": 9, "type": "invoice.*"}, ["a", "b", "c"]),
]


@pytest.mark.parametrize(
    ("fault", "arrived"), FAULTED, ids=[f"{row[0]['kind']}-{row[0].get('count')}" for row in FAULTED]
)
def test_faults(
    sim: Running,
    api: stripe.StripeClient,
    endpoint: stripe.WebhookEndpoint,
    receiver: Receiver,
    key: str,
    fault: dict[str, Any],
    arrived: list[str],
) -> None:
    control(sim.url, "/_sim/webhooks/faults", key=key, **fault)
    for name in ("a", "b", "c"):
        flows.customer(api, name=name)
    control(sim.url, "/_sim/webhooks/flush")
    names = [event["data"]["object"]["name"] for event in receiver.events()]
    assert (names if fault["kind"] in {"reorder", "duplicate"} else sorted(names)) == arrived


def test_an_update_tells_what_it_was_before(
    sim: Running, api: stripe.StripeClient, endpoint: stripe.WebhookEndpoint, receiver: Receiver
) -> None:
    customer = flows.customer(api)
    api.v1.customers.update(customer.id, {"name": "Grace"}, {"idempotency_key": "rename"})
    api.v1.customers.update(customer.id, {"name": "Grace"})
    control(sim.url, "/_sim/webhooks/flush")
    created, renamed = receiver.events()
    assert created["data"]["object"]["name"] == "Ada Lovelace"
    assert renamed["data"]["previous_attributes"] == {"name": "Ada Lovelace"}
    assert renamed["request"]["idempotency_key"] == "rename"


def test_hooks_given_at_the_start_are_kept_and_pending_ones_survive(
    tmp_path: Any, receiver: Receiver
) -> None:
    hook, data = Hook("sk_test_hooked", receiver.url, "whsec_known"), tmp_path / "sim.sqlite"
    receiver.answers = [503] * 100
    for round_ in range(2):
        running = start_in_thread(data=data, hooks=[hook])
        if round_ == 0:
            flows.customer(client(running.url, "sk_test_hooked"))
            until(lambda: receiver.received)
        else:
            receiver.answers.clear()
            assert control(running.url, "/_sim/webhooks/flush")["pending"] == 0
            assert len(client(running.url, "sk_test_hooked").v1.webhook_endpoints.list().data) == 1
        running.stop()
    headers, body = receiver.received[-1]
    assert (
        stripe.Webhook.construct_event(body, headers["stripe-signature"], "whsec_known").type
        == "customer.created"
    )


def test_the_clock_file_owns_the_time(
    sim: Running, api: stripe.StripeClient, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    path = tmp_path / "clock.json"
    clock.set_clock(path, at=datetime(2026, 1, 31, 12, tzinfo=UTC))
    monkeypatch.setenv(clock.CLOCK_VARIABLE, str(path))
    assert flows.customer(api).created == int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
    control(sim.url, "/_sim/clock/advance", seconds=3600)
    assert clock.now() == datetime.fromtimestamp(sim.simulator.now(), UTC)
    with pytest.raises(AssertionError, match="forward"):
        control(sim.url, "/_sim/clock/advance", to="2020-01-01T00:00:00+00:00")


def test_controls_answer_for_themselves(sim: Running, key: str) -> None:
    assert http("GET", sim.url + "/_sim/nothing")[0] == 404
    assert http("POST", sim.url + "/_sim/faults", b"[]")[0] == 400
    assert http("POST", sim.url + "/_sim/faults", b"{")[0] == 400
    assert json.loads(http("GET", sim.url + "/")[2])["object"] == "simulator"
    assert control(sim.url, "/_sim/account", key=key, name="Acme Ltd")["name"] == "Acme Ltd"
    assert client(sim.url, key).v1.accounts.retrieve_current().business_profile.name == "Acme Ltd"
