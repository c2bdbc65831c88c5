"""Every replay store against one model, whatever the clock does and whoever opens it again."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg import sql

from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import MemoryRatchet, MemoryReplayStore
from provider_federation.protocol.replay import ReplayStoreFull

START = 1_790_000_000.0
WINDOW = 300.0
CAPACITY = 6


class Model(RuleBasedStateMachine):
    """What a verifier does: it asks for a token only while that is still good by its clock."""

    ratchet: Any

    def build(self) -> Any:
        raise NotImplementedError  # each kind of store below

    @initialize()
    def begin(self) -> None:
        self.store = self.build()
        self.now = START
        self.newest = START
        self.accepted: dict[tuple[str, str], float] = {}
        self.pairs: set[str] = set()

    @rule(seconds=st.sampled_from([-700.0, -61.0, -1.0, 0.0, 1.0, 59.0, 61.0, 299.0, 301.0, 700.0]))
    def the_clock_moves(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from("kl"), token=st.integers(0, 12), age=st.sampled_from([0.0, 1.0, 150.0, WINDOW]))
    def a_request_comes(self, key: str, token: int, age: float) -> None:
        pair, expires = (key, str(token)), self.now - age + WINDOW
        try:
            is_first = self.store.remember(*pair, expires, self.now)
        except ReplayStoreFull:
            assert sum(until >= self.now for until in self.accepted.values()) >= CAPACITY
            return
        # Once the clock was past its end it may be forgotten, whatever the clock says now; what then keeps the
        # same signature out is the time in it, as below.
        if pair in self.accepted and self.accepted[pair] >= max(self.now, self.newest):
            assert not is_first
        if is_first:
            # Never twice for the same signature, which has one time: neither now nor when the clock steps back.
            assert self.accepted.get(pair) != expires
            self.accepted[pair] = expires
        elif pair not in self.accepted:
            # A new one is refused only where something as old may have been forgotten.
            assert self.now < self.newest or expires < self.newest
        self.newest = max(self.newest, self.now)

    @rule()
    def the_process_starts_again(self) -> None:
        self.store = self.reopened()

    def reopened(self) -> Any:
        self.store.close()
        return self.build()

    @rule(pair=st.sampled_from(["", "a", "b"]), step=st.sampled_from(["set", "reset"]))
    def a_ratchet_moves(self, pair: str, step: str) -> None:
        if step == "set":
            self.ratchets().set(pair, self.now)
            self.pairs.add(pair)
        else:
            self.ratchets().reset(pair)
            self.pairs.discard(pair)
        assert {name for name in ("", "a", "b") if self.ratchets().is_set(name)} == self.pairs

    def ratchets(self) -> Any:
        return self.store

    def teardown(self) -> None:
        if hasattr(self, "store") and hasattr(self.store, "close"):
            self.store.close()


class Memory(Model):
    def build(self) -> Any:
        self.memory = MemoryRatchet()
        return MemoryReplayStore(capacity=CAPACITY)

    def reopened(self) -> Any:
        return self.store  # it forgets, and says so

    def ratchets(self) -> Any:
        return self.memory


class Sqlite(Model):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def build(self) -> Any:
        return SqliteReplayStore(Path(self.folder.name) / "replay.sqlite3", capacity=CAPACITY)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class Postgres(Model):
    def __init__(self) -> None:
        super().__init__()
        self.schema = f"replay_{uuid.uuid4().hex}"
        self._admin("CREATE SCHEMA {}")

    def _admin(self, statement: str) -> None:
        with psycopg.connect(os.environ["TEST_POSTGRES_URL"], autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(self.schema)))

    def build(self) -> Any:
        url = os.environ["TEST_POSTGRES_URL"]
        return PostgresReplayStore(
            f"{url}{'&' if '?' in url else '?'}options=-c%20search_path%3D{self.schema}", capacity=CAPACITY
        )

    def teardown(self) -> None:
        super().teardown()
        self._admin("DROP SCHEMA {} CASCADE")


@pytest.mark.parametrize(("machine", "examples"), [(Memory, 150), (Sqlite, 25), (Postgres, 12)])
def test_every_store_is_the_same_model(machine: type[Model], examples: int) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
