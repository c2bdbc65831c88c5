"""The jobs of this room. Each may run twice, or stop anywhere: what it did is found again."""

from __future__ import annotations

from uuid import UUID

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from provider_federation.portal.subscriptions import publishing, services
from provider_federation.portal.subscriptions.jobs import CHANGE, CREATE, PUBLISH

_MOST_TRIES = 60
_LONGEST_WAIT = 600


class _Patiently(BaseRetryStrategy):
    """2, 4, 8 seconds and so on, up to ten minutes; then the worker's house-keeping takes over."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        del exception  # what can never work ended its row and raised nothing
        if job.attempts >= _MOST_TRIES:
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts + 1, 10), _LONGEST_WAIT)})


@app.task(name=CREATE, queue="money", retry=_Patiently())
def finish_creation(subscription_id: str) -> None:
    """A subscription whose request was never repeated."""
    services.finish_creation(UUID(subscription_id))


@app.task(name=CHANGE, queue="money", retry=_Patiently())
def carry_out_change(change_id: str) -> None:
    """A change whose request was never repeated."""
    services.finish_change(UUID(change_id))


# Its own retries are rows (`due_at`); the job fails only when our database does.
@app.task(name=PUBLISH, queue="entitlements", retry=_Patiently())
def publish_entitlement(instance_id: str) -> None:
    """Tell one instance what its client may use."""
    publishing.publish_entitlement(UUID(instance_id))
