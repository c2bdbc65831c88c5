"""The worker process: runs jobs, keeps the schedule, and takes over what dead workers left. Start as many
as you like.

Nothing here elects a leader. The schedule lives in rows that one process at a time can claim, lost jobs
are requeued
under row locks, so it does not matter how many workers ask.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from procrastinate import App
from procrastinate.contrib.django import app as django_jobs
from procrastinate.job_context import JobContext

from provider_federation.kit.clock import monotonic
from provider_federation.kit.env import ConfigInvalid
from provider_federation.kit.logs import get_logger
from provider_federation.portal.billing_runs.services import wake_forgotten
from provider_federation.portal.fleet.execution import fail_orphans
from provider_federation.portal.fleet.sync import schedule_due
from provider_federation.portal.reaper import forget_old_jobs, requeue_lost_jobs
from provider_federation.portal.receivables.services.filings import schedule_readings
from provider_federation.portal.receivables.services.schedule import schedule_receivables
from provider_federation.portal.revenue.services import defer_forgotten
from provider_federation.portal.subscriptions.entitlements import update_arrears
from provider_federation.portal.subscriptions.jobs import defer_unfinished

_log = get_logger(__name__)
# Beside the jobs: the schedule, the reaper, the housekeeper and Django's own asynchronous calls.
_SIDE_THREADS = 4
_GRACE_SECONDS = 120.0
_LONGEST_PAUSE = 15.0


def run_worker(concurrency: int) -> None:
    """Run until SIGTERM or SIGINT; jobs under way are finished first. A second signal ends the process at
    once.

    Raises ConfigInvalid when the pool of database connections is too small for `concurrency`.
    """
    pool = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    if pool < concurrency + _SIDE_THREADS:
        raise ConfigInvalid(
            "PORTAL_DB_POOL", f"must be at least {concurrency + _SIDE_THREADS} for {concurrency} jobs at once"
        )
    # What is loaded by now stays: the collector need not walk through it again while jobs run.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_main(concurrency))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop, which reads a thousand instances with less of the processor; it is not made for Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _main(concurrency: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(concurrency + _SIDE_THREADS, "worker"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    beat = settings.WORKER_HEARTBEAT_SECONDS
    _log.info(
        "worker started", concurrency=concurrency, sync_every=settings.SYNC_EVERY_SECONDS, pid=os.getpid()
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(_run_jobs(stop, concurrency))
        group.create_task(_every(beat, stop, requeue_lost_jobs))
        group.create_task(_every(_look_every(), stop, _ask_instances))
        group.create_task(_every(60.0, stop, _keep_house))
    _log.info("worker stopped")


def _look_every() -> float:
    """Seconds between two looks at which instance's turn it is."""
    shortest = min(settings.SYNC_EVERY_SECONDS, settings.DISPUTES_EVERY_SECONDS)
    return max(1.0, min(5.0, shortest / 2))


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        # The jobs under way go back to the queue as those of any dead worker do.
        os._exit(1)
    _log.info("worker stopping: the jobs under way are finished first")
    stop.set()


async def _run_jobs(stop: asyncio.Event, concurrency: int) -> None:
    """Procrastinate's worker, begun anew when it ends by itself: the database went away, or its row was
    pruned.
    """
    pause = 1.0
    while not stop.is_set():
        started = monotonic()
        running = asyncio.create_task(_one_life(concurrency))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set():
            running.cancel()
        fault = (await asyncio.gather(running, return_exceptions=True))[0]
        if stop.is_set():
            return
        pause = 1.0 if monotonic() - started > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
        _log.error("worker lost its hold and begins anew", error=repr(fault), pause=pause)
        await _sleep(stop, pause)


async def _one_life(concurrency: int) -> None:
    worker_app = _worker_app()
    async with worker_app.open_async():
        await worker_app.run_worker_async(
            concurrency=concurrency,
            install_signal_handlers=False,
            update_heartbeat_interval=settings.WORKER_HEARTBEAT_SECONDS,
            stalled_worker_timeout=settings.WORKER_DEAD_AFTER_SECONDS,
            # Nobody wakes the worker when a lock comes free: the next event of the same object waits for this.
            fetch_job_polling_interval=0.25,
            abort_job_polling_interval=5.0,
            shutdown_graceful_timeout=_GRACE_SECONDS,
            delete_jobs="successful",
        )


def _worker_app() -> App:
    """The same tasks over an asynchronous connection. Only the worker's own bookkeeping goes there: what a
    task defers still
    goes through Django's connection, so that it commits with the task's rows.
    """
    connector = django_jobs.connector.get_worker_connector()  # type: ignore[attr-defined]  # DjangoConnector has it
    app = django_jobs.with_connector(connector)
    app.worker_defaults = {
        **app.worker_defaults,
        "task_middleware": [*(app.worker_defaults.get("task_middleware") or []), _log_job, _log_async_job],
    }
    return app


def _log_job(call_next: Callable[[], Any], context: JobContext, _worker: Any) -> Any:
    """Binds the job to every line that is logged within, and says how long it took."""
    started = monotonic()
    with structlog.contextvars.bound_contextvars(**_names(context)):
        try:
            return call_next()
        finally:
            _log.info("job", ms=round((monotonic() - started) * 1000))


async def _log_async_job(call_next: Callable[[], Any], context: JobContext, _worker: Any) -> Any:
    started = monotonic()
    with structlog.contextvars.bound_contextvars(**_names(context)):
        try:
            return await call_next()
        finally:
            _log.info("job", ms=round((monotonic() - started) * 1000))


def _names(context: JobContext) -> dict[str, Any]:
    return {"job_id": context.job.id, "task": context.job.task_name, "attempt": context.job.attempts}


async def _every(seconds: float, stop: asyncio.Event, work: Callable[[], object]) -> None:
    """Do `work` now and again until told to stop. A fault is logged and waits for its next turn like
    anything else.
    """
    while not stop.is_set():
        try:
            await sync_to_async(_with_connection, thread_sensitive=False)(work)
        except Exception:  # noqa: BLE001  one bad turn must not end the worker
            _log.exception("side work failed", work=getattr(work, "__name__", ""))
        await _sleep(stop, seconds)


def _with_connection(work: Callable[[], object]) -> None:
    close_old_connections()
    try:
        work()
    finally:
        close_old_connections()


def _ask_instances() -> None:
    """What every instance is asked again and again."""
    _each(schedule_due, schedule_readings)


def _keep_house() -> None:
    _each(
        fail_orphans,
        defer_forgotten,
        schedule_receivables,
        update_arrears,
        defer_unfinished,
        wake_forgotten,
        forget_old_jobs,
    )


def _each(*works: Callable[[], object]) -> None:
    """One after the other; what fails is logged and keeps none of the others from its turn."""
    for work in works:
        try:
            work()
        except Exception:  # noqa: BLE001  whatever it was, the others are not to suffer
            _log.exception("side work failed", work=getattr(work, "__name__", ""))


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
