"""The jobs of billing runs. Each may run twice, or stop anywhere: what it did is found again."""

from __future__ import annotations

from uuid import UUID

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from provider_federation.portal.billing_runs import services
from provider_federation.portal.billing_runs.services.jobs import EXECUTE, PLACE, PLAN, PREPARE

QUEUE = "money"
_MOST_TRIES = 60
_LONGEST_WAIT = 600


class _Patiently(BaseRetryStrategy):
    """2, 4, 8 seconds and so on, up to ten minutes; then the worker's house-keeping takes over."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        del exception  # whatever it was: what can never work was held before it came here
        if job.attempts >= _MOST_TRIES:
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts + 1, 10), _LONGEST_WAIT)})


@app.task(name=PLAN, queue=QUEUE, retry=_Patiently())
def plan_shard(run_id: str, item_ids: list[int]) -> None:
    """Pull, rate and freeze some clients of a plan."""
    services.plan_items(UUID(run_id), item_ids)


@app.task(name=PREPARE, queue=QUEUE, retry=_Patiently())
def prepare_execution(run_id: str) -> None:
    """Look at Stripe once, then queue the shards."""
    services.prepare_execution(UUID(run_id))


@app.task(name=EXECUTE, queue=QUEUE, retry=_Patiently())
def execute_shard(run_id: str, item_ids: list[int]) -> None:
    """Bill some clients of an approved plan."""
    services.execute_items(UUID(run_id), item_ids)


@app.task(name=PLACE, queue=QUEUE, retry=_Patiently())
def place_item(run_id: str, item_id: int) -> None:
    """Bill one client whose turn Stripe did not take."""
    del run_id  # it says to the house-keeping whose job this is
    services.place_item(item_id)
