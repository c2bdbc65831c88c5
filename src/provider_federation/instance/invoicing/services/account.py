"""The client's own Stripe account, and its failures as answers."""

from __future__ import annotations

from django.conf import settings

from provider_federation.kit.problem import Problem
from provider_federation.stripe_account import StripeAccount, StripeFailed

ORDER_KEY = "pf_key"
"""Where `place_invoice` keeps an order's key in the invoice's metadata; ours is `Invoice.reference`."""
_CALL_SECONDS = 15.0


def open_account() -> StripeAccount:
    """The account of STRIPE_SECRET_KEY; Problem 503 `stripe_not_configured` without one."""
    if not settings.STRIPE_SECRET_KEY:
        raise Problem(
            503,
            "stripe_not_configured",
            "This instance has no Stripe key yet; its owner sets STRIPE_SECRET_KEY.",
        )
    return StripeAccount(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE or None, timeout=_CALL_SECONDS)


def problem_of(failed: StripeFailed) -> Problem:
    """503 when the same request may succeed later, 502 when a person has to look; the code begins with
    `stripe_`.
    """
    code = failed.code if failed.code.startswith("stripe_") else f"stripe_{failed.code}"
    if failed.retryable:
        return Problem(503, code, "Stripe could not be reached or is busy; nothing is lost, send this again.")
    return Problem(502, code, f"Stripe refused: {failed.message}")
