"""`create_preview`: the change is made in a transaction that never commits, and its invoice is shown.
https://docs.stripe.com/api/invoices/create_preview
"""

from __future__ import annotations

from dataclasses import replace

from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.objects.common import checked_currency
from provider_federation.testing.stripe_sim.objects.customers import (
    create_customer,
    customer_with,
    live_customer,
)
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
from provider_federation.testing.stripe_sim.objects.subscriptions import begin_subscription
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
    invoice = _previewed(call)
    if invoice["status"] == "draft":
        _add_items(call, invoice)
        recompute(call, invoice)
    shown = render(call, invoice)
    identity = new_id("upcoming_in")
    shown |= {"id": identity, "hosted_invoice_url": None, "invoice_pdf": None}
    if "customer" not in call.params and "subscription" not in call.params:
        shown["customer"] = None  # it was made up for this preview
    shown["lines"]["url"] = f"/v1/invoices/{identity}/lines"
    call.tx.changes.clear()
    return shown


def _previewed(call: Call) -> Object:
    if "subscription" in call.params:
        return _for_subscription(call)
    details = call.params.get("subscription_details") or {}
    return _for_new_subscription(call) if "items" in details else _for_items(call)


def _for_new_subscription(call: Call) -> Object:
    """What creating a subscription with these items would bill at once."""
    wanted, details = call.params, call.params["subscription_details"]
    for name in ("cancel_now", "proration_date", "resume_at"):
        if name in details:
            raise invalid("This is of an existing subscription; give `subscription`.", details.name_of(name))
    if "billing_cycle_anchor" in details:
        message = "The simulator previews new subscriptions from now on."
        raise invalid(message, details.name_of("billing_cycle_anchor"), "not_simulated")
    subscription, invoice = begin_subscription(replace(call, params=details), _customer(call))
    currency = subscription["currency"]
    if "currency" in wanted and checked_currency(wanted["currency"]) != currency:
        raise invalid(f"The currency must be that of the prices ({currency}).", "currency")
    assert invoice is not None, "only an anchor of its own leaves it out"
    return invoice


def _customer(call: Call) -> Object:
    """The customer named, or one that exists for this preview only; `customer_details` counts for both."""
    wanted = call.params
    if "customer" not in wanted and "customer_details" not in wanted:
        raise invalid("You must give a customer or a subscription.", "customer", "parameter_missing")
    details = wanted.get("customer_details") or Params({}, "customer_details")
    if "customer" not in wanted:
        return create_customer(replace(call, params=details))
    return customer_with(replace(call, params=details), live_customer(call, wanted["customer"]))


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
            "Give `subscription`, or the items of a new one.",
            "subscription_details[items]",
            "parameter_missing",
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
