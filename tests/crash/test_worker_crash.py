"""Workers that are killed, frozen and stopped in the middle of a shard: each instance sees each effect once, and the run ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.crash.worker_portal import Portal, until
from tests.integration.portal.fleet.fakes import FakeInstance


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    portal = Portal(Path(tmp_path_factory.mktemp("portal")), os.environ["TEST_POSTGRES_URL"])
    try:
        portal.start()
        yield portal
    finally:
        portal.stop()


@pytest.fixture
def workers(portal: Portal) -> Iterator[Portal]:
    """The portal, without workers of the test before."""
    yield portal
    for process in portal.processes[1:]:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(20)


def close(fakes: list[FakeInstance]) -> None:
    for fake in fakes:
        fake.gate.clear()


def open_again(fakes: list[FakeInstance]) -> None:
    for fake in fakes:
        fake.gate.set()


def happened(fakes: list[FakeInstance]) -> bool:
    return all(fake.effects["draft"] for fake in fakes)


def once(view: dict, fakes: list[FakeInstance], attempts: int) -> None:
    assert [fake.effects["draft"] for fake in fakes] == [1] * len(fakes)
    assert {(call["status"], call["attempt"], call["result"]["invoiceCount"]) for call in view["calls"]} == {
        ("ok", attempts, 2)
    }


def test_killed_in_the_middle_of_a_shard(workers: Portal) -> None:
    fakes = workers.grow("kill-a", "kill-b", "kill-c", "kill-d")
    close(fakes)
    run = workers.run("draft", fakes)
    first = workers.worker()
    until(lambda: happened(fakes), why="the drafts to be made, unanswered")
    first.kill()
    first.wait(10)
    open_again(fakes)
    second, started = workers.worker(), time.monotonic()
    view = workers.done(run)
    assert time.monotonic() - started < 15
    once(view, fakes, attempts=2)
    assert "job of a dead worker requeued" in workers.log_of(second)


def test_a_frozen_worker_is_followed_and_comes_back(workers: Portal) -> None:
    """Its row is pruned by the worker that starts later (Procrastinate's issue 1518); when it wakes up, it must find its feet."""
    fakes = workers.grow("frozen-a", "frozen-b")
    close(fakes)
    run = workers.run("draft", fakes)
    frozen = workers.worker()
    until(lambda: happened(fakes), why="the drafts to be made, unanswered")
    frozen.send_signal(signal.SIGSTOP)
    until(lambda: heartbeat_age(workers) > 3.2, why="the heartbeat to be old")
    follower = workers.worker()  # prunes the frozen one's row as it starts
    open_again(fakes)
    once(workers.done(run), fakes, attempts=2)
    frozen.send_signal(signal.SIGCONT)
    assert workers.end(follower) == 0
    assert frozen.poll() is None
    again = workers.run("preview", fakes)
    assert workers.done(again)["run"]["progress"]["ok"] == 2  # done by the one that was frozen
    once(workers.ask("GET", f"/api/provider/fleet/{run}"), fakes, attempts=2)
    assert workers.end(frozen) == 0


def heartbeat_age(portal: Portal) -> float:
    with psycopg.connect(portal.environment["DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM procrastinate_workers"
        ).fetchone()
    return float(row[0] or 0) if row else 0.0


def test_a_stopped_worker_finishes_what_it_began(workers: Portal) -> None:
    fakes = workers.grow("term-a")
    close(fakes)
    run = workers.run("draft", fakes)
    worker = workers.worker()
    until(lambda: happened(fakes), why="the draft to be made, unanswered")
    worker.terminate()
    until(lambda: workers.line_of(worker, "worker stopping"), why="the worker to hear it")
    open_again(fakes)
    assert worker.wait(30) == 0
    once(workers.ask("GET", f"/api/provider/fleet/{run}"), fakes, attempts=1)


def test_two_workers_share_the_work_and_each_call_is_made_once(workers: Portal) -> None:
    fakes = workers.grow("two-a", "two-b", "two-c")
    pair = [workers.worker(), workers.worker()]
    runs = [workers.run("preview", fakes) for _ in range(6)]
    for run in runs:
        assert {(call["status"], call["attempt"]) for call in workers.done(run)["calls"]} == {("ok", 1)}
    assert sum(fake.requests["/api/billing/preview"] for fake in fakes) == 18
    assert [workers.end(process) for process in pair] == [0, 0]


def test_the_schedule_goes_on_when_one_of_two_dies(workers: Portal) -> None:
    (fake,) = workers.grow("sched-a")
    fake.add_invoice(4711, status="open", customer={"id": "9", "name": "Only here", "email": ""})
    pair = [workers.worker(), workers.worker()]

    def shown() -> list[int]:
        return [
            row["totalCents"]
            for row in workers.ask("GET", "/api/provider/invoices?search=Only%20here")["items"]
        ]

    until(lambda: shown() == [4711], why="the schedule to read the feed")
    pair[0].kill()
    fake.add_invoice(4712, customer={"id": "9", "name": "Only here", "email": ""})
    until(lambda: shown() == [4712, 4711], why="the other worker to go on")
    asked = fake.requests["/api/federation/changes"]
    until(lambda: fake.requests["/api/federation/changes"] >= asked + 2, why="two more turns")


def test_a_port_in_use_is_one_clear_line(portal: Portal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = portal.process("serve", "--port", port)
        assert process.wait(30) == 2
    [line] = [line for line in portal.log_of(process).splitlines() if line.strip()]
    assert f"127.0.0.1:{port}" in line
    assert line.endswith("[port_in_use]")


def test_migrating_twice_at_once_is_taking_turns(portal: Portal) -> None:
    pair = [portal.process("migrate"), portal.process("migrate")]
    assert [process.wait(60) for process in pair] == [0, 0]


def test_no_database_is_one_clear_line(portal: Portal) -> None:
    process = portal.process(
        "migrate", "--wait", "0", DATABASE_URL="postgresql://u:hunter2secret@127.0.0.1:9/none"
    )
    assert process.wait(30) == 2
    assert "[database_unreachable]" in portal.log_of(process)
    assert "hunter2secret" not in portal.log_of(process)


def test_no_secret_is_in_any_log(portal: Portal) -> None:
    """After all of the above: passwords, tokens, the instances' keys, the portal's own."""
    own = json.loads((portal.folder / "development-secrets.json").read_text())
    secrets = [*portal.secrets, *own.values()]
    assert len(own) >= 2
    assert len(portal.secrets) >= 3  # a password, a token, and at least one instance's key
    text = "\n".join(portal.log_of(process) for process in portal.processes)
    assert "request_id" in text
    assert "job_id" in text
    for secret in secrets:
        assert secret not in text
        assert secret.rpartition(":")[2] not in text
