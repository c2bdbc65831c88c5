"""What becomes of the jobs of dead workers."""

from __future__ import annotations

import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from provider_federation.portal import reaper
from provider_federation.portal.fleet.tasks import sync_shard


def sql(query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture
def worker(db):
    """`worker(age)` registers one whose last heartbeat was `age` seconds ago."""
    return lambda age: sql(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => %s)) RETURNING id",
        age,
    )


def job(worker_id, attempts=0, **options):
    job_id = sync_shard.configure(**options).defer(instance_ids=[])
    sql(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s, attempts = %s WHERE id = %s",
        worker_id,
        attempts,
        job_id,
    )
    return job_id


def status(job_id):
    return ProcrastinateJob.objects.get(pk=job_id).status


def test_jobs_of_the_dead_go_back_and_those_of_the_living_stay(worker, settings):
    settings.WORKER_DEAD_AFTER_SECONDS = 20
    dead, living, pruned = worker(30), worker(10), worker(1)
    jobs = [job(dead), job(living), job(pruned)]
    sql("DELETE FROM procrastinate_workers WHERE id = %s", pruned)
    assert reaper.requeue_lost_jobs() == 2
    assert [status(one) for one in jobs] == ["todo", "doing", "todo"]
    assert ProcrastinateJob.objects.get(pk=jobs[0]).attempts == 1
    assert reaper.requeue_lost_jobs() == 0


def test_a_job_that_takes_its_workers_down_is_given_up(worker):
    job_id = job(worker(1000), attempts=reaper.MOST_ATTEMPTS)
    assert reaper.requeue_lost_jobs() == 0
    assert status(job_id) == "failed"


def test_a_lost_job_whose_twin_waits_makes_room_for_it(worker):
    lost = job(worker(1000), queueing_lock="one at a time")
    twin = sync_shard.configure(queueing_lock="one at a time").defer(instance_ids=[])
    assert reaper.requeue_lost_jobs() == 0
    assert (status(lost), status(twin)) == ("failed", "todo")


def test_jobs_that_ended_a_month_ago_are_forgotten(db):
    old, recent, open_one = (sync_shard.defer(instance_ids=[]) for _ in range(3))
    sql("UPDATE procrastinate_jobs SET status = 'doing' WHERE id <= %s", recent)
    for one in (old, recent):
        sql("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", one)
    sql(
        "UPDATE procrastinate_events SET at = now() - interval '31 days' WHERE job_id IN (%s, %s)",
        old,
        open_one,
    )
    sql(
        "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id) VALUES ('t', 1, %s)",
        old,
    )
    reaper.forget_old_jobs()
    assert set(ProcrastinateJob.objects.values_list("pk", flat=True)) == {recent, open_one}
