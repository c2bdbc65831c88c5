"""What /metrics tells: read from the database at each scrape, so that every web process answers the same."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class PortalCollector(Collector):
    """Jobs by status, living workers, and how far the sync of each instance has come."""

    def collect(self) -> Iterator[Metric]:
        yield _by(
            "portal_jobs",
            "Jobs by task and status",
            ["task", "status"],
            "SELECT task_name, status::text, count(*) FROM procrastinate_jobs GROUP BY 1, 2",
        )
        yield _by(
            "portal_workers",
            "Workers with a heartbeat within the last minute",
            [],
            "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '1 minute'",
        )
        yield _by(
            "portal_oldest_waiting_job_seconds",
            "Age of the oldest job that could run now",
            [],
            "SELECT coalesce(extract(epoch FROM now() - min(event.at)), 0) FROM procrastinate_jobs job"
            " JOIN procrastinate_events event ON event.job_id = job.id"
            " WHERE job.status = 'todo' AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())",
        )
        yield _by(
            "portal_sync_instances",
            "Enabled instances by the outcome of their last sync",
            ["outcome"],
            "SELECT coalesce(nullif(state.last_outcome, ''), 'never'), count(*)"
            " FROM directory_instance instance"
            " LEFT JOIN fleet_syncstate state ON state.instance_id = instance.id"
            " WHERE instance.enabled GROUP BY 1",
        )
        yield _by(
            "portal_fleet_calls",
            "Calls of fleet runs by action and status",
            ["action", "status"],
            "SELECT run.action, call.status, count(*) FROM fleet_fleetcall call"
            " JOIN fleet_fleetrun run ON run.id = call.run_id GROUP BY 1, 2",
        )


def _by(name: str, text: str, labels: list[str], query: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    with connection.cursor() as cursor:
        cursor.execute(query)
        for *values, number in cursor.fetchall():
            family.add_metric([str(value) for value in values], float(number))
    return family


registry = CollectorRegistry(auto_describe=False)
registry.register(PortalCollector())
