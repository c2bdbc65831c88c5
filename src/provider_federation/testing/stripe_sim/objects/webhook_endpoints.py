"""Webhook endpoints: loopback only. https://docs.stripe.com/api/webhook_endpoints"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import page
from provider_federation.testing.stripe_sim.objects.common import merged_metadata, set_given
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import deleted, fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_MOST_ENDPOINTS = 16


def checked_url(url: str) -> str:
    """The simulator speaks to this machine only; any other address is a 400."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or parts.scheme not in {"http", "https"} or parts.username:
        raise invalid("Invalid URL: the simulator delivers to loopback addresses only.", "url", "url_invalid")
    return url


@route("POST", "/v1/webhook_endpoints", params.WebhookEndpointCreateParams)
def create_endpoint(call: Call) -> Object:
    wanted = call.params
    if sum(1 for _ in call.tx.newest("webhook_endpoint")) >= _MOST_ENDPOINTS:
        raise invalid(f"You have reached the maximum of {_MOST_ENDPOINTS} test webhook endpoints.")
    if wanted.get("connect"):
        raise invalid("The simulator has no connected accounts.", "connect", "not_simulated")
    if not wanted["enabled_events"]:
        raise invalid("Give at least one event, or '*'.", "enabled_events")
    endpoint = new_endpoint(call, wanted["url"], new_id("whsec", 32), wanted["enabled_events"])
    endpoint |= {
        "metadata": merged_metadata(None, wanted.get("metadata")),
        "api_version": wanted.get("api_version"),
    }
    set_given(call, endpoint, ("description",))
    return {**render(call, endpoint), "secret": endpoint["_secret"]}


def new_endpoint(call: Call, url: str, secret: str, enabled_events: list[str]) -> Object:
    """A stored endpoint. Stripe shows the secret once, in the answer to its creation."""
    return call.tx.add(
        "webhook_endpoint",
        fill(
            stripe.WebhookEndpoint,
            id=new_id("we"),
            object="webhook_endpoint",
            created=call.now,
            enabled_events=enabled_events,
            livemode=False,
            metadata={},
            status="enabled",
            url=checked_url(url),
            _secret=secret,
        ),
    )


@route("GET", "/v1/webhook_endpoints", params.WebhookEndpointListParams)
def list_endpoints(call: Call) -> Object:
    return page(call, call.tx.newest("webhook_endpoint"), "/v1/webhook_endpoints", "webhook_endpoint")


@route("GET", "/v1/webhook_endpoints/{}", params.WebhookEndpointRetrieveParams)
def retrieve_endpoint(call: Call) -> Object:
    return call.need("webhook_endpoint", call.path[0])


@route("POST", "/v1/webhook_endpoints/{}", params.WebhookEndpointUpdateParams)
def update_endpoint(call: Call) -> Object:
    endpoint, wanted = call.need("webhook_endpoint", call.path[0]), call.params
    endpoint["metadata"] = merged_metadata(endpoint["metadata"], wanted.get("metadata"))
    set_given(call, endpoint, ("description", "enabled_events"))
    if "url" in wanted:
        endpoint["url"] = checked_url(wanted["url"])
    if "disabled" in wanted:
        endpoint["status"] = "disabled" if wanted["disabled"] else "enabled"
    return endpoint


@route("DELETE", "/v1/webhook_endpoints/{}", params.WebhookEndpointDeleteParams)
def delete_endpoint(call: Call) -> Object:
    endpoint = call.need("webhook_endpoint", call.path[0])
    call.tx.remove("webhook_endpoint", endpoint["id"])
    return deleted("webhook_endpoint", endpoint["id"])
