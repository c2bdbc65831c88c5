"""The simulator's memory: one account for each secret key, objects in memory, every change written through
to SQLite.

A request works on a `Transaction`: reads see what it changed, and nothing outlives it unless it commits. A
commit is one SQLite transaction that holds the changed objects, the events and webhook deliveries they made,
and the idempotency record of the request, so that a `kill -9` leaves either all of it or nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
_SCHEMA = """
create table if not exists account (id text primary key, created integer not null);
create table if not exists object (
  account text not null, kind text not null, id text not null, seq integer not null, body text not null,
  primary key (account, kind, id)) without rowid;
create table if not exists idempotency (
  account text not null, key text not null, fingerprint text not null, status integer not null, body text not
  null, request_id text not null, at integer not null, primary key (account, key)) without rowid; create
  table if not exists setting (name text primary key, value text not null);
"""


@dataclass
class Account:
    """One Stripe account: its objects by kind and id, oldest first, and what its keys answered."""

    id: str
    created: int
    name: str = "Stripe simulator"
    after_retries: str = "cancel"
    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    remembered: dict[str, Remembered] = field(default_factory=dict)

    def kind(self, kind: str) -> dict[str, Object]:
        return self.objects.setdefault(kind, {})


@dataclass(frozen=True)
class Remembered:
    """The answer that an idempotency key stands for. `at` in seconds since 1970 by the simulator's clock."""

    key: str
    fingerprint: str
    status: int
    body: str
    request_id: str
    at: int


def account_id(api_key: str) -> str:
    """The account behind a secret key: the same key is always the same account, and no key is ever stored."""
    return f"acct_1{hashlib.sha256(api_key.encode()).hexdigest()[:15]}"


class Store:
    """All accounts. `path` None keeps everything in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self.accounts: dict[str, Account] = {}
        self.settings: dict[str, str] = {}
        self.due: list[tuple[int, str, str, str]] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        self.pending: dict[str, str] = {}  # webhook deliveries that wait, and their account
        self._sequence = 0
        # made in the thread that starts the server, then used by its event loop only
        self._database = (
            sqlite3.connect(path, isolation_level=None, check_same_thread=False) if path else None
        )
        if self._database:
            self._open(self._database)

    def _open(self, database: sqlite3.Connection) -> None:
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=normal")
        database.executescript(_SCHEMA)
        for identity, created in database.execute("select id, created from account"):
            self.accounts[identity] = Account(identity, created)
        for account, kind, identity, sequence, body in database.execute(
            "select account, kind, id, seq, body from object order by seq"
        ):
            self._place(self.accounts[account], kind, identity, json.loads(body))
            self._sequence = sequence
        for account, *record in database.execute(
            "select account, key, fingerprint, status, body, request_id, at from idempotency"
        ):
            self.accounts[account].remembered[record[0]] = Remembered(*record)
        self.settings.update(database.execute("select name, value from setting"))
        for account in self.accounts.values():
            account.name = self.settings.get(f"name:{account.id}", account.name)
            account.after_retries = self.settings.get(f"after_retries:{account.id}", account.after_retries)

    def account(self, identity: str, now: int) -> Account:
        """The account, made at its first use."""
        found = self.accounts.get(identity)
        if found is None:
            name = self.settings.get(f"name:{identity}", Account.name)
            found = self.accounts[identity] = Account(identity, now, name)
            if self._database:
                self._database.execute("insert into account values (?, ?)", (identity, now))
        return found

    def rename(self, account: Account, name: str) -> None:
        """Give the account the business name that its invoices show."""
        account.name = name
        self.set(f"name:{account.id}", name)

    def give_up_with(self, account: Account, outcome: str) -> None:
        """What becomes of a subscription when all retries failed: `cancel`, `unpaid` or `past_due`."""
        account.after_retries = outcome
        self.set(f"after_retries:{account.id}", outcome)

    def set(self, name: str, value: str) -> None:
        self.settings[name] = value
        if self._database:
            self._database.execute("insert or replace into setting values (?, ?)", (name, value))

    def commit(self, transaction: Transaction, record: Remembered | None) -> None:
        """Make a transaction's changes, and the record of its idempotency key, the truth in one step."""
        account, changes = transaction.account, transaction.changes
        if self._database and (changes or record):
            self._write(self._database, account.id, changes, record)
        for (kind, identity), body in changes.items():
            self._place(account, kind, identity, body)
        if record:
            account.remembered[record.key] = record

    def _write(
        self,
        database: sqlite3.Connection,
        account: str,
        changes: dict[tuple[str, str], Object | None],
        record: Remembered | None,
    ) -> None:
        database.execute("begin immediate")
        try:
            for (kind, identity), body in changes.items():
                self._write_object(database, account, kind, identity, body)
            if record:
                row = (
                    account,
                    record.key,
                    record.fingerprint,
                    record.status,
                    record.body,
                    record.request_id,
                    record.at,
                )
                database.execute("insert or replace into idempotency values (?, ?, ?, ?, ?, ?, ?)", row)
            database.execute("commit")
        except BaseException:
            database.execute("rollback")
            raise

    def _write_object(
        self, database: sqlite3.Connection, account: str, kind: str, identity: str, body: Object | None
    ) -> None:
        if body is None:
            database.execute(
                "delete from object where account=? and kind=? and id=?", (account, kind, identity)
            )
            return
        self._sequence += 1
        database.execute(
            (
                "insert into object values (?, ?, ?, ?, ?) on conflict (account, kind, id) do update set "
                "body=excluded.body"
            ),
            (account, kind, identity, self._sequence, json.dumps(body, separators=(",", ":"))),
        )

    def _place(self, account: Account, kind: str, identity: str, body: Object | None) -> None:
        if body is None:
            account.kind(kind).pop(identity, None)
            return
        account.kind(kind)[identity] = body
        if kind == "_delivery":
            self._watch(account.id, body)
        if body.get("_due") is not None:
            heapq.heappush(self.due, (body["_due"], account.id, kind, identity))
        if body.get("_token"):
            self.tokens[body["_token"]] = (account.id, identity)

    def _watch(self, account: str, delivery: Object) -> None:
        if delivery["status"] == "pending":
            self.pending[delivery["id"]] = account
        else:
            self.pending.pop(delivery["id"], None)

    def forget(self, account: Account, *keys: str) -> None:
        """Drop idempotency records: the given ones, or all of the account."""
        chosen = keys or tuple(account.remembered)
        for key in chosen:
            account.remembered.pop(key, None)
            if self._database:
                self._database.execute("delete from idempotency where account=? and key=?", (account.id, key))

    def next_due(self, now: int) -> tuple[int, str, str, str] | None:
        """The earliest thing that is due by `now`, taken from the queue: (when, account, kind, id)."""
        while self.due and self.due[0][0] <= now:
            entry = heapq.heappop(self.due)
            body = self.accounts[entry[1]].kind(entry[2]).get(entry[3]) if entry[1] in self.accounts else None
            if body is not None and body.get("_due") == entry[0]:
                return entry
        return None

    def reset(self, only: str | None = None) -> None:
        """Forget every account, or one."""
        for identity in [only] if only else list(self.accounts):
            self.accounts.pop(identity, None)
            self.pending = {one: account for one, account in self.pending.items() if account != identity}
            self.tokens = {token: place for token, place in self.tokens.items() if place[0] != identity}
            if self._database:
                for table in ("object", "idempotency"):
                    self._database.execute((f"delete from {table} where account=?"), (identity,))  # noqa: S608  two fixed names
                self._database.execute("delete from account where id=?", (identity,))

    def close(self) -> None:
        if self._database:
            self._database.close()


class Transaction:
    """One request's view of one account. `changes` holds the new bodies; None means removed."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.changes: dict[tuple[str, str], Object | None] = {}

    def find(self, kind: str, identity: str) -> Object | None:
        """The object as this transaction sees it, to read only; None when there is none."""
        if (kind, identity) in self.changes:
            return self.changes[kind, identity]
        return self.account.kind(kind).get(identity)

    def edit(self, kind: str, identity: str) -> Object:
        """The object to change. KeyError when there is none."""
        if (kind, identity) not in self.changes:
            self.changes[kind, identity] = deep_copy(self.account.kind(kind)[identity])
        body = self.changes[kind, identity]
        if body is None:
            raise KeyError(identity)
        return body

    def add(self, kind: str, body: Object) -> Object:
        self.changes[kind, body["id"]] = body
        return body

    def remove(self, kind: str, identity: str) -> None:
        self.changes[kind, identity] = None

    def newest(self, kind: str) -> Iterator[Object]:
        """All objects of a kind, newest first."""
        stored = self.account.kind(kind)
        for (changed_kind, identity), body in reversed(self.changes.items()):
            if changed_kind == kind and body is not None and identity not in stored:
                yield body
        for identity in reversed(stored):
            body = self.changes.get((kind, identity), stored[identity])
            if body is not None:
                yield body


def deep_copy(value: Any) -> Any:
    """JSON data copied all the way down; several times faster than `copy.deepcopy`."""
    if isinstance(value, dict):
        return {name: deep_copy(item) for name, item in value.items()}
    return [deep_copy(item) for item in value] if isinstance(value, list) else value
