"""The pace of Stripe calls, kept in one row by all processes: on a clock that the test owns, without sleeping.

In the statements the test puts its own number where they ask for the time of the database.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from django.db import connection

from provider_federation.portal.revenue.models import StripePace
from provider_federation.portal.revenue.services import pace as module
from provider_federation.portal.revenue.services.pace import DatabasePace

KEY = "sk_test_pace"


@dataclass
class World:
    """One time for the processes and the database; sleeping is its passing."""

    now: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(round(seconds, 6))
        self.now += seconds

    def calls(self, *paces: DatabasePace, count: int) -> list[float]:
        """When each of so many calls left, the processes taking turns."""
        left = []
        for number in range(count):
            paces[number % len(paces)].wait()
            left.append(round(self.now - 1_000.0, 6))
        return left


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    run = module._run

    def at_that_time(query: str, **values: str | float) -> float:
        with_clock = query.replace("extract(epoch FROM clock_timestamp())", "%(now)s::float8")
        assert with_clock != query
        return run(with_clock, now=made.now, **values)

    monkeypatch.setattr(module, "_run", at_that_time)
    monkeypatch.setattr(module, "time", made)
    return made


def process(a_second: float = 10.0, key: str = KEY) -> DatabasePace:
    return DatabasePace(key, a_second)


def test_one_process_leaves_evenly(world: World) -> None:
    left = world.calls(process(), count=9)
    assert left == pytest.approx([number / 10 for number in range(9)])
    assert world.slept == pytest.approx([0.1] * 8)


def test_who_is_slow_by_itself_never_waits(world: World) -> None:
    pace = process()
    for _ in range(9):
        pace.wait()
        world.now += 0.5
    assert world.slept == []


def test_idle_time_is_not_saved_up_for_a_burst(world: World) -> None:
    pace = process()
    world.calls(pace, count=4)
    world.now += 60
    begun = world.now
    for _ in range(8):
        pace.wait()
    assert world.now - begun == pytest.approx(0.7)


def test_many_processes_together_keep_the_one_limit(world: World) -> None:
    """Each books four at a time, behind what the others booked."""
    left = world.calls(process(), process(), process(), count=36)
    assert left == sorted(left)
    assert StripePace.objects.get().free_at - 1_000 == pytest.approx(3.6)
    assert left[-1] <= 3.6
    for begin in left:  # no second holds more than the limit, and the three blocks that may meet
        assert sum(begin <= one < begin + 1 for one in left) <= 10 + 3 * 4


def test_accounts_have_a_pace_each(world: World) -> None:
    world.calls(process(), count=4)
    assert world.calls(process(key="sk_test_other"), count=1) == pytest.approx([0.3])
    assert StripePace.objects.count() == 2
    assert not StripePace.objects.filter(account__contains="sk_test").exists()  # the key itself is in no row


def test_a_429_holds_everybody_back_and_forgets_what_was_booked(world: World) -> None:
    told, other = process(), process()
    world.calls(told, other, count=2)
    begun = world.now
    told.slow_down(2.0)
    assert len(told._booked) == 0
    fresh = process()
    fresh.wait()
    assert world.now - begun == pytest.approx(2.0)
    told.wait()
    assert world.now - begun == pytest.approx(2.4)  # behind the four that the fresh one booked
    late = [round(world.now - begun, 6) for _ in range(4) if other.wait() is None]
    assert late[-1] >= 2.4  # three places it had already; the next it had to book behind everybody's


def test_two_429s_of_one_moment_count_once_and_a_later_one_from_then(world: World) -> None:
    one, other = process(), process()
    one.slow_down(2.0)
    other.slow_down(2.0)
    other.slow_down(0.5)  # never brings the time forward
    assert StripePace.objects.get().free_at == pytest.approx(1_002.0)
    world.now += 100
    one.slow_down(1.0)
    assert StripePace.objects.get().free_at == pytest.approx(1_101.0)
    one.wait()
    assert world.slept == [1.0]


def test_threads_of_a_process_share_its_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booking is done by one at a time: eight threads use two blocks of four."""
    pace, booked = process(a_second=1_000_000.0), []
    ready = threading.Barrier(8)
    monkeypatch.setattr(module, "_run", lambda *_query, **_values: booked.append(1) or 0.0)
    monkeypatch.setattr(module, "lend_connection", lambda: None)

    def work() -> None:
        ready.wait(10)
        pace.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(booked), len(pace._booked)) == (2, 0)


@pytest.mark.django_db(transaction=True)
def test_the_real_clock_of_the_database_is_read() -> None:
    """Once with nothing replaced: the first call leaves at once, and four places are taken."""
    DatabasePace(KEY, 1_000.0).wait()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        now = float(cursor.fetchone()[0])
    assert now - 60 < StripePace.objects.get().free_at < now + 0.01
