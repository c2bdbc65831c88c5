"""`create_preview`: the change is made in a transaction that never commits, and its invoice is shown.
https://docs.stripe.com/api/invoices/create_preview
"""

from __future__ import annotations

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.objects.common import checked_currency
from provider_federation.testing.stripe_sim.objects.customers import live_customer
from provider_federation.testing.stripe_sim.objects.invoice_lines import (
    attach_item,
    new_item,
    take_pending_items,
)
from provider_federation.testing.stripe_sim.objects.invoice_totals import recompute
from provider_federation.testing.stripe_sim.objects.invoices import new_invoice
from provider_federation.testing.stripe_sim.objects.subscription_changes import (
    apply_changes,
    credit_unused_time,
    invoice_prorations,
)
from provider_federation.testing.stripe_sim.objects.subscription_life import renew
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params


@route("POST", "/v1/invoices/create_preview", params.InvoiceCreatePreviewParams)
def create_preview(call: Call) -> Object:
    if call.params.get("preview_mode", "next") != "next":
        raise invalid("The simulator previews the next invoice only.", "preview_mode", "not_simulated")
    call.quiet = True
    invoice = _for_subscription(call) if "subscription" in call.params else _for_items(call)
    if invoice["status"] == "draft":
        _add_items(call, invoice)
        recompute(call, invoice)
    shown = render(call, invoice)
    identity = new_id("upcoming_in")
    shown |= {"id": identity, "hosted_invoice_url": None, "invoice_pdf": None}
    shown["lines"]["url"] = f"/v1/invoices/{identity}/lines"
    call.tx.changes.clear()
    return shown


def _for_subscription(call: Call) -> Object:
    wanted = call.params
    subscription = call.refer("subscription", wanted["subscription"], "subscription")
    if wanted.get("customer") not in {None, subscription["customer"]}:
        raise invalid("The subscription belongs to another customer.", "subscription")
    subscription = call.tx.edit("subscription", subscription["id"])
    details = wanted.get("subscription_details") or Params({}, "subscription_details")
    if details.get("cancel_now"):
        moment = details.get("proration_date", call.now)
        if details.get("proration_behavior", "create_prorations") != "none":
            credit_unused_time(call, subscription, moment)
        return invoice_prorations(call, subscription, moment)
    made = apply_changes(call, subscription, details)
    if made is not None:
        return made
    if subscription["status"] == "canceled" or subscription["cancel_at_period_end"]:
        raise invalid(
            f"No upcoming invoices for customer: {subscription['customer']}",
            "subscription",
            "invoice_upcoming_none",
        )
    return renew(call, subscription)


def _for_items(call: Call) -> Object:
    wanted = call.params
    if "customer" not in wanted:
        raise invalid("You must give a customer or a subscription.", "customer", "parameter_missing")
    if "subscription_details" in wanted:
        raise invalid(
            "The simulator previews existing subscriptions only.", "subscription_details", "not_simulated"
        )
    customer = live_customer(call, wanted["customer"])
    currency = checked_currency(wanted["currency"]) if "currency" in wanted else customer["currency"] or "usd"
    invoice = new_invoice(
        call,
        customer,
        currency,
        collection_method="charge_automatically",
        auto_advance=False,
        billing_reason="upcoming",
    )
    pending = take_pending_items(call, invoice, None)
    if not pending and not wanted.get("invoice_items"):
        raise invalid(
            f"No upcoming invoices for customer: {customer['id']}", "customer", "invoice_upcoming_none"
        )
    return invoice


def _add_items(call: Call, invoice: Object) -> None:
    for given in call.params.get("invoice_items") or []:
        if given.get("currency", invoice["currency"]) != invoice["currency"]:
            raise invalid("The currency of the item must match the invoice's.", given.name_of("currency"))
        if "price" in given:
            given["pricing"] = Params({"price": given["price"]}, given.name_of("pricing"))
        attach_item(call, invoice, new_item(call, invoice["customer"], invoice["currency"], given))
