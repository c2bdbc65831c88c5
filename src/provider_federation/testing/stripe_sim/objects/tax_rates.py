"""Tax rates, and what they come to on an invoice's lines. https://docs.stripe.com/api/tax_rates"""

from __future__ import annotations

from decimal import Decimal

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.listing import in_range, matching, page
from provider_federation.testing.stripe_sim.objects.common import (
    merged_metadata,
    rounded,
    set_given,
    updated,
)
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_TEXTS = ("country", "description", "jurisdiction", "state", "tax_type")
_MOST = 5


@route("POST", "/v1/tax_rates", params.TaxRateCreateParams)
def create_tax_rate(call: Call) -> Object:
    wanted = call.params
    percentage = wanted["percentage"]
    if not 0 <= percentage <= 100:
        raise invalid("The percentage must be between 0 and 100.", "percentage")
    row = call.tx.add(
        "tax_rate",
        fill(
            stripe.TaxRate,
            id=new_id("txr"),
            object="tax_rate",
            active=wanted.get("active", True),
            created=call.now,
            display_name=wanted["display_name"],
            inclusive=wanted["inclusive"],
            livemode=False,
            metadata=merged_metadata(None, wanted.get("metadata")),
            percentage=float(percentage),
            effective_percentage=float(percentage),
        ),
    )
    set_given(call, row, _TEXTS)
    call.emit("tax_rate.created", row)
    return row


@route("GET", "/v1/tax_rates", params.TaxRateListParams)
def list_tax_rates(call: Call) -> Object:
    wanted = call.params
    rows = matching(
        call.tx.newest("tax_rate"), active=wanted.get("active"), inclusive=wanted.get("inclusive")
    )
    return page(call, in_range(call, rows, "created"), "/v1/tax_rates", "tax_rate")


@route("GET", "/v1/tax_rates/{}", params.TaxRateRetrieveParams)
def retrieve_tax_rate(call: Call) -> Object:
    return call.need("tax_rate", call.path[0])


@route("POST", "/v1/tax_rates/{}", params.TaxRateUpdateParams)
def update_tax_rate(call: Call) -> Object:
    row = call.need("tax_rate", call.path[0])

    def change() -> None:
        row["metadata"] = merged_metadata(row["metadata"], call.params.get("metadata"))
        set_given(call, row, ("active", "display_name", *_TEXTS))

    return updated(call, row, "tax_rate.updated", change)


def chosen_rates(call: Call, identities: list[str], param: str) -> list[Object]:
    """The active tax rates that a parameter names; a 400 for any other."""
    if len(identities) > _MOST or len(set(identities)) != len(identities):
        raise invalid(f"You can give up to {_MOST} different tax rates.", param)
    rates = [call.refer("tax_rate", identity, param, "tax rate") for identity in identities]
    if not all(rate["active"] for rate in rates):
        raise invalid("You cannot use an inactive tax rate.", param)
    return rates


def taxes_of(rates: list[Object], amount: int) -> list[Object]:
    """What the rates come to on an amount, each rounded half up, as a line of this API version shows it."""
    rows = []
    for rate in rates:
        percentage = Decimal(str(rate["percentage"]))
        inside = percentage / (100 + percentage) if rate["inclusive"] else percentage / 100
        tax = rounded(amount * inside)
        rows.append(
            {
                "amount": tax,
                "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
                "tax_rate_details": {"tax_rate": rate["id"]},
                "taxability_reason": "standard_rated",
                "taxable_amount": amount - tax if rate["inclusive"] else amount,
                "type": "tax_rate_details",
            }
        )
    return rows


def credited_taxes(taxes: list[Object], amount: int, before: int, credit: int) -> list[Object]:
    """The part of a line's taxes that a credit of `credit` takes back, `before` having been credited: the
    parts of several credits add up to the whole.
    """

    def part(tax: Object, name: str) -> int:
        upto, since = (rounded(Decimal(tax[name]) * part / amount) for part in (before + credit, before))
        return upto - since

    return [
        {**tax, "amount": part(tax, "amount"), "taxable_amount": part(tax, "taxable_amount")} for tax in taxes
    ]
