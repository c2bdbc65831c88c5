"""Prices: https://docs.stripe.com/api/prices. Per unit and licensed; tiers and meters are refused as not
simulated.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import (
    checked_amount,
    checked_currency,
    merged_metadata,
    plain_decimal,
    set_given,
    updated,
)
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

_LONGEST_INTERVAL = {"day": 1095, "week": 156, "month": 36, "year": 3}


@route("POST", "/v1/prices", params.PriceCreateParams)
def create_price(call: Call) -> Object:
    price = new_price(call, call.params, _product_of(call))
    call.emit("price.created", price)
    return price


def _product_of(call: Call) -> str:
    from provider_federation.testing.stripe_sim.objects.products import new_product

    wanted = call.params
    if ("product" in wanted) == ("product_data" in wanted):
        raise invalid("You must specify either `product` or `product_data` when creating a price.", "product")
    if "product" in wanted:
        return str(call.refer("product", wanted["product"], "product")["id"])
    data = wanted["product_data"]
    product = new_product(call, data["name"], data.get("id"), merged_metadata(None, data.get("metadata")))
    product["active"] = data.get("active", True)
    product |= {name: data.get(name) for name in ("statement_descriptor", "unit_label")}
    call.emit("product.created", product)
    return str(product["id"])


def new_price(call: Call, wanted: Params, product: str) -> Object:
    """A stored price from any parameter group that describes one (`prices.create`, `price_data`, …)."""
    unit_amount, exact = _unit_amounts(wanted)
    lookup_key = wanted.get("lookup_key")
    if lookup_key:
        _take_lookup_key(call, lookup_key, transfer=bool(wanted.get("transfer_lookup_key")))
    if wanted.get("billing_scheme", "per_unit") != "per_unit":
        raise invalid("The simulator only has prices per unit.", "billing_scheme", "not_simulated")
    recurring = _recurring(wanted)
    return call.tx.add(
        "price",
        fill(
            stripe.Price,
            id=new_id("price"),
            object="price",
            active=wanted.get("active", True),
            billing_scheme="per_unit",
            created=call.now,
            currency=checked_currency(wanted["currency"]),
            livemode=False,
            lookup_key=lookup_key,
            metadata=merged_metadata(None, wanted.get("metadata")),
            nickname=wanted.get("nickname"),
            product=product,
            recurring=recurring,
            tax_behavior=wanted.get("tax_behavior", "unspecified"),
            type="recurring" if recurring else "one_time",
            unit_amount=unit_amount,
            unit_amount_decimal=exact,
        ),
    )


def _unit_amounts(wanted: Params) -> tuple[int | None, str]:
    amount, exact = wanted.get("unit_amount"), wanted.get("unit_amount_decimal")
    if (amount is None) == (exact is None):
        message = "You must specify exactly one of `unit_amount` and `unit_amount_decimal`."
        raise invalid(message, wanted.name_of("unit_amount"), "parameter_missing")
    if amount is not None:
        checked_amount(amount, wanted.name_of("unit_amount"), lowest=0)
        return amount, str(amount)
    if exact < 0 or -exact.as_tuple().exponent > 12:
        raise invalid(
            "Invalid decimal: at least 0, at most 12 decimal places.", wanted.name_of("unit_amount_decimal")
        )
    return (int(exact) if exact == exact.to_integral_value() else None), plain_decimal(Decimal(exact))


def _recurring(wanted: Params) -> Object | None:
    given: Any = wanted.get("recurring")
    if given is None:
        return None
    count, interval = given.get("interval_count", 1), given["interval"]
    if not 1 <= count <= _LONGEST_INTERVAL[interval]:
        raise invalid("A price's interval can be at most three years.", given.name_of("interval_count"))
    if given.get("usage_type", "licensed") != "licensed":
        raise invalid("The simulator has no metered prices.", given.name_of("usage_type"), "not_simulated")
    return fill(
        stripe.Price.Recurring,
        interval=interval,
        interval_count=count,
        usage_type="licensed",
        trial_period_days=given.get("trial_period_days"),
    )


def _take_lookup_key(call: Call, lookup_key: str, *, transfer: bool) -> None:
    for other in list(matching(call.tx.newest("price"), lookup_key=lookup_key)):
        if not transfer:
            message = f"A price (`{other['id']}`) already uses that lookup key."
            raise invalid(message, "lookup_key", "resource_already_exists")
        call.tx.edit("price", other["id"])["lookup_key"] = None


@route("GET", "/v1/prices", params.PriceListParams)
def list_prices(call: Call) -> Object:
    wanted = call.params
    rows = in_range(
        call,
        matching(
            call.tx.newest("price"),
            active=wanted.get("active"),
            currency=wanted.get("currency"),
            product=wanted.get("product"),
            type=wanted.get("type"),
        ),
        "created",
    )
    keys, recurring = wanted.get("lookup_keys"), wanted.plain("recurring", {})
    chosen = (
        row
        for row in rows
        if (keys is None or row["lookup_key"] in keys)
        and all((row["recurring"] or {}).get(name) == value for name, value in recurring.items())
    )
    return page(call, chosen, "/v1/prices", "price")


@route("GET", "/v1/prices/{}", params.PriceRetrieveParams)
def retrieve_price(call: Call) -> Object:
    return call.need("price", call.path[0])


@route("POST", "/v1/prices/{}", params.PriceUpdateParams)
def update_price(call: Call) -> Object:
    price, wanted = call.need("price", call.path[0]), call.params

    def change() -> None:
        price["metadata"] = merged_metadata(price["metadata"], wanted.get("metadata"))
        transfer = bool(wanted.get("transfer_lookup_key"))
        if wanted.get("lookup_key") and wanted["lookup_key"] != price["lookup_key"]:
            _take_lookup_key(call, wanted["lookup_key"], transfer=transfer)
        set_given(call, price, ("active", "nickname", "lookup_key", "tax_behavior"))

    return updated(call, price, "price.updated", change)


def usable_price(
    call: Call, identity: str, param: str, *, currency: str | None = None, recurring: bool | None = None
) -> Object:
    """A price that can be sold now: it exists, is active, and is of the currency and type that the place
    needs.
    """
    price = call.refer("price", identity, param)
    if not price["active"]:
        raise invalid("The price specified is inactive. This field only accepts active prices.", param)
    if currency and price["currency"] != currency:
        message = (
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected "
            f"currency: `{currency}`."
        )
        raise invalid(message, param)
    if recurring is not None and (price["type"] == "recurring") != recurring:
        wanted, got = ("recurring", "one_time") if recurring else ("one_time", "recurring")
        message = (
            f"The price specified is set to `type={got}` but this field only accepts prices with "
            f"`type={wanted}`."
        )
        raise invalid(message, param)
    return price
