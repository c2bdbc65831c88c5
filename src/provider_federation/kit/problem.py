"""One family of errors for everything a caller can get wrong.

A `Problem` carries its HTTP status, a stable code and one sentence that says what to do. The JSON surface
answers it as
`{"ok": false, "error": <sentence>, "reason": <code>}`; the CLI prints the sentence and exits 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Problem(Exception):
    """An answer other than success. `status` is the HTTP status, `code` is stable, `message` says what to do."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details: Mapping[str, Any] = details

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"ok": False, "error": self.message, "reason": self.code, **self.details}


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no such {what}.")
