"""Setting up an account: prices found by their lookup key, created when they are missing or cost something
else.
"""

from __future__ import annotations

from provider_federation.stripe_account.account import StripeAccount
from provider_federation.stripe_account.shapes import StripePrice


def ensure_price(
    account: StripeAccount,
    *,
    lookup_key: str,
    product_name: str,
    unit_amount: int,
    currency: str = "USD",
    interval: str | None = "month",
) -> StripePrice:
    """The active price with this lookup key, amount, currency and interval; the same one on every call.

    A price with the key but another amount loses the key to a new one; subscriptions on it keep their price.
    """
    found = account.list_prices(lookup_keys=[lookup_key])
    wanted = (unit_amount, currency.upper(), interval)
    for price in found:
        if (price.unit_amount, price.currency, price.interval) == wanted:
            return price
    # The older price is in the key: a change back must not be answered with the replay of an earlier one.
    older = found[0].id if found else "first"
    key = f"pf/price/{lookup_key}/{unit_amount}/{currency.lower()}/{interval}/{older}"
    product_id = found[0].product_id if found else None
    if product_id is None:
        metadata = {"pf_product": lookup_key}
        product_id = account.create_product(
            product_name, metadata=metadata, idempotency_key=f"{key}/product"
        ).id
    return account.create_price(
        product_id=product_id,
        unit_amount=unit_amount,
        currency=currency,
        lookup_key=lookup_key,
        interval=interval,
        metadata={"pf_price": lookup_key},
        idempotency_key=key,
    )
