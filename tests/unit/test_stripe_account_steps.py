"""A step happens once, whatever crashes, is repeated, forgotten or done twice at the same time.

The world here is a few lines: objects, a memory of idempotency keys that may be lost, and faults on demand. The real
thing, with HTTP and the official SDK, is walked in tests/crash/test_stripe_account_place.py.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from provider_federation.stripe_account import KEY_LIFE, Patience, StepRecord, StripeFailed
from provider_federation.stripe_account.steps import Step, run_step

START = datetime(2026, 11, 22, tzinfo=UTC)


class Crashed(BaseException):
    """The process is gone: nothing may catch this."""


class World:
    """Stripe, our journal and the clock; `faults` is consumed, one a point, in the order in which the points are met."""

    def __init__(self, faults=()):
        self.objects: list[str] = []
        self.memory: dict[str, tuple[datetime, str | StripeFailed]] = {}
        self.rows: dict[str, StepRecord] = {}
        self.faults = list(faults)
        self.at = START
        self.calls = 0

    def fault(self) -> str:
        return self.faults.pop(0) if self.faults else "ok"

    def crash(self) -> None:
        if self.fault() == "crash":
            raise Crashed

    # the journal

    def load(self, _key):
        return {name: row for name, row in self.rows.items() if name.startswith("step")}

    def begin(self, _key, step, idempotency_key, at):
        self.crash()
        old = self.rows.get(step)
        if old is None or old.result_id is None:
            self.rows[step] = StepRecord(idempotency_key, at, None, old.first_at if old else at)
        self.crash()

    def finish(self, _key, step, result_id, _at):
        self.crash()
        if self.rows[step].result_id is None:
            self.rows[step] = replace(self.rows[step], result_id=result_id)
        self.crash()
        return self.rows[step].result_id

    # Stripe

    def find(self, since):
        assert since is None or since <= self.at
        return self.objects[0] if self.objects else None

    def make(self, key):
        self.calls += 1
        fault = self.fault()
        if fault == "crash":
            raise Crashed
        if fault == "refused connection":
            raise StripeFailed("connection_failed", "", retryable=True, outcome_unknown=True)
        if fault == "429":
            raise StripeFailed("rate_limited", "", status=429, retryable=True)
        if fault == "forgotten":
            self.memory.clear()
        result = self.answer(key, fails=fault == "500")
        if fault == "crash after":
            raise Crashed
        if fault == "dropped":
            raise StripeFailed("connection_failed", "", retryable=True, outcome_unknown=True)
        if fault == "500 after commit":
            self.memory[key] = (self.at, self.failure())
            raise self.failure()
        return result

    def answer(self, key, *, fails):
        known = self.memory.get(key)
        if known is not None and self.at - known[0] < timedelta(hours=24):
            if isinstance(known[1], StripeFailed):
                raise self.failure(replayed=True)
            return known[1]
        if fails:
            self.memory[key] = (self.at, self.failure())
            raise self.failure()
        self.objects.append(f"obj_{len(self.objects)}")
        self.memory[key] = (self.at, self.objects[-1])
        return self.objects[-1]

    @staticmethod
    def failure(*, replayed=False):
        return StripeFailed(
            "stripe_unavailable", "", status=500, retryable=True, outcome_unknown=True, replayed=replayed
        )

    def step(self):
        return Step("order", "step", self.find, self.make)

    def run(self):
        return run_step(self.step(), self, lambda: self.at, Patience(sleep=lambda _seconds: None))


FAULTS = [
    "ok",
    "ok",
    "crash",
    "crash after",
    "refused connection",
    "dropped",
    "500",
    "500 after commit",
    "429",
    "forgotten",
]
waits = st.sampled_from([0, 1, 22 * 3600, 23 * 3600, 25 * 3600, 7 * 86_400])


@given(st.lists(st.sampled_from(FAULTS), max_size=25), st.lists(waits, min_size=30, max_size=30))
def test_one_object_whatever_happens(faults, pauses):
    world = World(faults)
    for pause in pauses:
        try:
            done = world.run()
        except (Crashed, StripeFailed) as stopped:
            event(type(stopped).__name__)
            world.at += timedelta(seconds=pause)
            continue
        assert world.objects == [done.result_id]
        assert world.run().result_id == done.result_id
        return
    raise AssertionError("it never came through")


@given(st.lists(st.sampled_from(FAULTS), max_size=12), st.lists(st.booleans(), max_size=60))
def test_two_workers_make_one_object(faults, turns):
    """Two workers, interleaved at every point where either waits for something; no lost memory while both are at it."""
    world = World([fault for fault in faults if fault != "forgotten"])
    done = [None, None]
    workers = [worker(world, done, number) for number in range(2)]
    for turn in [*turns, *[False, True] * 200]:
        next(workers[turn], None)
    assert len(world.objects) <= 1
    world.faults.clear()
    assert [world.run().result_id] == world.objects
    assert set(done) <= {None, *world.objects}


def worker(world, done, number):
    """The rules of run_step, unrolled so that another worker can come in between: load, find, begin, call, finish."""
    for _attempt in range(30):
        try:
            record = world.rows.get("step")
            yield
            if record is not None and record.result_id is not None:
                done[number] = record.result_id
                return
            seen = (
                [] if record is None else [world.find(None)]
            )  # run_step looks first only where something was begun
            yield
            step = Step(
                "order",
                "step",
                lambda since, seen=seen: seen.pop() if seen else world.find(since),
                world.make,
            )
            done[number] = run_step(step, Slowly(world, record), lambda: world.at, QUICK).result_id
        except (Crashed, StripeFailed):
            yield
        else:
            return


class Slowly:
    """The journal as it was when this worker first looked at it: the other one may have moved on since."""

    def __init__(self, world, record):
        self.world = world
        self.seen = [{} if record is None else {"step": record}]

    def load(self, key):
        return self.seen.pop() if self.seen else self.world.load(key)

    def begin(self, *arguments):
        self.world.begin(*arguments)

    def finish(self, *arguments):
        return self.world.finish(*arguments)


QUICK = Patience(tries=4, sleep=lambda _seconds: None)


def test_a_finished_step_calls_nobody():
    world = World()
    world.run()
    calls = world.calls
    world.run()
    assert world.calls == calls == 1


def test_the_journal_is_written_before_the_call():
    world = World(["ok", "ok", "crash"])  # two points of begin, then the call
    with pytest.raises(Crashed):
        world.run()
    assert world.rows["step"] == StepRecord("pf/order/step/1", START, None, START)


def test_the_same_key_while_stripe_remembers_it_and_another_one_after():
    world = World(["ok", "ok", "refused connection", *["refused connection"] * 3])
    with pytest.raises(StripeFailed):
        world.run()
    world.at += KEY_LIFE - timedelta(seconds=1)
    world.faults = ["crash"]
    with pytest.raises(Crashed):
        world.run()
    assert world.rows["step"].idempotency_key.endswith("/1")
    world.at += timedelta(seconds=1)
    world.run()
    assert world.rows["step"].idempotency_key.endswith("/2")
    assert world.rows["step"].first_at == START


def test_a_refusal_is_not_repeated():
    world = World()

    def refuse(_key):
        world.calls += 1
        raise StripeFailed("invalid_request", "no such currency", status=400)

    with pytest.raises(StripeFailed, match="invalid_request"):
        run_step(
            Step("order", "step", world.find, refuse),
            world,
            lambda: world.at,
            Patience(sleep=lambda _s: None),
        )
    assert world.calls == 1
    assert world.rows["step"].result_id is None


def test_patience_ends():
    slept = []
    patience = Patience(tries=10, seconds=2.0, pause=0.5, sleep=slept.append, clock=lambda: sum(slept))
    world = World(["ok", "ok", *["429"] * 10])
    with pytest.raises(StripeFailed) as failed:
        run_step(world.step(), world, lambda: world.at, patience)
    assert failed.value.retryable
    assert slept == [0.5, 1.0]
