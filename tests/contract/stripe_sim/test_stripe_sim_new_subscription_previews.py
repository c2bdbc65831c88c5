"""`invoices.create_preview` of a subscription that does not exist yet, and tax rates on subscriptions."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import control

from provider_federation.testing.stripe_sim import Running

DAY = 86_400


@pytest.fixture
def pro(api: stripe.StripeClient) -> stripe.Price:
    return flows.price(api, 9700)


@pytest.fixture
def vat(api: stripe.StripeClient) -> str:
    return api.v1.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False}).id


def _preview(api: stripe.StripeClient, price: str, **more: Any) -> stripe.Invoice:
    details = {"items": [{"price": price}], **more.pop("details", {})}
    wanted: Any = {"customer_details": {"tax_exempt": "none"}, "subscription_details": details, **more}
    return api.v1.invoices.create_preview(wanted)


def _tax(invoice: stripe.Invoice) -> int:
    return sum(tax.amount for tax in invoice.total_taxes or [])


def test_a_preview_of_a_new_subscription_is_its_first_invoice(
    api: stripe.StripeClient, pro: stripe.Price, vat: str
) -> None:
    customer = flows.customer(api, card="pm_card_visa")
    api.v1.customers.balance_transactions.create(customer.id, {"amount": -1000, "currency": "usd"})
    events = len(api.v1.events.list({"limit": 100}).data)
    wanted: Any = {"items": [{"price": pro.id}], "default_tax_rates": [vat]}
    seen = api.v1.invoices.create_preview({"customer": customer.id, "subscription_details": wanted})
    assert len(api.v1.events.list({"limit": 100}).data) == events
    assert api.v1.subscriptions.list({"customer": customer.id, "status": "all"}).data == []
    assert (seen.total, _tax(seen), seen.amount_due) == (9700 + 1843, 1843, 9700 + 1843 - 1000)
    assert (seen.billing_reason, seen.customer, seen.hosted_invoice_url) == (
        "subscription_create",
        customer.id,
        None,
    )
    made = api.v1.subscriptions.create({"customer": customer.id, **wanted, "expand": ["latest_invoice"]})
    billed = made.latest_invoice
    assert isinstance(billed, stripe.Invoice)
    assert (billed.total, _tax(billed), billed.amount_due) == (seen.total, _tax(seen), seen.amount_due)
    assert [line.amount for line in billed.lines.data] == [line.amount for line in seen.lines.data]
    assert [rate.id for rate in made.default_tax_rates or []] == [vat]


def test_a_preview_for_somebody_unknown_makes_nobody(api: stripe.StripeClient, pro: stripe.Price) -> None:
    seen = _preview(api, pro.id, currency="usd")
    assert (seen.total, _tax(seen), seen.customer) == (9700, 0, None)
    assert api.v1.customers.list().data == []
    trial = _preview(api, pro.id, details={"trial_end": seen.created + 14 * DAY})
    assert (trial.total, trial.lines.data[0].description) == (0, "Trial period for PRO")


@pytest.mark.parametrize(
    ("wanted", "param", "code"),
    [
        ({"customer_details": {}, "customer": "cus_nobody"}, "customer", "resource_missing"),
        ({"details": {"cancel_now": True}}, "subscription_details[cancel_now]", None),
        ({"details": {"proration_date": 1}}, "subscription_details[proration_date]", None),
        (
            {"details": {"billing_cycle_anchor": {"type": "now"}}},
            "subscription_details[billing_cycle_anchor]",
            "not_simulated",
        ),
        (
            {"details": {"default_tax_rates": ["txr_no"]}},
            "subscription_details[default_tax_rates]",
            "resource_missing",
        ),
        (
            {"details": {"items": [{"price": "price_no"}] * 21}},
            "subscription_details[items]",
            "parameter_missing",
        ),
        ({"currency": "eur"}, "currency", None),
        ({"details": {"tax_rates": ["txr_no"]}}, "subscription_details[tax_rates]", "parameter_unknown"),
        ({"details": {"items": [{"price": "price_no"}]}}, None, "resource_missing"),
        ({"details": {"items": [{"id": "si_1"}]}}, None, "parameter_missing"),
        ({"customer_details": {"tax": {"ip_address": "127.0.0.1"}}}, None, "not_simulated"),
        ({"customer_details": {"vat": "DE1"}}, "customer_details[vat]", "parameter_unknown"),
    ],
)
def test_a_preview_refuses_what_it_cannot_preview(
    api: stripe.StripeClient, pro: stripe.Price, wanted: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        _preview(api, pro.id, **wanted)
    assert refused.value.code == code
    assert param is None or refused.value.param == param


def test_a_preview_wants_a_customer_or_its_details(api: stripe.StripeClient, pro: stripe.Price) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.create_preview({"subscription_details": {"items": [{"price": pro.id}]}})
    assert (refused.value.param, refused.value.code) == ("customer", "parameter_missing")


def test_tax_rates_stay_through_renewals_changes_and_schedules(
    sim: Running, api: stripe.StripeClient, pro: stripe.Price, vat: str
) -> None:
    elite, customer = flows.price(api, 29_700), flows.customer(api, card="pm_card_visa")
    wanted: Any = {"customer": customer.id, "items": [{"price": pro.id}], "default_tax_rates": [vat]}
    made = api.v1.subscriptions.create(wanted)
    control(sim.url, "/_sim/clock/advance", seconds=31 * DAY + 7200)
    plan = api.v1.subscription_schedules.create({"from_subscription": made.id})
    now = plan.phases[0]
    assert [rate.id for rate in now.default_tax_rates or []] == [vat]
    phases: Any = [
        {"items": [{"price": pro.id}], "start_date": now.start_date, "end_date": now.end_date},
        {"items": [{"price": elite.id}], "proration_behavior": "none", "duration": {"interval": "month"}},
    ]
    with pytest.raises(stripe.InvalidRequestError, match="tax rates"):
        api.v1.subscription_schedules.update(plan.id, {"phases": phases})
    taxed: Any = [{**phase, "default_tax_rates": [vat]} for phase in phases]
    api.v1.subscription_schedules.update(plan.id, {"phases": taxed})
    control(sim.url, "/_sim/clock/advance", seconds=31 * DAY + 7200)
    rows = api.v1.invoices.list({"subscription": made.id}).data
    assert [(row.total, _tax(row)) for row in rows] == [(35_343, 5_643), (11_543, 1_843), (11_543, 1_843)]
