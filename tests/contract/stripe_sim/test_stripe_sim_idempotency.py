"""Idempotency keys as Stripe keeps them, through every way in which a call can end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import control, raw, until

from provider_federation.testing.stripe_sim import Running

DAY = 86_400


def _count(api: stripe.StripeClient) -> int:
    return len(api.v1.customers.list({"limit": 100}).data)


def test_the_same_key_and_request_gets_the_first_answer_again(
    sim: Running, api: stripe.StripeClient, key: str
) -> None:
    first = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")
    again = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")
    assert first[2] == again[2]
    assert "idempotent-replayed" not in first[1]
    assert again[1]["idempotent-replayed"] == "true"
    assert again[1]["original-request"] == first[1]["request-id"] != again[1]["request-id"]
    assert _count(api) == 1


@pytest.mark.parametrize(("path", "form"), [("/v1/customers", "name=Eve"), ("/v1/products", "name=Ada")])
def test_the_same_key_with_another_request_is_refused(sim: Running, key: str, path: str, form: str) -> None:
    raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")
    status, _, body = raw(sim.url, key, "POST", path, form, Idempotency_Key="k")
    assert (status, body["error"]["type"]) == (400, "idempotency_error")


def test_keys_belong_to_one_account(sim: Running, key: str) -> None:
    mine = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]
    other = raw(sim.url, key + "2", "POST", "/v1/customers", "name=Eve", Idempotency_Key="k")
    assert other[0] == 200
    assert other[2]["id"] != mine["id"]


def test_a_key_that_is_in_flight_is_a_conflict(sim: Running, api: stripe.StripeClient, key: str) -> None:
    control(sim.url, "/_sim/faults", kind="slow", seconds=1.5, path="/v1/customers", key=key)
    slow = threading.Thread(
        target=raw, args=(sim.url, key, "POST", "/v1/customers", "name=Ada"), kwargs={"Idempotency_Key": "k"}
    )
    slow.start()
    until(lambda: not control(sim.url, "/_sim/faults", "GET")["faults"])
    status, _, body = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")
    slow.join()
    assert (status, body["error"]["code"]) == (409, "idempotency_key_in_use")
    assert _count(api) == 1


def test_a_key_is_forgotten_after_a_day_of_the_simulators_clock(
    sim: Running, api: stripe.StripeClient, key: str
) -> None:
    first = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]
    control(sim.url, "/_sim/clock/advance", seconds=DAY - 60)
    assert raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]["id"] == first["id"]
    control(sim.url, "/_sim/clock/advance", seconds=120)
    assert raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]["id"] != first["id"]


def test_forgotten_on_demand(sim: Running, key: str) -> None:
    first = raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]
    control(sim.url, "/_sim/faults", kind="forget_idempotency", key=key)
    assert raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[2]["id"] != first["id"]


def test_what_failed_validation_is_not_remembered(sim: Running, key: str) -> None:
    assert raw(sim.url, key, "POST", "/v1/customers", "nmae=Ada", Idempotency_Key="k")[0] == 400
    assert raw(sim.url, key, "POST", "/v1/customers", "name=Ada", Idempotency_Key="k")[0] == 200


def test_a_declined_card_is_remembered(sim: Running, api: stripe.StripeClient, key: str) -> None:
    invoice = flows.opened(api, flows.customer(api).id, 5000)
    form = "payment_method=pm_card_chargeCustomerFail"
    first = raw(sim.url, key, "POST", f"/v1/invoices/{invoice.id}/pay", form, Idempotency_Key="k")
    again = raw(sim.url, key, "POST", f"/v1/invoices/{invoice.id}/pay", form, Idempotency_Key="k")
    assert first[0] == again[0] == 402
    assert again[1]["idempotent-replayed"] == "true"
    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 1


FAULTS: list[tuple[dict[str, Any], int, int, int]] = [
    # order, status of the first try (0: cut), of the retry, customers in the end
    ({"kind": "rate_limit"}, 429, 200, 1),
    ({"kind": "error_before"}, 500, 200, 1),
    ({"kind": "error_before", "remembered": True}, 500, 500, 0),
    ({"kind": "error_after"}, 500, 500, 1),
    ({"kind": "error_after", "remembered": False}, 500, 200, 1),
    ({"kind": "drop_before"}, 0, 200, 1),
    ({"kind": "drop_after"}, 0, 200, 1),
]


@pytest.mark.parametrize(("fault", "first", "retry", "made"), FAULTS, ids=[str(row[0]) for row in FAULTS])
def test_a_retry_after_each_fault(
    sim: Running, api: stripe.StripeClient, key: str, fault: dict[str, Any], first: int, retry: int, made: int
) -> None:
    control(sim.url, "/_sim/faults", path="/v1/customers", method="POST", key=key, **fault)

    def attempt() -> int:
        try:
            api.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k"})
        except stripe.APIConnectionError:
            return 0
        except stripe.StripeError as error:
            return int(error.http_status or 0)
        return 200

    assert (attempt(), attempt(), _count(api)) == (first, retry, made)
    rows = control(sim.url, f"/_sim/requests?key={key}&method=POST&path=/v1/customers", "GET")["requests"]
    assert [row["status"] for row in rows] == [first, retry]
    assert {row["key"] for row in rows} == {"k"}


def test_faults_wait_for_their_turn_and_their_route(sim: Running, key: str) -> None:
    control(sim.url, "/_sim/faults", kind="rate_limit", path="/v1/invoices/*", skip=1, count=2, key=key)
    statuses = [raw(sim.url, key, "GET", path)[0] for path in ("/v1/customers", *["/v1/invoices/in_1"] * 4)]
    assert statuses == [200, 404, 429, 429, 404]


@pytest.mark.parametrize("wanted", [{"kind": "no_such"}, {"kind": "slow", "what": 1}, {}])
def test_a_fault_that_nobody_knows_is_refused(sim: Running, wanted: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="error"):
        control(sim.url, "/_sim/faults", **wanted)


def test_get_takes_no_notice_of_a_key(sim: Running, api: stripe.StripeClient, key: str) -> None:
    assert raw(sim.url, key, "GET", "/v1/customers", Idempotency_Key="g")[2]["data"] == []
    api.v1.customers.create({"name": "Ada"})
    assert len(raw(sim.url, key, "GET", "/v1/customers", Idempotency_Key="g")[2]["data"]) == 1
