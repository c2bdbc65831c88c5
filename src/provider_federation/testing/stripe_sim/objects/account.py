"""The account behind the key: https://docs.stripe.com/api/accounts/retrieve"""

from __future__ import annotations

import stripe
from stripe import params

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.routes import route
from provider_federation.testing.stripe_sim.shape import fill, list_of
from provider_federation.testing.stripe_sim.store import Object


@route("GET", "/v1/account", params.AccountRetrieveCurrentParams)
def retrieve_current_account(call: Call) -> Object:
    return fill(
        stripe.Account,
        id=call.account,
        object="account",
        business_type="company",
        charges_enabled=True,
        country="US",
        created=call.tx.account.created,
        default_currency="usd",
        details_submitted=True,
        email=None,
        metadata={},
        payouts_enabled=True,
        type="standard",
        external_accounts=list_of([], f"/v1/accounts/{call.account}/external_accounts"),
        business_profile={"name": call.tx.account.name, "support_email": None, "url": None},
        settings={
            "branding": fill(stripe.Account.Settings.Branding),
            "card_payments": fill(stripe.Account.Settings.CardPayments),
            "dashboard": {"display_name": call.tx.account.name, "timezone": "Etc/UTC"},
            "payments": fill(stripe.Account.Settings.Payments),
        },
    )


@route("GET", "/v1/accounts/{}", params.AccountRetrieveParams)
def retrieve_account(call: Call) -> Object:
    if call.path[0] != call.account:
        message = (
            f"The provided key does not have access to account '{call.path[0]}' (or that account does not "
            "exist)."
        )
        raise StripeError(403, "invalid_request_error", message, code="account_invalid")
    return retrieve_current_account(call)
