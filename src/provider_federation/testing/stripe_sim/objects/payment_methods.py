"""Payment methods: cards that pay, that decline, and that cannot be attached. https://docs.stripe.com/testing"""

from __future__ import annotations

from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import card_declined, invalid, missing
from provider_federation.testing.stripe_sim.listing import matching, page
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, set_given, updated
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object

# (brand, last four, decline code when it is attached, decline code when it is charged)
_CARDS: dict[str, tuple[str, str, str | None, str | None]] = {
    "visa": ("visa", "4242", None, None),
    "visa_debit": ("visa", "5556", None, None),
    "mastercard": ("mastercard", "4444", None, None),
    "amex": ("amex", "0005", None, None),
    "chargeDeclined": ("visa", "0002", "generic_decline", "generic_decline"),
    "visa_chargeDeclined": ("visa", "0002", "generic_decline", "generic_decline"),
    "chargeDeclinedInsufficientFunds": ("visa", "9995", "insufficient_funds", "insufficient_funds"),
    "chargeDeclinedLostCard": ("visa", "9987", "lost_card", "lost_card"),
    "chargeDeclinedStolenCard": ("visa", "9979", "stolen_card", "stolen_card"),
    "chargeDeclinedExpiredCard": ("visa", "0069", "expired_card", "expired_card"),
    "chargeCustomerFail": ("visa", "0341", None, "generic_decline"),
}
_NUMBERS = {
    "4242424242424242": "visa",
    "4000056655665556": "visa_debit",
    "5555555555554444": "mastercard",
    "378282246310005": "amex",
    "4000000000000002": "chargeDeclined",
    "4000000000009995": "chargeDeclinedInsufficientFunds",
    "4000000000009987": "chargeDeclinedLostCard",
    "4000000000009979": "chargeDeclinedStolenCard",
    "4000000000000069": "chargeDeclinedExpiredCard",
    "4000000000000341": "chargeCustomerFail",
}


def card_of_number(number: str) -> str | None:
    """The test card with this number (spaces allowed), by its name; None when it is not one."""
    return _NUMBERS.get(number.replace(" ", ""))


def new_card(call: Call, name: str, expiry: tuple[int, int] | None = None) -> Object:
    """A stored payment method for one of Stripe's test cards."""
    brand, last4, at_attach, at_charge = _CARDS[name]
    month, year = expiry or (12, 2099)
    card = {
        "brand": brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": f"sim{last4}",
        "funding": "credit",
        "generated_from": None,
        "last4": last4,
        "networks": {"available": [brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    details = fill(stripe.PaymentMethod.BillingDetails)
    return call.tx.add(
        "payment_method",
        fill(
            stripe.PaymentMethod,
            id=new_id("pm"),
            object="payment_method",
            type="card",
            card=card,
            billing_details=details,
            created=call.now,
            customer=None,
            livemode=False,
            metadata={},
            allow_redisplay="unspecified",
            _at_attach=at_attach,
            _at_charge=at_charge,
        ),
    )


def resolve(call: Call, identity: str, param: str) -> Object:
    """The payment method behind an id; one of Stripe's `pm_card_…` test ids makes a fresh one."""
    name = identity.removeprefix("pm_card_")
    if identity.startswith("pm_card_") and name in _CARDS:
        return new_card(call, name)
    call.refer("payment_method", identity, param, "PaymentMethod")
    return call.tx.edit("payment_method", identity)


def attach(call: Call, identity: str, customer: str, param: str = "payment_method") -> Object:
    """Attach to a customer. 402 for a card that its bank declines at once, 400 for one that is someone
    else's.
    """
    method = resolve(call, identity, param)
    if method["customer"] not in {None, customer}:
        raise invalid("The payment method you provided has already been attached to a customer.", param)
    if method["_at_attach"]:
        raise card_declined("Your card was declined.", method["_at_attach"])
    method["customer"] = customer
    call.emit("payment_method.attached", method)
    return method


@route("POST", "/v1/payment_methods", params.PaymentMethodCreateParams)
def create_payment_method(call: Call) -> Object:
    wanted = call.params
    if wanted.get("type") != "card" or "card" not in wanted:
        raise invalid("The simulator has cards only: give type=card and card.", "type", "not_simulated")
    method = new_card(call, *_card_of(wanted.plain("card")))
    method["metadata"] = merged_metadata(None, wanted.get("metadata"))
    method["billing_details"] |= wanted.plain("billing_details", {})
    return method


def _card_of(card: dict[str, Any]) -> tuple[str, tuple[int, int] | None]:
    if "token" in card:
        name = str(card["token"]).removeprefix("tok_")
        if name not in _CARDS:
            raise invalid(f"No such token: '{card['token']}'", "card[token]", "resource_missing")
        return name, None
    for required in ("number", "exp_month", "exp_year"):
        if required not in card:
            raise invalid(
                f"Missing required param: card[{required}].", f"card[{required}]", "parameter_missing"
            )
    name = card_of_number(card["number"]) or ""
    if name not in _CARDS:
        raise invalid("Your card number is not one of the test cards.", "card[number]", "incorrect_number")
    return name, (card["exp_month"], card["exp_year"])


@route("GET", "/v1/payment_methods", params.PaymentMethodListParams)
def list_payment_methods(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("payment_method"), customer=wanted.get("customer"), type=wanted.get("type")
    )
    return page(call, (row for row in rows if row["customer"]), "/v1/payment_methods", "PaymentMethod")


@route("GET", "/v1/payment_methods/{}", params.PaymentMethodRetrieveParams)
def retrieve_payment_method(call: Call) -> Object:
    return call.need("payment_method", call.path[0], "PaymentMethod")


@route("POST", "/v1/payment_methods/{}", params.PaymentMethodUpdateParams)
def update_payment_method(call: Call) -> Object:
    method, wanted = call.need("payment_method", call.path[0], "PaymentMethod"), call.params

    def change() -> None:
        method["metadata"] = merged_metadata(method["metadata"], wanted.get("metadata"))
        set_given(call, method, ("allow_redisplay",))
        method["billing_details"] |= wanted.plain("billing_details", {})
        if "card" in wanted:
            method["card"] |= {
                name: value
                for name, value in wanted.plain("card").items()
                if name in {"exp_month", "exp_year"}
            }

    return updated(call, method, "payment_method.updated", change)


@route("POST", "/v1/payment_methods/{}/attach", params.PaymentMethodAttachParams)
def attach_payment_method(call: Call) -> Object:
    from provider_federation.testing.stripe_sim.objects.customers import live_customer

    if not call.path[0].startswith("pm_card_"):
        call.need("payment_method", call.path[0], "PaymentMethod")
    if "customer" not in call.params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    return attach(call, call.path[0], live_customer(call, call.params["customer"])["id"])


@route("POST", "/v1/payment_methods/{}/detach", params.PaymentMethodDetachParams)
def detach_payment_method(call: Call) -> Object:
    method = call.need("payment_method", call.path[0], "PaymentMethod")
    if method["customer"] is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
            "payment_method",
        )
    customer = call.tx.edit("customer", method["customer"])
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
    method["customer"] = None
    call.emit("payment_method.detached", method)
    return method


@route("GET", "/v1/customers/{}/payment_methods", params.CustomerPaymentMethodListParams)
def list_customers_payment_methods(call: Call) -> Object:
    rows = matching(
        call.tx.newest("payment_method"), customer=_customer_id(call), type=call.params.get("type")
    )
    return page(call, rows, f"/v1/customers/{call.path[0]}/payment_methods", "PaymentMethod")


@route("GET", "/v1/customers/{}/payment_methods/{}", params.CustomerPaymentMethodRetrieveParams)
def retrieve_customers_payment_method(call: Call) -> Object:
    method = call.need("payment_method", call.path[1], "PaymentMethod")
    if method["customer"] != _customer_id(call):
        raise missing("PaymentMethod", call.path[1])
    return method


def _customer_id(call: Call) -> str:
    customer = call.tx.find("customer", call.path[0])
    if customer is None or customer.get("deleted"):
        raise missing("customer", call.path[0])
    return str(customer["id"])
