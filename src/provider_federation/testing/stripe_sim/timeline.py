"""What happens by itself when its time comes: drafts finalise, payments are retried, subscriptions renew,
trials end.
"""

from __future__ import annotations

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.objects.invoice_life import (
    advance,
    collect,
    finalize,
    payment_method_of,
)
from provider_federation.testing.stripe_sim.objects.subscription_life import subscription_due
from provider_federation.testing.stripe_sim.store import Object


def happen(call: Call, kind: str, identity: str) -> None:
    """One due thing, at `call.now`."""
    body = call.tx.edit(kind, identity)
    body["_due"] = None
    if kind == "invoice":
        _invoice_due(call, body)
    else:
        subscription_due(call, body)


def _invoice_due(call: Call, invoice: Object) -> None:
    if invoice["status"] == "draft":
        finalize(call, invoice)
        advance(call, invoice)
    elif invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        collect(call, invoice, payment_method_of(call, invoice))
