"""Customers: https://docs.stripe.com/api/customers"""

from __future__ import annotations

import secrets
from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid, missing, unknown_reference
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.balance import change_balance
from provider_federation.testing.stripe_sim.objects.common import (
    checked_amount,
    merged_metadata,
    set_given,
    updated,
)
from provider_federation.testing.stripe_sim.objects.payment_methods import attach
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted, fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_SIMPLE = ("description", "email", "name", "phone", "business_name", "individual_name", "tax_exempt")
_PREFIX_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"


@route("POST", "/v1/customers", params.CustomerCreateParams)
def create_customer(call: Call) -> Object:
    wanted = call.params
    customer = call.tx.add(
        "customer",
        fill(
            stripe.Customer,
            id=new_id("cus", 14),
            object="customer",
            balance=0,
            created=call.now,
            delinquent=False,
            invoice_prefix="".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8)),
            next_invoice_sequence=1,
            livemode=False,
            metadata=merged_metadata(None, wanted.get("metadata")),
            preferred_locales=[],
            tax_exempt="none",
            invoice_settings=fill(stripe.Customer.InvoiceSettings),
        ),
    )
    customer_with(call, customer)
    if "payment_method" in wanted:
        attach(call, wanted["payment_method"], customer["id"], "payment_method")
    _set_invoice_settings(call, customer)
    call.emit("customer.created", customer)
    return customer


def customer_with(call: Call, customer: Object) -> Object:
    """The customer with what the parameters give; metadata and invoice settings are set elsewhere."""
    wanted = call.params
    set_given(call, customer, (*_SIMPLE, "preferred_locales", "next_invoice_sequence"))
    customer["tax_exempt"] = customer["tax_exempt"] or "none"
    if "address" in wanted:
        customer["address"] = _address(wanted.plain("address"))
    if "shipping" in wanted:
        customer["shipping"] = _shipping(wanted.plain("shipping"))
    if "invoice_prefix" in wanted:
        customer["invoice_prefix"] = _checked_prefix(wanted["invoice_prefix"])
    if "balance" in wanted:
        target = checked_amount(wanted["balance"], "balance")
        change_balance(
            call, customer, target - customer["balance"], "adjustment", customer["currency"] or "usd"
        )
    return customer


def _checked_prefix(prefix: str) -> str:
    if not (3 <= len(prefix) <= 12 and prefix.isascii() and prefix.isalnum() and prefix == prefix.upper()):
        raise invalid("The invoice prefix must be 3 to 12 uppercase letters or numbers.", "invoice_prefix")
    return prefix


def _address(given: Any) -> Object | None:
    return fill(stripe.Customer.Address, **given) if given else None


def _shipping(given: Any) -> Object | None:
    if not given:
        return None
    return fill(stripe.Customer.Shipping, **{**given, "address": _address(given["address"])})


def _set_invoice_settings(call: Call, customer: Object) -> None:
    settings = call.params.get("invoice_settings")
    if not settings:
        return
    for name in ("custom_fields", "footer", "rendering_options"):
        if name in settings:
            customer["invoice_settings"][name] = settings.plain(name) or None
    if "default_payment_method" in settings:
        param = "invoice_settings[default_payment_method]"
        customer["invoice_settings"]["default_payment_method"] = owned_method(
            call, settings["default_payment_method"], customer["id"], param
        )


def owned_method(call: Call, identity: str, customer: str, param: str) -> str:
    """The id of a payment method that is attached to this customer; a 400 otherwise."""
    method = call.tx.find("payment_method", identity)
    if method is None:
        raise unknown_reference("PaymentMethod", identity, param)
    if method["customer"] != customer:
        message = (
            f"The customer does not have a payment method with the ID {identity}. The payment method must "
            "be attached to the customer."
        )
        raise invalid(message, param, "resource_missing")
    return identity


@route("GET", "/v1/customers", params.CustomerListParams)
def list_customers(call: Call) -> Object:
    alive = (row for row in call.tx.newest("customer") if not row.get("deleted"))
    rows = in_range(call, matching(alive, email=call.params.get("email")), "created")
    return page(call, rows, "/v1/customers", "customer")


@route("GET", "/v1/customers/{}", params.CustomerRetrieveParams)
def retrieve_customer(call: Call) -> Object:
    return call.need("customer", call.path[0])


@route("POST", "/v1/customers/{}", params.CustomerUpdateParams)
def update_customer(call: Call) -> Object:
    customer = live_customer_at(call, call.path[0])

    def change() -> None:
        customer["metadata"] = merged_metadata(customer["metadata"], call.params.get("metadata"))
        customer_with(call, customer)
        _set_invoice_settings(call, customer)

    return updated(call, customer, "customer.updated", change)


@route("DELETE", "/v1/customers/{}", params.CustomerDeleteParams)
def delete_customer(call: Call) -> Object:
    from provider_federation.testing.stripe_sim.objects.subscription_life import end_subscription

    customer = live_customer_at(call, call.path[0])
    for subscription in list(matching(call.tx.newest("subscription"), customer=customer["id"])):
        if subscription["status"] not in {"canceled", "incomplete_expired"}:
            end_subscription(call, call.tx.edit("subscription", subscription["id"]), "cancellation_requested")
    for method in list(matching(call.tx.newest("payment_method"), customer=customer["id"])):
        call.tx.edit("payment_method", method["id"])["customer"] = None
    call.emit("customer.deleted", customer)
    return call.tx.add("customer", deleted("customer", customer["id"]))


def live_customer_at(call: Call, identity: str) -> Object:
    """The customer in the path, to change; deleted ones count as gone."""
    if (call.tx.find("customer", identity) or {"deleted": True}).get("deleted"):
        raise missing("customer", identity)
    return call.tx.edit("customer", identity)


def live_customer(call: Call, identity: str, param: str = "customer") -> Object:
    """The customer that a parameter names, to change; a 400 when unknown or deleted."""
    if (call.tx.find("customer", identity) or {"deleted": True}).get("deleted"):
        raise unknown_reference("customer", identity, param)
    return call.tx.edit("customer", identity)


def settle_currency(call: Call, customer: Object, currency: str) -> None:
    """A customer's currency is that of the first thing billed."""
    if customer["currency"] is None:
        call.tx.edit("customer", customer["id"])["currency"] = currency
