"""What every signing adapter does the same way around `sign` and `verify_response`: no HTTP client in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from provider_federation.protocol import Key, Keyring, Refused, Request, Response, sign, verify_response
from provider_federation.protocol.values import MODERN_ALGORITHMS

Pairs = list[tuple[str, str]]

# An answer belongs to exactly one request by that request's own signature, made a moment ago with a fresh nonce.
# Its time says nothing more, and an instance whose clock is wrong has to be able to tell us so.
_ANY_CLOCK = 4e9


class AnswerRefused(Exception):
    """An answer that counts as none: whether the instance acted is not known.

    `code` is `unsigned_answer`, `wrongly_bound_answer` or `redirect_refused`; `status` is what the answer claimed.
    """

    def __init__(self, code: str, status: int, detail: str = "") -> None:
        super().__init__(f"{code} (status {status}{f', {detail}' if detail else ''})")
        self.code = code
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Signer:
    """Signs for one instance, and holds its answers to their signature.

    `instance` is the name it goes by; `answers` the keys that its answers may be signed with (an hmac-sha256 key
    is accepted for its own requests without being named). `now` gives seconds since 1970 UTC. With a legacy key
    answers are not signed, and none is checked.
    """

    key: Key
    instance: str | None = None
    org: str | None = None
    scope: str | None = "provider"
    answers: tuple[Key, ...] = field(default=())
    now: Callable[[], float] = time.time  # noqa: TID251  kit is out of reach here; our own apps pass its clock

    @property
    def modern(self) -> bool:
        """Whether answers are signed."""
        return self.key.algorithm in MODERN_ALGORITHMS

    def sign(self, request: Request) -> Request:
        """`request` with its signature, made now and with a nonce of its own; one for each attempt.

        Raises CannotSign, a ValueError.
        """
        added = sign(
            request, self.key, now=self.now(), scope=self.scope, instance=self.instance, org=self.org
        )
        return replace(request, headers=[*request.headers, *added])

    def check(self, request: Request, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """AnswerRefused unless this is the answer to `request`, as `sign` returned it, by one of our keys."""
        if 300 <= status < 400:
            raise AnswerRefused("redirect_refused", status)
        if not self.modern:
            return
        response = Response(status, list(headers), body)
        if not _has(response.headers, "signature"):
            raise AnswerRefused("unsigned_answer", status)
        try:
            verify_response(response, request, self._keyring(), now=self.now(), skew=_ANY_CLOCK)
        except Refused as refused:
            raise AnswerRefused("wrongly_bound_answer", status, refused.code) from None

    def _keyring(self) -> Keyring:
        own = (self.key,) if self.key.algorithm == "hmac-sha256" else ()
        named = {key.id for key in self.answers}
        return Keyring([*self.answers, *(key for key in own if key.id not in named)])


def _has(headers: Pairs, name: str) -> bool:
    return any(given.lower() == name for given, _ in headers)
