"""Subscriptions: create, read, list, cancel, resume. https://docs.stripe.com/api/subscriptions

Changes are in `subscription_changes`, what time does in `subscription_life`.
"""

from __future__ import annotations

from collections.abc import Iterable

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError, invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import DAY, merged_metadata, set_given, updated
from provider_federation.testing.stripe_sim.objects.customers import (
    live_customer,
    owned_method,
    settle_currency,
)
from provider_federation.testing.stripe_sim.objects.invoice_life import collect, finalize, payment_method_of
from provider_federation.testing.stripe_sim.objects.invoice_totals import lines_of, recompute
from provider_federation.testing.stripe_sim.objects.prices import new_price, usable_price
from provider_federation.testing.stripe_sim.objects.subscription_changes import (
    apply_changes,
    credit_unused_time,
    invoice_prorations,
)
from provider_federation.testing.stripe_sim.objects.subscription_life import (
    ENDED,
    add_item_lines,
    end_subscription,
    period_of,
    renew,
    schedule,
    set_period,
    subscription_invoice,
)
from provider_federation.testing.stripe_sim.objects.subscription_periods import (
    after_intervals,
    next_boundary,
    share,
)
from provider_federation.testing.stripe_sim.objects.tax_rates import chosen_rates
from provider_federation.testing.stripe_sim.render import render
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object
from provider_federation.testing.stripe_sim.validation import Params

_MOST_ITEMS = 20
_LONGEST_TRIAL = 730 * DAY


@route("POST", "/v1/subscriptions", params.SubscriptionCreateParams)
def create_subscription(call: Call) -> Object:
    wanted = call.params
    if "customer" not in wanted:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    subscription, invoice = begin_subscription(call, live_customer(call, wanted["customer"]))
    behaviour = wanted.get("payment_behavior", "allow_incomplete")
    refusal = None
    if invoice and subscription["collection_method"] == "charge_automatically":
        refusal = _charge_first(call, subscription, invoice, behaviour)
    call.emit("customer.subscription.created", subscription)
    schedule(call, subscription)
    if refusal:
        raise refusal
    return subscription


def begin_subscription(call: Call, customer: Object) -> tuple[Object, Object | None]:
    """A subscription of this customer as the parameters describe it, and the draft of its first invoice; no
    draft when nothing is charged before the anchor. Nothing is collected yet.
    """
    subscription = _new(call, customer)
    _add_items(call, subscription)
    settle_currency(call, customer, subscription["currency"])
    _set_optional(call, subscription, customer)
    trial_end = _trial_end(call)
    first_end = _first_period(call, subscription, trial_end)
    if call.params.get("cancel_at_period_end"):
        subscription |= {"cancel_at_period_end": True, "cancel_at": first_end, "canceled_at": call.now}
    partial = _is_partial(call, subscription)
    return subscription, _first_invoice(call, subscription, trial=trial_end is not None, partial=partial)


def _new(call: Call, customer: Object) -> Object:
    wanted = call.params
    method = wanted.get("collection_method", "charge_automatically")
    days = wanted.get("days_until_due")
    if (method == "send_invoice") != (days is not None):
        raise invalid(
            "`days_until_due` goes with `collection_method=send_invoice`, and only with it.", "days_until_due"
        )
    return call.tx.add(
        "subscription",
        fill(
            stripe.Subscription,
            id=new_id("sub"),
            object="subscription",
            automatic_tax=fill(stripe.Subscription.AutomaticTax, enabled=False),
            billing_cycle_anchor=call.now,
            billing_mode=_billing_mode(wanted),
            billing_schedules=[],
            cancel_at_period_end=False,
            cancellation_details={"comment": None, "feedback": None, "feedback_option": None, "reason": None},
            collection_method=method,
            created=call.now,
            currency=customer["currency"] or "usd",
            customer=customer["id"],
            days_until_due=days,
            discounts=[],
            default_tax_rates=[],
            invoice_settings={
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": {"account": None, "type": "self"},
            },
            items=None,
            livemode=False,
            metadata=merged_metadata(None, wanted.get("metadata")),
            payment_settings={
                "payment_method_options": None,
                "payment_method_types": None,
                "save_default_payment_method": "off",
            },
            start_date=call.now,
            status="active",
            trial_settings={
                "end_behavior": {"billing_cycle_anchor": None, "missing_payment_method": "create_invoice"}
            },
            _items=[],
            _warned=False,
            _due=None,
            _pending=None,
        ),
    )


def _billing_mode(wanted: Params) -> Object:
    kind = wanted.plain("billing_mode", {"type": "flexible"})["type"]
    flexible = {"proration_discounts": "included"} if kind == "flexible" else None
    return {"type": kind, "flexible": flexible, "updated_at": None}


def _add_items(call: Call, subscription: Object) -> None:
    wanted: list[Params] = call.params.get("items") or []
    if not 1 <= len(wanted) <= _MOST_ITEMS:
        raise invalid(
            f"You must give from 1 to {_MOST_ITEMS} items.", call.params.name_of("items"), "parameter_missing"
        )
    for given in wanted:
        add_item(call, subscription, given)
    rhythms = {
        (item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"])
        for item in _stored(call, subscription)
    }
    if len(rhythms) > 1:
        raise invalid("The simulator wants one billing interval for all items.", "items", "not_simulated")


def _stored(call: Call, subscription: Object) -> list[Object]:
    return [call.tx.edit("subscription_item", identity) for identity in subscription["_items"]]


def add_item(call: Call, subscription: Object, given: Params) -> Object:
    """A stored item from the parameters `price` or `price_data`, `quantity`, `metadata`."""
    price = price_of(call, subscription, given)
    if any(item["price"]["id"] == price["id"] for item in _stored(call, subscription)):
        message = f"Cannot add multiple subscription items with the same plan: {price['id']}"
        raise invalid(message, given.name_of("price"))
    subscription["currency"] = price["currency"]
    quantity = given.get("quantity", 1)
    if quantity < 0:
        raise invalid("Invalid integer: must be greater than or equal to 0.", given.name_of("quantity"))
    item = call.tx.add(
        "subscription_item",
        fill(
            stripe.SubscriptionItem,
            id=new_id("si", 14),
            object="subscription_item",
            created=call.now,
            current_period_start=call.now,
            current_period_end=call.now,
            discounts=[],
            metadata=merged_metadata(None, given.get("metadata")),
            plan=plan_of(price),
            price=dict(price),
            quantity=quantity,
            subscription=subscription["id"],
            tax_rates=[],
        ),
    )
    subscription["_items"].append(item["id"])
    return item


def price_of(call: Call, subscription: Object, given: Params) -> Object:
    """The price that an item's parameters name or describe, in the subscription's currency."""
    fixed = (
        subscription["currency"]
        if subscription["_items"]
        else (call.tx.find("customer", subscription["customer"]) or {}).get("currency")
    )
    if ("price" in given) == ("price_data" in given):
        raise invalid(
            "You must specify either `price` or `price_data`.", given.name_of("price"), "parameter_missing"
        )
    if "price" in given:
        return usable_price(call, given["price"], given.name_of("price"), currency=fixed, recurring=True)
    data = given["price_data"]
    call.refer("product", data["product"], data.name_of("product"))
    price = new_price(call, data, data["product"])
    if fixed and price["currency"] != fixed:
        raise invalid(f"The currency must be {fixed}.", data.name_of("currency"))
    return price


def plan_of(price: Object) -> Object:
    """The older object that a subscription item still carries beside its price."""
    recurring = price["recurring"]
    return fill(
        stripe.Plan,
        id=price["id"],
        object="plan",
        active=price["active"],
        amount=price["unit_amount"],
        amount_decimal=price["unit_amount_decimal"],
        billing_scheme="per_unit",
        created=price["created"],
        currency=price["currency"],
        interval=recurring["interval"],
        interval_count=recurring["interval_count"],
        livemode=False,
        metadata=dict(price["metadata"]),
        nickname=price["nickname"],
        product=price["product"],
        usage_type="licensed",
        trial_period_days=recurring["trial_period_days"],
    )


def _set_optional(call: Call, subscription: Object, customer: Object) -> None:
    wanted = call.params
    wanted.get("off_session")
    if "currency" in wanted and wanted["currency"].lower() != subscription["currency"]:
        raise invalid(f"The currency must be that of the prices ({subscription['currency']}).", "currency")
    if "default_payment_method" in wanted:
        method = owned_method(
            call, wanted["default_payment_method"], customer["id"], "default_payment_method"
        )
        subscription["default_payment_method"] = method
    set_given(call, subscription, ("description",))
    if "default_tax_rates" in wanted:
        rates = chosen_rates(
            call, wanted.plain("default_tax_rates") or [], wanted.name_of("default_tax_rates")
        )
        subscription["default_tax_rates"] = [render(call, rate) for rate in rates]
    if "payment_settings" in wanted:
        subscription["payment_settings"] |= wanted.plain("payment_settings")
    if "trial_settings" in wanted:
        subscription["trial_settings"]["end_behavior"] |= wanted.plain("trial_settings")["end_behavior"]
    if "automatic_tax" in wanted and wanted["automatic_tax"]["enabled"]:
        raise invalid("The simulator has no automatic tax.", "automatic_tax[enabled]", "not_simulated")
    if "cancel_at" in wanted:
        set_cancel_at(call, subscription, wanted["cancel_at"])


def set_cancel_at(call: Call, subscription: Object, value: int | str) -> None:
    """`cancel_at`: a moment in the future, or '' to go on."""
    if isinstance(value, int) and value <= call.now:
        raise invalid("`cancel_at` must be in the future.", "cancel_at")
    if isinstance(value, str) and value:
        raise invalid("The simulator takes a timestamp here.", "cancel_at", "not_simulated")
    subscription |= {
        "cancel_at": value or None,
        "canceled_at": call.now if value else None,
        "cancel_at_period_end": False,
    }


def _trial_end(call: Call) -> int | None:
    wanted = call.params
    days, end = wanted.get("trial_period_days"), wanted.get("trial_end")
    if days is not None and end is not None:
        raise invalid("You can only specify one of `trial_end` and `trial_period_days`.", "trial_end")
    moment = call.now + days * DAY if days else end if isinstance(end, int) else None
    if moment is not None and not call.now < moment <= call.now + _LONGEST_TRIAL:
        raise invalid(
            "The trial must end in the future, within two years.", "trial_end" if end else "trial_period_days"
        )
    return moment


def _first_period(call: Call, subscription: Object, trial_end: int | None) -> int:
    recurring = _stored(call, subscription)[0]["price"]["recurring"]
    interval, count = recurring["interval"], recurring["interval_count"]
    anchor = call.params.get("billing_cycle_anchor")
    longest = after_intervals(call.now, interval, count)
    if anchor is not None and not call.now < anchor <= longest:
        raise invalid(
            "`billing_cycle_anchor` must be in the future, at most one period away.", "billing_cycle_anchor"
        )
    if trial_end is not None:
        subscription |= {"status": "trialing", "trial_start": call.now, "trial_end": trial_end}
        end = trial_end
    else:
        end = anchor or longest
    subscription["billing_cycle_anchor"] = anchor or trial_end or call.now
    if anchor and trial_end:
        end = min(trial_end, next_boundary(anchor, interval, count, call.now))
    set_period(call, subscription, call.now, end)
    return end


def _is_partial(call: Call, subscription: Object) -> bool:
    return "billing_cycle_anchor" in call.params and subscription["trial_end"] is None


def _first_invoice(call: Call, subscription: Object, *, trial: bool, partial: bool) -> Object | None:
    """The draft for the first period; None when its part up to the anchor is free."""
    prorates = call.params.get("proration_behavior", "create_prorations") != "none"
    if partial and not prorates:
        return None
    invoice = subscription_invoice(call, subscription, "subscription_create")
    add_item_lines(call, invoice, subscription, trial=trial)
    if partial:
        _shrink_lines(call, invoice, subscription)
    recompute(call, invoice)
    call.emit("invoice.created", invoice)
    return invoice


def _shrink_lines(call: Call, invoice: Object, subscription: Object) -> None:
    """Up to a later anchor only the share of a whole period is charged."""
    start, end = period_of(call, subscription)
    recurring = _stored(call, subscription)[0]["price"]["recurring"]
    whole = after_intervals(end, recurring["interval"], -recurring["interval_count"])
    for line in lines_of(call, invoice):
        line["amount"] = line["subtotal"] = share(line["amount"], whole, end, start)
        line["parent"]["subscription_item_details"]["proration"] = True


def _charge_first(call: Call, subscription: Object, invoice: Object, behaviour: str) -> StripeError | None:
    """The refusal to raise after everything is in the books, if there is one."""
    finalize(call, invoice)
    if invoice["status"] == "paid":
        return None
    invoice["auto_advance"] = False  # an incomplete subscription's first invoice is not retried
    subscription["status"] = "incomplete"
    if behaviour == "default_incomplete":
        return None
    method = payment_method_of(call, invoice)
    if method is None:
        message = (
            "This customer has no attached payment source or default payment method. Please consider "
            "adding a default payment method."
        )
        raise invalid(message, None, "resource_missing")
    refusal = collect(call, invoice, method)
    if refusal and behaviour == "error_if_incomplete":
        refusal.commits = False
        return refusal
    return None


@route("GET", "/v1/subscriptions", params.SubscriptionListParams)
def list_subscriptions(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("subscription"),
        customer=wanted.get("customer"),
        collection_method=wanted.get("collection_method"),
    )
    rows = _with_status(rows, wanted.get("status"))
    if "price" in wanted:
        price = wanted["price"]
        rows = [row for row in rows if any(item["price"]["id"] == price for item in _stored(call, row))]
    return page(call, in_range(call, rows, "created"), "/v1/subscriptions", "subscription")


def _with_status(rows: Iterable[Object], status: str | None) -> list[Object]:
    if status == "all":
        return list(rows)
    if status == "ended":
        return [row for row in rows if row["status"] in ENDED]
    if status is None:
        return [row for row in rows if row["status"] != "canceled"]
    return [row for row in rows if row["status"] == status]


@route("GET", "/v1/subscriptions/{}", params.SubscriptionRetrieveParams)
def retrieve_subscription(call: Call) -> Object:
    return call.need("subscription", call.path[0])


@route("POST", "/v1/subscriptions/{}", params.SubscriptionUpdateParams)
def update_subscription(call: Call) -> Object:
    subscription = _living(call)
    apply_changes(call, subscription, call.params)
    return subscription


def _living(call: Call) -> Object:
    subscription = call.need("subscription", call.path[0])
    if subscription["status"] in ENDED:
        message = (
            f"No such subscription: '{subscription['id']}' (it is {subscription['status']}; only its "
            "metadata could still change)."
        )
        raise StripeError(404, "invalid_request_error", message, code="resource_missing", param="id")
    return subscription


@route("DELETE", "/v1/subscriptions/{}", params.SubscriptionCancelParams)
def cancel_subscription(call: Call) -> Object:
    subscription, wanted = _living(call), call.params
    subscription["cancellation_details"] = {
        **subscription["cancellation_details"],
        **wanted.plain("cancellation_details", {}),
    }
    if wanted.get("prorate") and subscription["status"] in {"active", "past_due"}:
        credit_unused_time(call, subscription, call.now)
    if wanted.get("invoice_now"):
        invoice_prorations(call, subscription, call.now)
    end_subscription(call, subscription, "cancellation_requested")
    return subscription


@route("POST", "/v1/subscriptions/{}/resume", params.SubscriptionResumeParams)
def resume_subscription(call: Call) -> Object:
    subscription, wanted = _living(call), call.params
    if subscription["status"] != "paused":
        raise invalid("Only a paused subscription can be resumed.", None, "subscription_not_paused")
    anchor = wanted.plain("billing_cycle_anchor", {"type": "now"})["type"]
    wanted.get("proration_behavior"), wanted.get("payment_behavior")

    def change() -> None:
        start, _ = period_of(call, subscription)
        subscription["status"] = "active"
        set_period(call, subscription, start, call.now)
        if anchor == "now":
            subscription["billing_cycle_anchor"] = call.now

    updated(call, subscription, "customer.subscription.updated", change)
    invoice = renew(call, subscription)
    if invoice["status"] == "draft" and invoice["collection_method"] == "charge_automatically":
        finalize(call, invoice)
        if invoice["status"] == "open":
            collect(call, invoice, payment_method_of(call, invoice))
    call.emit("customer.subscription.resumed", subscription)
    return subscription
