"""Events: what happened, newest first. https://docs.stripe.com/api/events"""

from __future__ import annotations

from fnmatch import fnmatchcase

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, page
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.store import Object

_MOST_TYPES = 20


@route("GET", "/v1/events", params.EventListParams)
def list_events(call: Call) -> Object:
    wanted = call.params
    types = wanted.get("types") or ([wanted["type"]] if "type" in wanted else ["*"])
    if "types" in wanted and "type" in wanted:
        raise invalid("You may pass either `type` or `types`, but not both.", "types")
    if len(types) > _MOST_TYPES:
        raise invalid(f"You can pass up to {_MOST_TYPES} types.", "types")
    rows = (row for row in call.tx.newest("event") if any(fnmatchcase(row["type"], kind) for kind in types))
    if "delivery_success" in wanted:
        success = wanted["delivery_success"]
        rows = (row for row in rows if (row["pending_webhooks"] == 0) == success)
    return page(call, in_range(call, rows, "created"), "/v1/events", "event")


@route("GET", "/v1/events/{}", params.EventRetrieveParams)
def retrieve_event(call: Call) -> Object:
    return call.need("event", call.path[0])
