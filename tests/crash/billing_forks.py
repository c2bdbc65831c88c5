"""Real processes that die at one chosen point, cheaply: a warmed-up parent forks one for each life.

The parent has imported everything and opened nothing; a child opens its own connections, counts the points that it
passes (before and after each call to Stripe and each commit) and kills or stops itself at the one that it was told.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITES = ("INSERT", "UPDATE", "DELETE", "SELECT PROCRASTINATE")


class Fuse:
    """Counts the points of this process; at the `at`-th one it sends itself `number`."""

    def __init__(self, at: int | None, number: int = signal.SIGKILL) -> None:
        self.at, self.number, self.met, self.lock = at, number, [], threading.Lock()

    def __call__(self, name: str) -> None:
        with self.lock:
            self.met.append(name)
            if len(self.met) == self.at:
                os.kill(os.getpid(), self.number)

    def around(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self(f"before {name}")
            result = original(*args, **named)
            self(f"after {name}")
            return result

        return call

    def arm(self) -> None:
        """Every call to Stripe, every commit through Django, every end of a job in the queue."""
        from django.db.backends.utils import CursorWrapper

        from provider_federation.stripe_account.transport import DeadlineClient

        DeadlineClient.request = self.around("Stripe call", DeadlineClient.request)
        for wrapper in _wrappers():
            wrapper._commit = self.around("commit", wrapper._commit)
        execute = CursorWrapper._execute

        def counted(cursor: Any, sql: Any, *rest: Any) -> Any:
            alone = not cursor.db.in_atomic_block and str(sql).lstrip().upper().startswith(_WRITES)
            run = self.around("commit of a statement", execute) if alone else execute
            return run(cursor, sql, *rest)

        CursorWrapper._execute = counted


def _wrappers() -> list[Any]:
    from django.db.backends.postgresql.base import DatabaseWrapper as Postgres
    from django.db.backends.sqlite3.base import DatabaseWrapper as Sqlite

    return [Postgres, Sqlite]


@dataclass
class ForkServer:
    """`call("function", fuse=7, …)` runs it in a child of its own; `module` holds the functions."""

    module: str
    environment: dict[str, str]
    folder: Path
    children: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        code = f"from tests.crash.billing_forks import serve; serve({self.module!r})"
        with (self.folder / "children.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._answer() == {"ready": True}, self.log()

    def start(self, function: str, /, *, fuse: int | None = None, stop: bool = False, **named: Any) -> int:
        """A child under way; its id."""
        self._ask(function=function, fuse=fuse, stop=stop, named=named)
        pid = self._answer()["pid"]
        self.children.append(pid)
        return pid

    def wait(self, pid: int, *, stopped: bool = False) -> int:
        """The child's exit code, minus the signal that ended it; with `stopped` it may also have stopped (0)."""
        self._ask(wait=pid, stopped=stopped)
        return self._answer()["status"]

    def result(self, pid: int) -> Any:
        return json.loads((self.folder / f"{pid}.json").read_text())

    def call(self, function: str, /, **named: Any) -> Any:
        """The result of a child that lives to its end."""
        pid = self.start(function, **named)
        status = self.wait(pid)
        assert status == 0, (function, status, self.log())
        return self.result(pid)

    def log(self) -> str:
        return (self.folder / "children.log").read_text()[-6000:]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def _ask(self, **request: Any) -> None:
        self.process.stdin.write(json.dumps({**request, "folder": str(self.folder)}) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        assert line, self.log()
        return json.loads(line)


def serve(module: str) -> None:
    """The parent: forks a child for each line until its input ends."""
    import django

    django.setup()
    functions = importlib.import_module(module)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], os.WUNTRACED if request["stopped"] else 0)
            code = 0 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
            print(json.dumps({"status": code}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _live(functions, request)
        print(json.dumps({"pid": pid}), flush=True)


def _live(functions: Any, request: dict[str, Any]) -> None:
    os.close(0)
    os.dup2(2, 1)
    try:
        fuse = Fuse(request["fuse"], signal.SIGSTOP if request["stop"] else signal.SIGKILL)
        fuse.arm()
        result = getattr(functions, request["function"])(**request["named"])
        answer = json.dumps({"result": result, "points": fuse.met}, default=str)
        (Path(request["folder"]) / f"{os.getpid()}.json").write_text(answer)
    except BaseException:  # noqa: BLE001  the parent reads it in the log; the child must end here whatever it was
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)
