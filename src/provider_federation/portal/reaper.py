"""Jobs that a dead worker left behind: given to the living, whatever became of the dead one's row.

Procrastinate marks a job `doing` with its worker's id. A worker that is killed stops its heartbeat; one
whose row was
pruned (by another that started later) leaves jobs without any worker. Both kinds go back to the queue
here. A job
that takes its worker down every time is given up after MOST_ATTEMPTS.
"""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from provider_federation.kit.logs import get_logger

MOST_ATTEMPTS = 20
_KEEP_HOURS = 24 * 30
_log = get_logger(__name__)

_LOST = """
SELECT job.id, job.task_name, job.attempts, job.queueing_lock
  FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id
 WHERE job.status = 'doing'
   AND (worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => %s))
 ORDER BY job.id LIMIT 500
   FOR UPDATE OF job SKIP LOCKED
"""
_AGAIN = "SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)"
_GIVE_UP = "SELECT procrastinate_finish_job_v1(%s, 'failed', false)"
_OLD = """
SELECT job.id FROM procrastinate_jobs job
 WHERE job.status IN ('failed', 'cancelled', 'aborted', 'succeeded')
   AND NOT EXISTS (SELECT 1 FROM procrastinate_events event
                    WHERE event.job_id = job.id AND event.at > now() - make_interval(hours => %s))
 ORDER BY job.id LIMIT 5000
"""


def requeue_lost_jobs() -> int:
    """Put the jobs of dead workers back into the queue; how many. Any number of processes may call it at
    once.
    """
    requeued = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOST, [settings.WORKER_DEAD_AFTER_SECONDS])
        for job_id, task, attempts, queueing_lock in cursor.fetchall():
            requeued += _requeue(job_id, task, attempts, queueing_lock)
    return requeued


def forget_old_jobs() -> None:
    """Jobs that ended a month ago; what they did stands in the tables of the features."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OLD, [_KEEP_HOURS])
        old = [row[0] for row in cursor.fetchall()]
        cursor.execute("UPDATE procrastinate_periodic_defers SET job_id = NULL WHERE job_id = ANY(%s)", [old])
        cursor.execute("DELETE FROM procrastinate_jobs WHERE id = ANY(%s)", [old])


def _requeue(job_id: int, task: str, attempts: int, queueing_lock: str | None) -> bool:
    if attempts >= MOST_ATTEMPTS:
        _log.error("job given up: its workers keep dying", job_id=job_id, task=task, attempts=attempts)
        _run(_GIVE_UP, job_id)
        return False
    try:
        with transaction.atomic():
            _run(_AGAIN, job_id)
    except IntegrityError:
        # Its twin waits under the same queueing lock already and will do the same work.
        _log.info("lost job has a twin in the queue", job_id=job_id, task=task, lock=queueing_lock)
        _run(_GIVE_UP, job_id)
        return False
    _log.warning("job of a dead worker requeued", job_id=job_id, task=task, attempts=attempts)
    return True


def _run(query: str, job_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, [job_id])
