"""What a call is made of: whom it is for, and what it asks."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from provider_federation.protocol import Key

from provider_federation.kit.problem import Problem

READS = frozenset({"GET", "HEAD"})
_METHODS = READS | {"POST", "PUT", "PATCH", "DELETE"}
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]+)?")


@dataclass(frozen=True)
class Target:
    """One instance as the shim needs it. `name` is the instance name its key is bound to, `org_id` the
    contract's org.

    `private_hosts` are the names or addresses outside the public Internet that may be called all the same.
    `key_problem` says why there is no `key`; without one only calls with `signed=False` are possible. `scope`
    is what is asked for, at most the key's ceiling. `answers` are the keys whose answers to a v2 call count;
    an hmac-sha256 key counts for its own calls without being named.
    """

    name: str
    base_url: str
    org_id: str
    key: Key | None = field(repr=False)
    scope: str = "provider"
    private_hosts: tuple[str, ...] = ()
    key_problem: str = "this instance has no key"
    answers: tuple[Key, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Call:
    """One request. `path` is sent as it is (already percent-encoded; it may carry a query); `query` is
    encoded by us and added to it, None left out.

    `body` is a JSON value (None: no body). `timeout` is the deadline in seconds for the whole call, retries
    included; `max_bytes` bounds the decoded answer. A write gets an idempotency key when none is given; it
    stays the same over every attempt of this `Call` object. `signed=False` sends no signature.
    """

    method: str
    path: str
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    body: Any = None
    idempotency_key: str = ""
    timeout: float = 15.0
    max_bytes: int = 4_194_304
    attempts: int = 3
    signed: bool = True

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise Problem(400, "bad_method", f"A call's method is one of {', '.join(sorted(_METHODS))}.")
        if not _PATH.fullmatch(self.path):
            raise Problem(400, "bad_target", "A call's path starts with a slash and is percent-encoded.")
        if self.write and not self.idempotency_key:
            object.__setattr__(self, "idempotency_key", secrets.token_urlsafe(24))

    @property
    def write(self) -> bool:
        return self.method not in READS

    @property
    def target(self) -> str:
        """Path and query exactly as they are signed and sent."""
        query = urlencode(
            {name: str(value) for name, value in self.query.items() if value is not None}, quote_via=quote
        )
        if not query:
            return self.path
        return self.path + ("&" if "?" in self.path else "?") + query

    @property
    def content(self) -> bytes:
        """The body's bytes: compact JSON in UTF-8, or nothing."""
        if self.body is None:
            return b""
        return json.dumps(self.body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
