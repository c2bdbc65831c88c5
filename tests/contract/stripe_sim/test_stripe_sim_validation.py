"""Every request against the SDK's parameter types: what Stripe would refuse is refused, and nothing breaks the simulator."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import http, raw

from provider_federation.cli.stripe_sim import _hook
from provider_federation.kit.env import ConfigInvalid
from provider_federation.testing.stripe_sim import Running
from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.forms import decode_form
from provider_federation.testing.stripe_sim.routes import ROUTES
from provider_federation.testing.stripe_sim.validation import check_params

BAD = [
    ("/v1/customers", "nmae=Ada", "nmae"),
    ("/v1/customers", "metadata[a][b]=1", "metadata[a]"),
    ("/v1/customers", "address[streat]=x", "address[streat]"),
    ("/v1/customers", "email=", "email"),
    ("/v1/customers", "balance=1.5", "balance"),
    ("/v1/customers", "balance=1e3", "balance"),
    ("/v1/customers", "balance=%D9%A1", "balance"),
    ("/v1/customers", "tax_exempt=maybe", "tax_exempt"),
    ("/v1/customers", "expand[]=nothing", "expand"),
    ("/v1/customers", "expand=customer", "expand"),
    ("/v1/products", "description=x", "name"),
    ("/v1/prices", "currency=usd&product=prod_x&unit_amount=1", "product"),
    ("/v1/prices", "currency=zzz&product_data[name]=x&unit_amount=1", "currency"),
    ("/v1/prices", "currency=usd&product_data[name]=x&unit_amount=-1", "unit_amount"),
    ("/v1/prices", "currency=usd&product_data[name]=x", "unit_amount"),
    (
        "/v1/prices",
        "currency=usd&product_data[name]=x&unit_amount=1&recurring[interval]=fortnight",
        "recurring[interval]",
    ),
    ("/v1/invoices", "customer=cus_no", "customer"),
    ("/v1/invoices", "customer=cus_no&collection_method=by_mail", "collection_method"),
    ("/v1/invoices", "customer=cus_no&auto_advance=yes", "auto_advance"),
    (
        "/v1/invoices",
        "customer=cus_no&pending_invoice_items_behavior=perhaps",
        "pending_invoice_items_behavior",
    ),
    ("/v1/invoices", "auto_advance=true", "customer"),
    ("/v1/subscriptions", "customer=cus_no", "customer"),
    (
        "/v1/webhook_endpoints",
        "url=http://127.0.0.1:1/&enabled_events[]=invoice.exploded",
        "enabled_events[0]",
    ),
    ("/v1/webhook_endpoints", "url=https://example.com/&enabled_events[]=*", "url"),
    ("/v1/webhook_endpoints", "url=http://127.0.0.1.example.com/&enabled_events[]=*", "url"),
    ("/v1/payment_methods/pm_no/attach", "customer=cus_no", "id"),
    ("/v1/refunds", "amount=1", "charge"),
    ("/v1/credit_notes", "amount=1", "invoice"),
]


@pytest.mark.parametrize(("path", "form", "param"), BAD)
def test_bad_parameters_are_refused_by_name(sim: Running, key: str, path: str, form: str, param: str) -> None:
    status, headers, body = raw(sim.url, key, "POST", path, form)
    assert status in {400, 404}
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == param
    assert headers["request-id"].startswith("req_")


def test_too_much_metadata_is_refused(sim: Running, key: str) -> None:
    for form in (
        "&".join(f"metadata[k{n}]=v" for n in range(51)),
        f"metadata[{'k' * 41}]=v",
        f"metadata[k]={'v' * 501}",
    ):
        assert raw(sim.url, key, "POST", "/v1/customers", form)[0] == 400


def test_what_stripe_knows_and_the_simulator_does_not_is_refused_not_ignored(sim: Running, key: str) -> None:
    status, _, body = raw(
        sim.url,
        key,
        "POST",
        "/v1/products",
        "name=x&package_dimensions[height]=1&package_dimensions[length]=1&package_dimensions[weight]=1&package_dimensions[width]=1",
    )
    assert (status, body["error"]["code"], body["error"]["param"]) == (
        400,
        "not_simulated",
        "package_dimensions",
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer ",
        "Bearer sk_live_1",
        "Bearer pk_test_1",
        "Basic !!",
        "Digest x",
        "Bearer sk_test_" + "x" * 300,
        "Bearer sk_test_a/b",
    ],
)
def test_other_keys_are_a_401(sim: Running, header: str) -> None:
    status, _, body = http(
        "GET", sim.url + "/v1/customers", headers={"Authorization": header} if header else {}
    )
    assert status == 401
    assert b"invalid_request_error" in body


def test_basic_authentication_works_too(sim: Running, key: str) -> None:
    token = base64.b64encode(f"{key}:".encode()).decode()
    assert http("GET", sim.url + "/v1/customers", headers={"Authorization": f"Basic {token}"})[0] == 200


@given(
    form=st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=5),
    route=st.sampled_from(ROUTES),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_form_breaks_the_check(form: list[tuple[str, str]], route: Any) -> None:
    encoded = "&".join(
        f"{quote(name, safe='[]', errors='replace')}={quote(value, errors='replace')}" for name, value in form
    )
    with suppress(StripeError):
        check_params(route.params, decode_form(encoded))


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_with_known_names_is_a_500(sim: Running, key: str, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from([route for route in ROUTES if route.method == "POST"]))
    names = (
        [name for name in route.params.__annotations__ if name not in {"api_key", "headers"}]
        if route.params
        else []
    )
    values = st.sampled_from(
        ["", "1", "-1", "true", "usd", "x", "99999999999999999999", "now", "cus_1", "pm_card_visa"]
    )
    chosen = data.draw(st.dictionaries(st.sampled_from(names or ["x"]), values, max_size=6))
    path = route.pattern.replace("{}", "in_1")
    status, _, body = raw(
        sim.url, key, "POST", path, "&".join(f"{name}={quote(value)}" for name, value in chosen.items())
    )
    assert status < 500, body


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"a[=1",
        b"a=%ff",
        b"]=1",
        b"a[b]=1&a=2",
        b"a=1&a=2",
        b"a[[b]]=1",
        b"&".join(b"a[%d]=1" % n for n in range(20_001)),
        b"a" + b"[a]" * 50 + b"=1",
    ],
)
def test_unreadable_bodies_are_a_400(sim: Running, key: str, body: bytes) -> None:
    status, _, _ = http("POST", sim.url + "/v1/customers", body, {"Authorization": f"Bearer {key}"})
    assert status == 400


def test_a_wrong_method_says_so(sim: Running, key: str) -> None:
    status, _, body = raw(sim.url, key, "PUT", "/v1/customers")
    assert status == 404
    assert "THIS METHOD" in body["error"]["message"].upper()


def test_another_api_version_is_refused(sim: Running, key: str) -> None:
    assert raw(sim.url, key, "GET", "/v1/customers", Stripe_Version="2020-08-27")[0] == 400
    assert raw(sim.url, key, "GET", "/v1/customers", Stripe_Version=stripe.api_version)[0] == 200


@pytest.mark.parametrize(
    "text",
    ["", "sk_live_1=http://127.0.0.1/=s", "sk_test_1=ftp://x=s", "sk_test_1=http://127.0.0.1/", "sk_test_1"],
)
def test_a_bad_hook_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="KEY=URL=SECRET"):
        _hook(text)


def test_a_hook_may_have_a_query() -> None:
    hook = _hook("sk_test_1=http://127.0.0.1:8000/api/hook?a=b=whsec_1")
    assert (hook.key, hook.url, hook.secret) == ("sk_test_1", "http://127.0.0.1:8000/api/hook?a=b", "whsec_1")


def test_deleted_and_foreign_things_cannot_be_used(api: stripe.StripeClient) -> None:
    gone = flows.customer(api)
    api.v1.customers.delete(gone.id)
    for attempt in (
        lambda: api.v1.invoices.create({"customer": gone.id}),
        lambda: api.v1.customers.update(gone.id, {"name": "x"}),
        lambda: api.v1.invoice_items.create({"customer": gone.id, "amount": 1, "currency": "usd"}),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="No such customer") as refused:
            attempt()
        assert refused.value.code == "resource_missing"
