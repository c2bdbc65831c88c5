"""`POST /api/webhooks/provider-stripe`: verified on the raw bytes, stored, acknowledged; a job does the
rest.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.portal.revenue.services import receive_event

MOST_BYTES = 1_048_576
router = Router(tags=["webhooks"])


@router.post("/provider-stripe", auth=None, summary="The provider's Stripe events")
def provider_stripe(request: HttpRequest) -> dict[str, Any]:
    """Anonymous by nature: the signature over the body is what counts. A duplicate is acknowledged as
    well.
    """
    refuse_unknown_query(request, ())
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Problem(
            415, "content_encoding_not_allowed", "Send the body as it was signed, without compression."
        )
    raw = request.body
    if len(raw) > MOST_BYTES:
        raise Problem(413, "body_too_large", f"An event may have at most {MOST_BYTES} bytes.")
    event, new = receive_event(raw, request.headers.get("Stripe-Signature"))
    return {"ok": True, "received": event.event_id, "duplicate": not new}
