"""The jobs of the provider's money. Each may run twice, or stop anywhere: what it did is found again."""

from __future__ import annotations

from uuid import UUID

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from provider_federation.portal.revenue import services
from provider_federation.portal.revenue.services.jobs import APPLY, PLACE, SWEEP
from provider_federation.portal.revenue.services.sweep import sweep_account

_MOST_TRIES = 60
_LONGEST_WAIT = 600


class Patiently(BaseRetryStrategy):
    """2, 4, 8 seconds and so on, up to ten minutes; about nine hours in all, then the worker's
    house-keeping takes over.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        del exception  # whatever it was: what can never work was held or parked before it came here
        if job.attempts >= _MOST_TRIES:
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts + 1, 10), _LONGEST_WAIT)})


@app.task(name=PLACE, queue="money", retry=Patiently())
def place_usage_invoice(invoice_id: str) -> None:
    """Bring a planned usage invoice to Stripe."""
    services.place_usage_invoice(UUID(invoice_id))


@app.task(name=APPLY, queue="money", retry=Patiently())
def apply_stripe_event(event_pk: int) -> None:
    """Apply one stored event of the provider's Stripe account."""
    services.apply_event(event_pk)


@app.task(name=SWEEP, queue="money", retry=Patiently())
def sweep_stripe() -> None:
    """Look through the provider's Stripe account for what no event told us of."""
    sweep_account()
