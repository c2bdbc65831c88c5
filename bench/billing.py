"""How long a billing run takes: planning from frozen usage, and executing against a bare loop of the same calls.

`make bench-billing` measures each target of below, says of each whether it holds, and writes all of them, also those
that miss, into their section of docs/performance.md (ARGS="--clients=200 --dry" for a quick look that writes nothing).

Everything runs on this machine, each part a process of its own: an embedded PostgreSQL, the Stripe simulator, one
process that answers for all instances, `provider-federation portal worker` with four jobs at once, and the bare loop,
which makes the same four calls through the same StripeAccount with as many under way at once (billing_stand_ins.py).
Half of the bare loop runs before an execution and half after it, so that both saw the same machine, three times over;
each figure is the median. An execution counts from the operator's click to the run's end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.billing_rig import Done, Portal, Processes, simulator_is_far

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench-billing -->", "<!-- /bench-billing -->"
JOBS, CLIENTS, FEWER, ROUNDS = 4, 1000, 200, 3
FAR_SECONDS = 0.15
PLAN_SECONDS, RATIO, CALLS, MEMORY_MB = 30.0, 0.80, 4.0, 64.0


@dataclass(frozen=True)
class Row:
    """One line of the table; `holds` is None for a figure that nobody set a limit to."""

    what: str
    measured: str
    limit: str = ""
    holds: bool | None = None

    def __str__(self) -> str:
        said = {None: "", True: "holds", False: "missed"}[self.holds]
        return f"| {self.what} | {self.measured} | {self.limit} | {said} |"


@dataclass(frozen=True)
class Scene:
    """One execution: so many clients and worker processes, calls at once in each job, seconds that a call takes, and the
    account's limit of calls a second (0: none of ours).
    """

    clients: int
    workers: int = 1
    at_once: int = 4
    seconds: float = 0.0
    limit: int = 0

    def __str__(self) -> str:
        far = f"{self.seconds * 1000:.0f} ms a call" if self.seconds else "Stripe answers at once"
        limit = f", at most {self.limit} calls a second" if self.limit else ""
        several = f"{self.workers} workers" if self.workers > 1 else "one worker"
        return (
            f"{far}{limit}: {self.clients:,} clients, {several}, {JOBS} jobs of {self.at_once} calls at once"
        )


def main() -> int:
    """Measure, print, write; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    parser.add_argument("--more", action="store_true", help="also other numbers of workers and calls at once")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pf-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # the database runs as a user of its own when we are root
        with Processes(Path(name)) as processes:
            rows = list(_measure(processes, chosen.clients, more=chosen.more))
    if not chosen.dry:
        _write(rows, load)
    return 1 if any(row.holds is False for row in rows) else 0


def _measure(processes: Processes, clients: int, *, more: bool) -> Any:
    portal = Portal(processes, clients)
    for row in _rows(portal, min(clients, FEWER), more=more):
        print(row, flush=True)
        yield row


def _rows(portal: Portal, fewer: int, *, more: bool) -> Any:
    clients = portal.clients
    plan, run = portal.plan(clients)
    yield Row(
        f"planning {clients:,} clients from frozen usage",
        f"{plan:.1f} s",
        f"under {PLAN_SECONDS:.0f} s",
        plan < PLAN_SECONDS,
    )
    yield from _against_the_loop(portal, Scene(clients, at_once=1), run)
    yield from _against_the_loop(portal, Scene(clients))
    yield from _against_the_loop(portal, Scene(fewer, seconds=FAR_SECONDS))
    for limit in (20, 80):
        yield _at_the_limit(
            portal, Scene(fewer if limit > 20 else fewer // 2, seconds=FAR_SECONDS, limit=limit)
        )
    if more:
        for scene in (Scene(clients, workers=2, at_once=1), Scene(clients, workers=2)):
            yield from _against_the_loop(portal, scene)
        for at_once in (1, 2, 3, 8):
            yield _at_the_limit(portal, Scene(fewer, at_once=at_once, seconds=FAR_SECONDS, limit=80))


def _against_the_loop(portal: Portal, scene: Scene, run: Any = None) -> Any:
    """Executions, each between two halves of the bare loop, and what their workers used. The median of the rounds: the
    bare loop's own speed differs by a tenth from one to the next.
    """
    rounds = [
        _round(portal, scene, (number == 0 and run) or portal.plan(scene.clients)[1])
        for number in range(ROUNDS)
    ]
    ratio = statistics.median(one.loop_seconds / one.done.seconds for one in rounds)
    ours, loops = (
        statistics.median(scene.clients / seconds for seconds in taken)
        for taken in zip(*((one.done.seconds, one.loop_seconds) for one in rounds), strict=True)
    )
    each = ", ".join(f"{one.loop_seconds / one.done.seconds:.2f}" for one in rounds)
    yield Row(
        f"execution against the bare loop, {scene}",
        f"**{ratio:.2f}** ({each}; {ours:.1f} against {loops:.1f} clients a second)",
        f"at least {RATIO:.2f}",
        ratio >= RATIO,
    )
    used, bare = (
        statistics.median(1000 * seconds / scene.clients for seconds in taken)
        for taken in zip(*((one.done.processor, one.loop_processor) for one in rounds), strict=True)
    )
    yield Row(
        "processor time for a client there: worker, bare loop",
        f"{used:.1f} ms, {bare:.1f} ms ({bare / used:.2f})",
    )
    if run is not None:
        yield from _calls_and_memory(rounds[0].done, scene.clients)


@dataclass(frozen=True)
class Round:
    """One execution, and the bare loop's seconds and processor seconds for as many clients around it."""

    done: Done
    loop_seconds: float
    loop_processor: float


def _round(portal: Portal, scene: Scene, run: Any) -> Round:
    loops = [portal.processes.bare(JOBS * scene.at_once, scene.clients) for _ in range(scene.workers)]
    with simulator_is_far(portal.processes.simulator, scene.seconds):
        before = portal.loop(loops, scene.clients // 2)
        done = portal.execute(run, JOBS, scene.workers, scene.at_once, scene.limit)
        after = portal.loop(loops, scene.clients - scene.clients // 2)
    seconds, processor = (a + b for a, b in zip(before, after, strict=True))
    return Round(done, seconds, processor)


def _calls_and_memory(done: Done, clients: int) -> Any:
    yield Row(
        "calls to Stripe for a client there, the list of the run included",
        f"{done.calls / clients:.2f}",
        "4, and one list a run",
        done.calls <= CALLS * clients + 1,
    )
    yield Row(
        "memory that the worker grew by there",
        f"{done.grown_mb:.0f} MB",
        f"under {MEMORY_MB:.0f} MB",
        done.grown_mb < MEMORY_MB,
    )


def _at_the_limit(portal: Portal, scene: Scene) -> Row:
    """How much of what the account's limit allows is used."""
    run = portal.plan(scene.clients)[1]
    with simulator_is_far(portal.processes.simulator, scene.seconds):
        done = portal.execute(run, JOBS, scene.workers, scene.at_once, scene.limit)
    allowed = scene.limit / CALLS
    rate = scene.clients / done.seconds
    return Row(
        f"execution under the account's limit, {scene}",
        f"{rate:.1f} of {allowed:.1f} clients a second ({rate / allowed:.2f})",
    )


def _write(rows: list[Row], load: float) -> None:
    """Our own section of docs/performance.md; the others' stay as they are."""
    about = f"""Three leads and AI usage a client; {os.cpu_count()} cores, load {load:.1f} before it began. Everything runs on this machine: an embedded
PostgreSQL, the Stripe simulator, one process for all instances, real worker processes, and the bare loop, which makes the same four
calls with the same parameters through the same StripeAccount in as many processes with as many calls under way at once, half of it
before the execution and half after; medians of {ROUNDS} rounds. An execution counts from the click to the run's end."""
    table = ["| what | measured | wanted | |", "|---|---:|---:|---|", *map(str, rows)]
    section = "\n".join([BEGIN, "## Billing runs (`make bench-billing`)", "", about, "", *table, END])
    before, rest = PAGE.read_text().split(BEGIN, 1)
    PAGE.write_text(before + section + rest.split(END, 1)[1])


if __name__ == "__main__":
    began = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - began:.0f} s in all", flush=True)
    sys.exit(code)
