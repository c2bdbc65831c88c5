"""Replay stores: one wins, expired ones go, a full or absent store says no, a restart and a clock change nothing."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import MemoryReplayStore
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

    build.kind = request.param  # type: ignore[attr-defined]
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


def test_a_restart_forgets_nothing(make):
    if make.kind == "memory":
        return
    first = make()
    assert first.remember("k", "a", NOW + 300, NOW)
    first.close()
    assert not make().remember("k", "a", NOW + 300, NOW)
    assert not first.remember("k", "a", NOW + 300, NOW)  # opens again by itself


def _claim(build: Callable[[str], Any], where: str, gate: Any, results: Any) -> None:
    gate.wait()
    store = build(where)
    for token in range(20):
        results.put((token, store.remember("k", str(token), NOW + 300, NOW)))
    store.close()


def _sqlite(where: str) -> SqliteReplayStore:
    return SqliteReplayStore(where)


def _postgres(where: str) -> PostgresReplayStore:
    return PostgresReplayStore(where)


@pytest.mark.parametrize("build", [_sqlite, _postgres])
def test_of_two_processes_one_wins_also_on_a_new_store(build, request, tmp_path):
    where = request.getfixturevalue("postgres_url") if build is _postgres else str(tmp_path / "new.sqlite3")
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_claim, args=(build, where, gate, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in range(40)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    results.close()
    results.join_thread()
    assert sorted(token for token, won in outcomes if won) == list(range(20))


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


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 2000)), max_size=60))
def test_no_two_acceptances_within_a_window(uses):
    """Whatever the clock does: a token is accepted at most once while it could still be inside its window."""
    store = MemoryReplayStore(capacity=5)
    accepted = set()
    for key, token, drift in uses:
        now = NOW + drift
        expires = NOW + token * 50
        if now > expires:
            continue  # the verifier has refused that for its time already
        try:
            first = store.remember(key, str(token), expires, now)
        except ReplayStoreFull:
            continue
        assert not (first and (key, token) in accepted)
        if first:
            accepted.add((key, token))


def test_paths_may_be_text(tmp_path):
    store = SqliteReplayStore(str(tmp_path / "text.sqlite3"))
    assert store.remember("k", "a", NOW, NOW)
    store.close()
    assert Path(tmp_path / "text.sqlite3").exists()
