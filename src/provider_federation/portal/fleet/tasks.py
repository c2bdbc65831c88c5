"""The jobs of the fleet. Each may be run twice: a worker that died half-way is followed by another."""

from __future__ import annotations

import uuid

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from provider_federation.portal.fleet import execution
from provider_federation.portal.fleet.services import QUEUE

# The job itself only fails when our own database does; what an instance does wrong is a row, not a failed
# job.
_AGAIN = RetryStrategy(max_attempts=10, linear_wait=5)


@app.task(name="fleet.run_shard", queue=QUEUE, retry=_AGAIN)
def run_shard(run_id: str, call_ids: list[int]) -> None:
    """Do the unfinished calls among `call_ids` of a run."""
    execution.work_on_calls(uuid.UUID(run_id), call_ids)


@app.task(name="fleet.sync_shard", queue=QUEUE, retry=_AGAIN)
def sync_shard(instance_ids: list[str]) -> None:
    """Bring the mirror of these instances up to date."""
    execution.sync_many([uuid.UUID(one) for one in instance_ids])
