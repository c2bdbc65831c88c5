"""A customer's balance: negative is credit, positive is owed with the next invoice.

https://docs.stripe.com/api/customer_balance_transactions
"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import invalid, missing
from provider_federation.testing.stripe_sim.listing import matching, page
from provider_federation.testing.stripe_sim.objects.common import (
    checked_amount,
    checked_currency,
    merged_metadata,
    set_given,
)
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, new_id
from provider_federation.testing.stripe_sim.store import Object

_LIST = "/v1/customers/{}/balance_transactions"


def change_balance(
    call: Call,
    customer: Object,
    amount: int,
    kind: str,
    currency: str,
    *,
    invoice: str | None = None,
    credit_note: str | None = None,
) -> Object | None:
    """Add `amount` (minor units; negative gives credit) and write the transaction; None when there is nothing
    to do.
    """
    if amount == 0:
        return None
    customer = call.tx.edit("customer", customer["id"])
    customer["balance"] += amount
    customer["currency"] = customer["currency"] or currency
    return call.tx.add(
        "customer_balance_transaction",
        fill(
            stripe.CustomerBalanceTransaction,
            id=new_id("cbtxn"),
            object="customer_balance_transaction",
            amount=amount,
            created=call.now,
            currency=currency,
            customer=customer["id"],
            ending_balance=customer["balance"],
            livemode=False,
            metadata={},
            type=kind,
            invoice=invoice,
            credit_note=credit_note,
        ),
    )


@route("POST", _LIST, params.CustomerBalanceTransactionCreateParams)
def create_balance_transaction(call: Call) -> Object:
    customer, wanted = _customer(call), call.params
    currency = checked_currency(wanted["currency"])
    if customer["currency"] not in {None, currency}:
        raise invalid(f"This customer's balance is in {customer['currency']}.", "currency")
    amount = checked_amount(wanted["amount"], "amount")
    row = change_balance(call, customer, amount, "adjustment", currency)
    if row is None:
        raise invalid("The amount must not be zero.", "amount")
    row |= {
        "description": wanted.get("description"),
        "metadata": merged_metadata(None, wanted.get("metadata")),
    }
    return row


def _customer(call: Call) -> Object:
    customer = call.tx.find("customer", call.path[0])
    if customer is None or customer.get("deleted"):
        raise missing("customer", call.path[0])
    return customer


@route("GET", _LIST, params.CustomerBalanceTransactionListParams)
def list_balance_transactions(call: Call) -> Object:
    rows = matching(
        call.tx.newest("customer_balance_transaction"),
        customer=_customer(call)["id"],
        invoice=call.params.get("invoice"),
    )
    return page(call, rows, _LIST.format(call.path[0]), "customer_balance_transaction")


@route("GET", _LIST + "/{}", params.CustomerBalanceTransactionRetrieveParams)
def retrieve_balance_transaction(call: Call) -> Object:
    row = call.need("customer_balance_transaction", call.path[1])
    if row["customer"] != call.path[0]:
        raise missing("customer_balance_transaction", call.path[1])
    return row


@route("POST", _LIST + "/{}", params.CustomerBalanceTransactionUpdateParams)
def update_balance_transaction(call: Call) -> Object:
    row = retrieve_balance_transaction(call)
    row["metadata"] = merged_metadata(row["metadata"], call.params.get("metadata"))
    set_given(call, row, ("description",))
    return row  # Stripe has no events of these
