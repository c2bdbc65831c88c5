"""Products: https://docs.stripe.com/api/products"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, set_given, updated
from provider_federation.testing.stripe_sim.objects.prices import new_price
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted, fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_TEXTS = ("description", "statement_descriptor", "unit_label", "url", "shippable")


@route("POST", "/v1/products", params.ProductCreateParams)
def create_product(call: Call) -> Object:
    wanted = call.params
    identity = wanted.get("id") or new_id("prod", 14)
    if call.tx.find("product", identity):
        raise invalid(f"Product already exists with id {identity}", "id", "resource_already_exists")
    product = new_product(call, wanted["name"], identity, merged_metadata(None, wanted.get("metadata")))
    product |= {
        "active": wanted.get("active", True),
        "type": wanted.get("type", "service"),
        "images": wanted.get("images", []),
    }
    product["marketing_features"] = wanted.plain("marketing_features", [])
    set_given(call, product, _TEXTS)
    if "default_price_data" in wanted:
        product["default_price"] = new_price(call, wanted["default_price_data"], identity)["id"]
    call.emit("product.created", product)
    return product


def new_product(call: Call, name: str, identity: str | None = None, metadata: Object | None = None) -> Object:
    """A stored product, also for prices that bring their product along (`product_data`)."""
    return call.tx.add(
        "product",
        fill(
            stripe.Product,
            id=identity or new_id("prod", 14),
            object="product",
            active=True,
            created=call.now,
            updated=call.now,
            images=[],
            livemode=False,
            marketing_features=[],
            metadata=metadata or {},
            name=name,
            type="service",
        ),
    )


@route("GET", "/v1/products", params.ProductListParams)
def list_products(call: Call) -> Object:
    wanted = call.params
    rows = in_range(
        call,
        matching(
            call.tx.newest("product"),
            active=wanted.get("active"),
            type=wanted.get("type"),
            url=wanted.get("url"),
            shippable=wanted.get("shippable"),
        ),
        "created",
    )
    ids = wanted.get("ids")
    return page(call, (row for row in rows if ids is None or row["id"] in ids), "/v1/products", "product")


@route("GET", "/v1/products/{}", params.ProductRetrieveParams)
def retrieve_product(call: Call) -> Object:
    return call.need("product", call.path[0])


@route("POST", "/v1/products/{}", params.ProductUpdateParams)
def update_product(call: Call) -> Object:
    product, wanted = call.need("product", call.path[0]), call.params

    def change() -> None:
        product["metadata"] = merged_metadata(product["metadata"], wanted.get("metadata"))
        set_given(call, product, (*_TEXTS, "name", "active"))
        for name in ("images", "marketing_features"):
            if name in wanted:
                product[name] = wanted.plain(name) or []
        if "default_price" in wanted:
            price = call.refer("price", wanted["default_price"], "default_price")
            if price["product"] != product["id"]:
                raise invalid("The default price must belong to this product.", "default_price")
            product["default_price"] = price["id"]
        product["updated"] = call.now

    return updated(call, product, "product.updated", change)


@route("DELETE", "/v1/products/{}", params.ProductDeleteParams)
def delete_product(call: Call) -> Object:
    product = call.need("product", call.path[0])
    if any(price["product"] == product["id"] for price in call.tx.newest("price")):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    call.tx.remove("product", product["id"])
    call.emit("product.deleted", product)
    return deleted("product", product["id"])
