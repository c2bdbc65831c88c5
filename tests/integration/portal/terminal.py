"""The command line as a shell sees it: the real entry point, both streams and the exit code."""

from __future__ import annotations

import io
import json
import shlex
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from provider_federation.cli import main


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """`terminal("portal sweep --json")`; `typed` is what the person answers."""

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, line: str, typed: str = "") -> Said:
        self.patch.setattr(sys, "argv", ["provider-federation", *shlex.split(line)])
        self.patch.setattr(sys, "stdin", io.StringIO(typed))
        self.capture.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return Said(int(left.value.code or 0), *self.capture.readouterr())
