"""What can come of a call, as values. A call never raises for what the other side did.

`code` is stable and goes into rows and logs; `sentence` is for people and holds nothing secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Answered:
    """The instance did it: a 2xx with a JSON object whose `ok` is not false.

    `data` is that object; `elapsed` is in seconds over all attempts; `clock_offset_ms` is the instance's
    clock minus ours (None when the answer carried no Date); `replayed` is true when it gave the first answer
    again.
    """

    status: int
    data: dict[str, Any]
    elapsed: float = 0.0
    clock_offset_ms: int | None = None
    replayed: bool = False
    attempts: int = 1

    @property
    def ok(self) -> bool:
        return True

    @property
    def code(self) -> str:
        return "ok"

    @property
    def sentence(self) -> str:
        return "Answered (replayed)." if self.replayed else "Answered."


@dataclass(frozen=True)
class RefusedThere:
    """The instance said no: any other status, with the contract's `reason` as `code` where it gave one, else
    `http_<status>`. `retry_after` is what it asked for, in seconds.
    """

    status: int
    code: str
    message: str
    elapsed: float = 0.0
    clock_offset_ms: int | None = None
    attempts: int = 1
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        return False

    @property
    def sentence(self) -> str:
        return f"Refused by the instance ({self.status}, {self.code}): {self.message}"


@dataclass(frozen=True)
class TimedOut:
    """No whole answer within the call's deadline. A write may have happened: ask again with the same
    idempotency key.
    """

    elapsed: float
    attempts: int = 1
    clock_offset_ms: int | None = None

    @property
    def ok(self) -> bool:
        return False

    @property
    def code(self) -> str:
        return "timed_out"

    @property
    def sentence(self) -> str:
        return f"No answer within {self.elapsed:.1f} s."


@dataclass(frozen=True)
class Unreachable:
    """No connection, or it broke. `reason` is a code: `dns_failed connect_failed tls_failed connection_lost
    ssrf_blocked base_url_not_allowed cannot_sign`.
    """

    reason: str
    detail: str = ""
    elapsed: float = 0.0
    attempts: int = 1
    clock_offset_ms: int | None = None

    @property
    def ok(self) -> bool:
        return False

    @property
    def code(self) -> str:
        return self.reason

    @property
    def sentence(self) -> str:
        return _UNREACHABLE.get(self.reason, "The instance cannot be reached.") + (
            f" ({self.detail})" if self.detail else ""
        )


@dataclass(frozen=True)
class BadAnswer:
    """An answer that we do not believe. `reason` is a code: `response_too_large encoding_not_allowed
    redirect_refused not_json not_an_object too_deep bad_http response_identity_mismatch page_cap
    unsigned_answer wrongly_bound_answer internal_error` (the last is a fault of ours; a write may have happened).
    """

    reason: str
    detail: str = ""
    status: int = 0
    elapsed: float = 0.0
    attempts: int = 1
    clock_offset_ms: int | None = None

    @property
    def ok(self) -> bool:
        return False

    @property
    def code(self) -> str:
        return self.reason

    @property
    def sentence(self) -> str:
        return _BAD.get(self.reason, "The instance gave an answer that cannot be used.") + (
            f" ({self.detail})" if self.detail else ""
        )


Outcome: TypeAlias = Answered | RefusedThere | TimedOut | Unreachable | BadAnswer

_UNREACHABLE = {
    "dns_failed": "The instance's name cannot be resolved.",
    "connect_failed": "The instance does not accept connections.",
    "tls_failed": "The instance's certificate cannot be trusted.",
    "connection_lost": "The instance closed the connection before it had answered.",
    "ssrf_blocked": "The instance's address is not one that this portal may call.",
    "base_url_not_allowed": "The instance's base URL is not one that this portal may call.",
    "cannot_sign": "There is no key in force to sign this call with.",
}
_BAD = {
    "response_too_large": "The answer is larger than this call allows.",
    "encoding_not_allowed": "The answer is compressed, which this portal asked not to have.",
    "redirect_refused": "The instance answered with a redirect; the portal follows none.",
    "not_json": "The answer is not JSON that this portal accepts.",
    "not_an_object": "The answer is JSON, but not an object.",
    "too_deep": "The answer's JSON is nested too deeply.",
    "bad_http": "The answer is not valid HTTP.",
    "response_identity_mismatch": "The answer comes from another instance or org than the one called.",
    "unsigned_answer": "The answer is not signed, so it counts as none; the instance may have acted.",
    "wrongly_bound_answer": "The answer's signature is not this instance's for this call, so it counts as none.",
    "page_cap": "The instance's list goes on for more pages than it may.",
    "internal_error": "Something went wrong on the portal's side; its log says what.",
}
