"""Items of subscriptions. https://docs.stripe.com/api/subscription_items"""

from __future__ import annotations

from typing import Any

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import missing
from provider_federation.testing.stripe_sim.listing import page
from provider_federation.testing.stripe_sim.objects.subscription_changes import apply_changes
from provider_federation.testing.stripe_sim.objects.subscription_life import items_of
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

_BESIDE = ("proration_behavior", "proration_date", "payment_behavior", "off_session")


@route("GET", "/v1/subscription_items", params.SubscriptionItemListParams)
def list_items(call: Call) -> Object:
    subscription = call.refer("subscription", call.params["subscription"], "subscription")
    return page(call, reversed(items_of(call, subscription)), "/v1/subscription_items", "subscription_item")


@route("GET", "/v1/subscription_items/{}", params.SubscriptionItemRetrieveParams)
def retrieve_item(call: Call) -> Object:
    return call.need("subscription_item", call.path[0])


@route("POST", "/v1/subscription_items", params.SubscriptionItemCreateParams)
def create_item(call: Call) -> Object:
    identity = call.params["subscription"]
    call.refer("subscription", identity, "subscription")
    before = set(call.tx.edit("subscription", identity)["_items"])
    _change(call, identity, {})
    added = next(one for one in call.tx.edit("subscription", identity)["_items"] if one not in before)
    return call.tx.edit("subscription_item", added)


@route("POST", "/v1/subscription_items/{}", params.SubscriptionItemUpdateParams)
def update_item(call: Call) -> Object:
    item = call.need("subscription_item", call.path[0])
    _change(call, item["subscription"], {"id": item["id"]})
    return call.tx.edit("subscription_item", item["id"])


@route("DELETE", "/v1/subscription_items/{}", params.SubscriptionItemDeleteParams)
def delete_item(call: Call) -> Object:
    item = call.need("subscription_item", call.path[0])
    if call.tx.find("subscription", item["subscription"]) is None:
        raise missing("subscription", item["subscription"])
    _change(call, item["subscription"], {"id": item["id"], "deleted": True})
    return deleted("subscription_item", item["id"])


def _change(call: Call, subscription: str, more: dict[str, Any]) -> None:
    """The same change as an update of the subscription with this one item."""
    beside = {name: call.params[name] for name in _BESIDE if name in call.params}
    given = {
        name: call.params[name] for name in call.params if name not in {*_BESIDE, "subscription", "expand"}
    }
    item = Params({**given, **more})
    apply_changes(call, call.tx.edit("subscription", subscription), Params({"items": [item], **beside}))
    unread = [name for name in item.unread() if name in given]
    call.params.read.difference_update(unread)
