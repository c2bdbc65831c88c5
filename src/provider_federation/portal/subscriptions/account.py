"""The provider's own Stripe account, and its refusals as problems that an operator can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from django.conf import settings

from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import Pace, StripeAccount, StripeFailed


def provider_account() -> StripeAccount:
    """The account of the settings. Problem 503 `stripe_not_configured` when there is no key."""
    key = settings.PROVIDER_STRIPE_SECRET_KEY
    if not key:
        raise Problem(
            503, "stripe_not_configured", "Set PROVIDER_STRIPE_SECRET_KEY; the portal has no Stripe account."
        )
    return _account(key, settings.STRIPE_API_BASE)


def pace_calls(make: Callable[[str], Pace]) -> None:
    """From now on accounts are made with the pace that `make` gives for their key; for upper rooms, at start."""
    _pace.append(make)
    _account.cache_clear()


_pace: list[Callable[[str], Pace]] = []


@lru_cache(maxsize=4)
def _account(key: str, api_base: str) -> StripeAccount:
    pace = _pace[-1](key) if _pace else None
    return StripeAccount(key, api_base=api_base or None, pace=pace)


def livemode() -> bool:
    """Whether the account's key is a live one; an event of the other kind is not ours."""
    return "_live_" in settings.PROVIDER_STRIPE_SECRET_KEY


def price_of(plan: str) -> str:
    """The Stripe price id of a plan. Problem 503 `price_not_configured`."""
    price = settings.PROVIDER_STRIPE_PRICES.get(plan, "")
    if not price:
        raise Problem(
            503, "price_not_configured", f"Set PROVIDER_STRIPE_{plan}_PRICE_ID; this plan has no price yet."
        )
    return str(price)


def plan_of(price_id: str) -> str | None:
    """The plan that a Stripe price id stands for; None for a price that is none of ours."""
    plans = {price: plan for plan, price in settings.PROVIDER_STRIPE_PRICES.items() if price}
    return plans.get(price_id)


@contextmanager
def stripe_problems() -> Iterator[None]:
    """What Stripe refuses becomes a Problem: 503 when the same request may work later, else 422
    `stripe_refused`.
    """
    try:
        yield
    except StripeFailed as error:
        raise problem_of(error) from error


def problem_of(error: StripeFailed) -> Problem:
    """See `stripe_problems`."""
    if error.code == "not_authorised":
        return Problem(503, "stripe_not_configured", "Stripe does not accept PROVIDER_STRIPE_SECRET_KEY.")
    if error.retryable:
        return Problem(
            503, "stripe_unavailable", "Stripe did not answer; repeat the request, nothing happens twice."
        )
    return Problem(422, "stripe_refused", f"Stripe refused: {error.message}", stripeCode=error.code)
