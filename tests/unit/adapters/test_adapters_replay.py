"""Replay stores: one wins, expired ones go, a full or absent store says no, a restart and a clock change nothing."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from provider_federation.adapters import replay_postgres
from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import MemoryRatchet, MemoryReplayStore
from provider_federation.protocol.replay import ReplayStoreFull

NOW = 1_790_000_000.0


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A schema of its own in the test run's PostgreSQL."""
    url = os.environ["TEST_POSTGRES_URL"]
    name = f"replay_{os.getpid()}_{threading.get_ident()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        separator = "&" if "?" in url else "?"
        yield f"{url}{separator}options=-c%20search_path%3D{name}"
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make(request, tmp_path) -> Iterator[Callable[..., Any]]:
    """A function that makes a store on the same memory each time (but for `memory`)."""
    opened: list[Any] = []
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")

    def build(**options: Any) -> Any:
        if request.param == "memory":
            return MemoryReplayStore(**options)
        if request.param == "sqlite":
            store: Any = SqliteReplayStore(tmp_path / "replay.sqlite3", **options)
        else:
            store = PostgresReplayStore(url, **options)
        opened.append(store)
        return store

    build.kind = request.param
    yield build
    for store in opened:
        store.close()


def test_once_and_never_again(make):
    store = make()
    assert store.remember("k", "a", NOW + 300, NOW)
    assert not store.remember("k", "a", NOW + 300, NOW)
    assert not store.remember("k", "a", NOW + 300, NOW + 299)
    assert store.remember("k", "b", NOW + 300, NOW)
    assert store.remember("l", "a", NOW + 300, NOW)


def test_of_many_threads_one_gets_it(make):
    store, gate, won = make(), threading.Barrier(8), []

    def claim() -> None:
        gate.wait()
        won.append(store.remember("k", "a", NOW + 300, NOW))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_full_store_raises_and_forgets_nothing(make):
    store = make(capacity=3)
    for token in "abc":
        assert store.remember("k", token, NOW + 300, NOW)
    with pytest.raises(ReplayStoreFull):
        store.remember("k", "d", NOW + 300, NOW + 61)
    assert not store.remember("k", "a", NOW + 300, NOW + 61)
    assert store.remember("k", "e", NOW + 600, NOW + 301)  # the three have expired


def test_what_was_swept_away_stays_refused_when_the_clock_steps_back(make):
    store = make(capacity=1)
    assert store.remember("k", "a", NOW + 300, NOW)
    assert store.remember("k", "b", NOW + 900, NOW + 600)
    assert not store.remember("k", "a", NOW + 300, NOW)


def test_a_clock_that_jumped_ahead_and_came_back_costs_one_window_only(make):
    store = make()
    assert store.remember("k", "a", NOW + 300, NOW)
    assert store.remember("k", "b", NOW + 86_700, NOW + 86_400)  # a sweep, where that is by time
    assert not store.remember("k", "a", NOW + 300, NOW)
    assert store.remember("k", "c", NOW + 310, NOW + 10)


def test_a_ratchet_stays_until_an_operator_resets_it(make):
    store = MemoryRatchet() if make.kind == "memory" else make()
    assert not store.is_set("a")
    store.set("a", NOW)
    store.set("a", NOW + 5)
    store.set("b", NOW + 9)
    assert (store.is_set("a"), store.is_set("b"), store.is_set("c"), store.is_set("")) == (
        True,
        True,
        False,
        False,
    )
    if make.kind != "memory":
        store.close()
        store = make()
        assert store.ratchets() == {"a": NOW, "b": NOW + 9}
    store.reset("a")
    store.reset("a")
    assert (store.is_set("a"), store.is_set("b")) == (False, True)
    store.set("a", NOW + 99)
    assert store.is_set("a")


def test_a_restart_forgets_nothing(make):
    if make.kind == "memory":
        return
    first = make()
    assert first.remember("k", "a", NOW + 300, NOW)
    first.close()
    assert not make().remember("k", "a", NOW + 300, NOW)
    assert not first.remember("k", "a", NOW + 300, NOW)  # opens again by itself


def _claim(build: Callable[[str], Any], where: str, gate: Any, results: Any, times: int) -> None:
    """Everybody wants the same 20 tokens, `times` threads in each process."""
    store = build(where)
    gate.wait()

    def claim() -> None:
        results.put([token for token in range(20) if store.remember("k", str(token), NOW + 300, NOW)])

    threads = [threading.Thread(target=claim) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()


def _sqlite(where: str) -> SqliteReplayStore:
    return SqliteReplayStore(where, wait=30)


def _postgres(where: str) -> PostgresReplayStore:
    return PostgresReplayStore(where, wait=30)


@pytest.mark.parametrize("build", [_sqlite, _postgres])
def test_threats_002_003_of_50_callers_in_5_processes_one_wins_also_on_a_new_store(build, request, tmp_path):
    where = request.getfixturevalue("postgres_url") if build is _postgres else str(tmp_path / "new.sqlite3")
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(5), context.Queue()
    processes = [context.Process(target=_claim, args=(build, where, gate, results, 10)) for _ in range(5)]
    for process in processes:
        process.start()
    won = [token for _ in range(50) for token in results.get(timeout=60)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    results.close()
    results.join_thread()
    assert sorted(won) == list(range(20))


def test_a_forked_process_uses_a_connection_of_its_own(make):
    if make.kind == "memory":
        return
    store = make()
    assert store.remember("k", "a", NOW + 300, NOW)
    context = multiprocessing.get_context("fork")
    results = context.Queue()

    def child() -> None:
        results.put((store.remember("k", "a", NOW + 300, NOW), store.remember("k", "b", NOW + 300, NOW)))

    process = context.Process(target=child)
    process.start()
    assert results.get(timeout=60) == (False, True)
    process.join(60)
    process.close()
    results.close()
    results.join_thread()
    assert not store.remember("k", "b", NOW + 300, NOW)


def test_without_its_file_or_database_a_store_raises(tmp_path):
    with pytest.raises(sqlite3.Error):
        SqliteReplayStore(tmp_path / "no" / "such" / "folder.sqlite3").remember("k", "a", NOW, NOW)
    (tmp_path / "garbage").write_bytes(b"this is not a database" * 100)
    with pytest.raises(sqlite3.Error):
        SqliteReplayStore(tmp_path / "garbage").remember("k", "a", NOW, NOW)
    with pytest.raises(psycopg.Error):
        PostgresReplayStore("postgresql://nobody@127.0.0.1:1/none").remember("k", "a", NOW, NOW)


def test_a_locked_file_is_no_memory(tmp_path):
    path = tmp_path / "locked.sqlite3"
    store = SqliteReplayStore(path, wait=0.05)
    assert store.remember("k", "a", NOW + 300, NOW)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError):
        store.remember("k", "b", NOW + 300, NOW)
    other.execute("ROLLBACK")
    other.close()
    assert store.remember("k", "b", NOW + 300, NOW)
    store.close()


def _quickly(step: Callable[[], Any], seconds: float = 4.0) -> None:
    started = time.monotonic()
    with pytest.raises((psycopg.Error, sqlite3.Error, TimeoutError)):
        step()
    assert time.monotonic() - started < seconds


def _without_room(path: str, results: Any) -> None:
    """A disk that takes nothing more: no file of this process grows any further."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path).stat().st_size, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SqliteReplayStore(path)
    try:
        for number in range(500):
            store.remember("k", f"{number} {'x' * 4000}", NOW + 300, NOW)
    except sqlite3.Error as error:
        results.put(type(error).__name__)


def test_threat_005_a_full_disk(tmp_path):
    path = tmp_path / "full.sqlite3"
    first = SqliteReplayStore(path)
    assert first.remember("k", "a", NOW + 300, NOW)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_without_room, args=(str(path), results))
    process.start()
    failure = results.get(timeout=60)
    process.join(60)
    process.close()
    results.close()
    results.join_thread()
    assert failure == "OperationalError"
    assert not first.remember("k", "a", NOW + 300, NOW)
    assert first.remember("k", "b", NOW + 300, NOW)
    first.close()


def test_threat_005_a_file_that_may_not_be_written(tmp_path):
    path = tmp_path / "read-only.sqlite3"
    store = SqliteReplayStore(path)
    assert store.remember("k", "a", NOW + 300, NOW)
    store._connection.execute("PRAGMA query_only = ON")  # root may write everything else
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.remember("k", "b", NOW + 300, NOW)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.set("pair", NOW)
    store.close()


def test_threat_005_a_database_that_may_not_be_written(postgres_url):
    store = PostgresReplayStore(postgres_url)
    assert store.remember("k", "a", NOW + 300, NOW)
    store._connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        store.remember("k", "b", NOW + 300, NOW)
    store.close()


def test_threat_005_a_locked_table(postgres_url):
    store = PostgresReplayStore(postgres_url, wait=0.3)
    assert store.remember("k", "a", NOW + 300, NOW)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE provider_federation_replay IN ACCESS EXCLUSIVE MODE")
        _quickly(lambda: store.remember("k", "b", NOW + 300, NOW))
    assert store.remember("k", "b", NOW + 300, NOW)
    store.close()


def test_what_was_swept_while_we_waited_stays_refused_whatever_isolation_the_database_prefers(postgres_url):
    """Under REPEATABLE READ the mark would be read as it was before the sweep that we waited for."""
    store = PostgresReplayStore(postgres_url + "%20-c%20default_transaction_isolation%3Drepeatable%5C%20read")
    assert store.remember("k", "a", NOW + 300, NOW)
    said: list[bool] = []
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (replay_postgres._LOCK,))
        waiting = threading.Thread(target=lambda: said.append(store.remember("k", "a", NOW + 300, NOW)))
        waiting.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = %s"
        deadline = time.monotonic() + 5
        assert store._connection is not None
        pid = (store._connection.info.backend_pid,)
        while other.execute(waits, pid).fetchone() == (0,) and time.monotonic() < deadline:
            pass
        other.execute("DELETE FROM provider_federation_replay")
        other.execute("UPDATE provider_federation_replay_mark SET forgotten = %s", (NOW + 300,))
    waiting.join(5)
    assert said == [False]
    store.close()


def test_threat_005_a_database_that_hangs(postgres_url):
    """Its process is stopped: the connection stands, and nothing ever comes."""
    store = PostgresReplayStore(postgres_url, wait=0.3)
    assert store.remember("k", "a", NOW + 300, NOW)
    backend = store._connection.info.backend_pid
    try:
        os.kill(backend, signal.SIGSTOP)
        _quickly(lambda: store.remember("k", "b", NOW + 300, NOW))
        assert not store.remember("k", "a", NOW + 300, NOW)  # by a new connection
    finally:
        os.kill(backend, signal.SIGCONT)
    store.close()


def test_threat_005_a_server_that_accepts_and_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = PostgresReplayStore(
            f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/none", wait=0.3
        )
        _quickly(lambda: store.remember("k", "a", NOW + 300, NOW))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_threat_005_who_waits_behind_somebody_who_hangs_does_not_wait_longer(kind, request, tmp_path):
    if kind == "sqlite":
        store: Any = SqliteReplayStore(tmp_path / "busy.sqlite3", wait=0.3)
    else:
        store = PostgresReplayStore(request.getfixturevalue("postgres_url"), wait=0.3)
    with store._lock:
        _quickly(lambda: store.remember("k", "a", NOW + 300, NOW), 1.0)
    assert store.remember("k", "a", NOW + 300, NOW)
    store.close()


def test_a_broken_connection_is_replaced(postgres_url):
    store = PostgresReplayStore(postgres_url)
    assert store.remember("k", "a", NOW + 300, NOW)
    assert store._connection is not None
    backend = store._connection.info.backend_pid
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
    with pytest.raises(psycopg.Error):
        store.remember("k", "b", NOW + 300, NOW)
    assert store.remember("k", "b", NOW + 300, NOW)
    assert not store.remember("k", "a", NOW + 300, NOW)
    store.close()


def test_paths_may_be_text(tmp_path):
    store = SqliteReplayStore(str(tmp_path / "text.sqlite3"))
    assert store.remember("k", "a", NOW, NOW)
    store.close()
    assert Path(tmp_path / "text.sqlite3").exists()
