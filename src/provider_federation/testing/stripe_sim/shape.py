"""Answers built from the SDK's classes, so that none can lack a field that the class requires.

`fill(stripe.Customer, …)` gives every nullable field of the class a None, and refuses (at development time,
with a TypeError) a field that the class does not have or one that it requires and that was not given. Names
that begin with an underscore are the simulator's own and never leave it.
"""

from __future__ import annotations

import secrets
import string
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import stripe

_ALPHABET = string.ascii_letters + string.digits

# Fields that Stripe sends only when they are asked for (expand), or that stand for another kind of account
# or payment method.
_ABSENT: dict[str, frozenset[str]] = {
    "Customer": frozenset(
        {
            "deleted",
            "business_name",
            "individual_name",
            "cash_balance",
            "invoice_credit_balance",
            "sources",
            "subscriptions",
            "tax",
            "tax_ids",
            "customer_account",
        }
    ),
    "Invoice": frozenset({"deleted", "payments", "confirmation_secret", "amount_paid_off_stripe"}),
    "InvoiceItem": frozenset({"deleted"}),
    "Price": frozenset({"deleted", "currency_options", "tiers"}),
    "Plan": frozenset({"deleted", "tiers"}),
    "Product": frozenset({"deleted"}),
    "SubscriptionItem": frozenset({"deleted"}),
    "WebhookEndpoint": frozenset({"deleted", "secret"}),
    "Event": frozenset({"account", "context"}),
    "Data": frozenset({"previous_attributes"}),
    "Charge": frozenset({"level3", "presentment_details", "refunds", "authorization_code"}),
    "PaymentIntent": frozenset({"presentment_details"}),
    "Refund": frozenset(
        {
            "instructions_email",
            "next_action",
            "presentment_details",
            "failure_reason",
            "failure_balance_transaction",
        }
    ),
    "Subscription": frozenset({"presentment_details"}),
}
_ONLY_WHAT_IS_GIVEN = frozenset(
    {"PaymentMethod", "Account", "PaymentSettings", "Payment", "PaymentMethodDetails"}
)


def fill(shape: type, /, **given: Any) -> dict[str, Any]:
    """A dict with every field of the SDK's class `shape`: the given ones, and None for the nullable rest."""
    nullable, required = _fields(shape)
    names = {name for name in given if not name.startswith("_")}
    unknown, lacking = (
        names - nullable - required - _ABSENT.get(shape.__name__, frozenset()),
        required - names,
    )
    if unknown or lacking:
        raise TypeError(f"{shape.__qualname__}: unknown {sorted(unknown)}, lacking {sorted(lacking)}")
    if shape.__name__ in _ONLY_WHAT_IS_GIVEN:
        return given
    return dict.fromkeys(sorted(nullable - names)) | given


@cache
def _fields(shape: type) -> tuple[frozenset[str], frozenset[str]]:
    hints = {name: hint for name, hint in shape.__annotations__.items() if name != "OBJECT_NAME"}
    absent = _ABSENT.get(shape.__name__, frozenset())
    nullable = {name for name, hint in hints.items() if _is_nullable(hint)}
    if shape.__name__ not in _ONLY_WHAT_IS_GIVEN:
        nullable -= absent
    return frozenset(nullable), frozenset(set(hints) - {n for n, h in hints.items() if _is_nullable(h)})


def _is_nullable(hint: Any) -> bool:
    return get_origin(hint) in {Union, UnionType} and NoneType in get_args(hint)


def new_id(prefix: str, length: int = 24) -> str:
    """A fresh id such as `in_1…`."""
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(length - 1))
    return f"{prefix}_{secrets.choice('123456789')}{tail}"


def list_of(items: list[Any], url: str, *, has_more: bool = False) -> dict[str, Any]:
    """Stripe's list object."""
    return {"object": "list", "data": items, "has_more": has_more, "url": url}


def deleted(kind: str, identity: str) -> dict[str, Any]:
    """What Stripe answers to a deletion, and afterwards to whoever asks for a deleted customer."""
    return {"id": identity, "object": kind, "deleted": True}


API_VERSION: str = stripe.api_version
