"""What every framework adapter does the same way around `verify`: no framework and no socket in here."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, AnyStr, Required, TypedDict, TypeVar

from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryRatchet,
    Policy,
    Principal,
    Ratchet,
    Refused,
    ReplayStore,
    Request,
    Response,
    answer_key,
)
from provider_federation.protocol.claims import Claim, key_fault
from provider_federation.protocol.core import check_head, finish, verify_fields
from provider_federation.protocol.fields import content_digest
from provider_federation.protocol.grammar import SAFE_METHODS, carries_federation
from provider_federation.protocol.responses import asked_by, sign_bytes
from provider_federation.protocol.values import Head

T = TypeVar("T")

MAX_ANSWER = 8 * 1024 * 1024

_log = logging.getLogger(__name__)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@%]+)*", re.ASCII)
_BODILESS = frozenset({204, 205, 304})
# What a signed answer has once, from here; the app's own would belong to the answer before it was complete.
_OURS = frozenset({"content-length", "transfer-encoding", "content-digest", "signature", "signature-input"})
OURS = frozenset(name.encode() for name in _OURS)
_UNTYPED = b"application/octet-stream"

OnRefused = Callable[[str, Mapping[str, str | None]], None]


class GateOptions(TypedDict, total=False):
    """The keywords of `Gate`, for adapters that take them over."""

    keyring: Required[Keyring]
    policy: Required[Policy]
    replay: Required[ReplayStore]
    ratchet: Ratchet | None
    response_key: Key | None
    prefix: str
    now: Callable[[], float]
    enabled: bool
    on_refused: OnRefused | None
    failures: FailureCounter | None
    max_answer: int


class FailureCounter:
    """Counts failures by name within a minute; bounded, the oldest name is forgotten first."""

    def __init__(self, limit: int = 100, window: float = 60.0, capacity: int = 4096) -> None:
        self.limit = limit
        self._window = window
        self._capacity = capacity
        self._counts: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def count(self, name: str, now: float) -> int:
        """One more failure of `name`; how many that makes in its window."""
        with self._lock:
            since, count = self._counts.pop(name, (now, 0))
            if not 0 <= now - since < self._window:
                since, count = now, 0
            if len(self._counts) >= self._capacity:
                del self._counts[next(iter(self._counts))]
            self._counts[name] = (since, count + 1)
            return count + 1


class Gate:
    """Verifies requests and signs answers, with one keyring, policy and replay store.

    An adapter asks `concerns`, `check_head` before the body, `admit` with it, and hands the app's answer to
    `answer` where `signer` gives a key; a Refused it hands to `refuse`. Nothing else is ever raised.

    `ratchet` is kept by the replay store where that can (the SQLite and PostgreSQL ones), else in memory.
    `response_key` is the ed25519 key that this deployment signs its answers with. `prefix` is what a proxy
    takes off the path before the app sees it: "/tenant" when the signer signed "/tenant/a" and "/a" arrives.
    `now` gives seconds since 1970 UTC. `on_refused(code, facts)` gets the exact code for the audit log, and
    method, path, peer and key_id; what is rate limited is told once a minute. With `enabled=False` every
    request is an anonymous one. `max_answer` is how many bytes of an answer are held to be signed.
    """

    def __init__(
        self,
        *,
        keyring: Keyring,
        policy: Policy,
        replay: ReplayStore,
        ratchet: Ratchet | None = None,
        response_key: Key | None = None,
        prefix: str = "",
        now: Callable[[], float] = time.time,  # noqa: TID251  kit is out of reach here; our own apps pass its clock
        enabled: bool = True,
        on_refused: OnRefused | None = None,
        failures: FailureCounter | None = None,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError('a prefix is a path like "/tenant", without a slash at its end')
        if replay is None:
            raise TypeError(
                "a gate needs a replay store: without one a signed write is accepted again and again"
            )
        self.keyring, self.policy, self.replay, self.now = keyring, policy, replay, now
        self.ratchet = ratchet or _ratchet_of(replay)
        # Whether `verify` and `admit` do I/O and belong in a thread.
        self.blocking = any(getattr(store, "blocking", False) for store in (replay, self.ratchet))
        self.response_key = response_key
        self.prefix = prefix
        self.enabled = enabled
        self.on_refused = on_refused
        self.failures = failures or FailureCounter()
        self.max_answer = max_answer

    def most_body(self) -> int:
        """How many bytes a request's body may have."""
        return _guarded(lambda: self.policy.max_body)

    def concerns(self, names: Iterable[str]) -> bool:
        """Whether a request with these header names is a federation request here."""
        return self.enabled and carries_federation(names)

    def verify(
        self, head: Head, fields: Mapping[bytes, bytes], count: int
    ) -> tuple[Principal, Key | None] | None:
        """The principal and the key to answer with, for a request whose body is there; Refused.

        The same as `check_head`, `admit` and `signer`, and quicker; where it gives None these have to look. Its
        `count` headers are in `fields`.
        """
        if not head.authority:
            return None
        ring, now = self.keyring, self.now
        try:
            principal = verify_fields(
                head, fields, count, ring, self.policy, now(), self.replay, self.ratchet
            )
            if principal is None:
                return None
            key = ring.get(principal.key_id) if principal.scheme == "v2" else None
        except Refused:
            raise
        except Exception:  # noqa: BLE001  as `_guarded`, which would cost two calls
            raise _fault() from None
        if head.method not in SAFE_METHODS and not principal.may_write:
            raise Refused("scope_not_allowed", key_id=principal.key_id, signer=key)
        return principal, key and answer_key(key, self.response_key)

    def check_head(self, request: Request) -> Claim:
        """What the request's head proves; Refused where that is certain before the body is read.

        `request.body` is empty then. An adapter that has read it already may say so.
        """
        claim = _guarded(lambda: check_head(request, self.keyring, self.policy, self.now()))
        if not request.authority:
            raise Refused("bad_framing")
        return claim

    def admit(self, claim: Claim, request: Request, body: bytes) -> Principal:
        """The principal once the body is there, or Refused: also when the key has ended while it came."""
        _guarded(lambda: self._check_still_there(claim))
        principal = _guarded(
            lambda: finish(claim, body, self.policy, now=self.now(), replay=self.replay, ratchet=self.ratchet)
        )
        if request.method not in SAFE_METHODS and not principal.may_write:
            signer = claim.key if claim.scheme == "v2" else None
            raise Refused("scope_not_allowed", key_id=claim.key.id, signer=signer)
        return principal

    def _check_still_there(self, claim: Claim) -> None:
        key = self.keyring.get(claim.key.id)
        fault = "unknown_key" if key is None else key_fault(key, self.now())
        if fault:
            raise Refused(fault, key_id=claim.key.id)

    def signer(self, claim: Claim) -> Key | None:
        """The key to answer this claim with; None is an answer that goes out as the app made it."""
        return answer_key(claim.key, self.response_key) if claim.scheme == "v2" else None

    def answer(self, response: Response, request: Request, signer: Key) -> Response:
        """The app's answer, signed. `response.body` is more than `max_answer` bytes long: then a signed 500."""
        if len(response.body) > self.max_answer:
            response = _failure(500, "response_too_large", "The answer is too large to be signed.")
        try:
            return _guarded(lambda: self._signed(response, request, signer))
        except Refused as refused:
            return refusal(refused)

    def failed(self, request: Request, signer: Key) -> Response:
        """What to answer, signed, when the app raised instead of answering."""
        return self.answer(_failure(500, "handler_failed", "The app failed to answer."), request, signer)

    def _signed(self, response: Response, request: Request, signer: Key) -> Response:
        kept, types = sift(response.headers, _OURS, "content-type")
        body, added = self.complete(
            response.status, [one.encode("latin-1") for one in types], response.body,
            request.method, asked_by(request).encode(), signer,
        )  # fmt: skip
        headers = kept + [(name.decode().title(), value.decode()) for name, value in added]
        return Response(response.status, headers, body)

    def complete(
        self, status: int, types: list[bytes], body: bytes, method: str, asked: bytes, signer: Key
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The body to send, and the headers that an answer still needs, its signature among them; Refused.

        `types` are the app's Content-Types, `asked` is the signature that is answered, as `asked_by` gives it.
        """
        added = []
        try:
            if method == "HEAD" or status in _BODILESS:
                body = b""
            else:
                added.append((b"content-length", b"%d" % len(body)))
            if not types:
                added.append((b"content-type", _UNTYPED))
            digest = content_digest(body).encode()
            (content_type,) = types or (_UNTYPED,)  # two are a fault of the app's
            signature_input, signature = sign_bytes(
                status, digest, content_type, asked, signer, now=self.now()
            )
        except Exception:  # noqa: BLE001  as `_guarded`, which would cost two calls
            raise _fault() from None
        added += (
            (b"content-digest", digest), (b"signature-input", signature_input), (b"signature", signature)
        )  # fmt: skip
        return body, added

    def refuse(self, refused: Refused, request: Request) -> Response:
        """Counts and audits a refusal; the answer to it, signed where the request's own signature was good.

        Only failures are limited. A good signature always passes, so that nobody can lock a portal out by
        failing in its name; what the limit saves is the audit log.
        """
        try:
            answered = _guarded(lambda: self._report(refused, request))
        except Refused as fault:
            answered = fault
        if refused.status >= 500 and refused.__cause__ is not None:
            _log.error("a federation request was refused: %s", refused.code, exc_info=refused.__cause__)
        response = refusal(answered)
        signer = refused.signer and answer_key(refused.signer, self.response_key)
        return self.answer(response, request, signer) if signer else response

    def _report(self, refused: Refused, request: Request) -> Refused:
        over = 0
        if refused.status == 401:
            now = self.now()
            counted = [self.failures.count(f"peer {request.peer}", now)]
            if refused.key_id is not None:
                counted.append(self.failures.count(f"key {refused.key_id}", now))
            over = max(counted) - self.failures.limit
        answer = Refused("rate_limited", key_id=refused.key_id) if over > 0 else refused
        if self.on_refused is not None and over <= 1:
            path = request.target.partition("?")[0]
            facts = {"method": request.method, "path": path, "peer": request.peer, "key_id": refused.key_id}
            self.on_refused(answer.code, facts)
        return answer


def require(principal: Principal | None, *, may_write: bool) -> Principal:
    """The Principal that a route asks for, or Refused."""
    if principal is None:
        raise Refused("missing_headers")
    if may_write and not principal.may_write:
        raise Refused("scope_not_allowed", key_id=principal.key_id)
    return principal


def sift(
    headers: Iterable[tuple[AnyStr, AnyStr]], ours: frozenset[AnyStr], content_type: AnyStr
) -> tuple[list[tuple[AnyStr, AnyStr]], list[AnyStr]]:
    """The app's headers without those in `ours`, and the values of those that are called `content_type`."""
    kept, types = [], []
    for pair in headers:
        name = pair[0].lower()
        if name not in ours:
            kept.append(pair)
            if name == content_type:
                types.append(pair[1])
    return kept, types


def check_length(declared: str, limit: int) -> int:
    """The bytes that a Content-Length declares; Refused where that is no number, or more than `limit`."""
    if not (declared.isascii() and declared.isdigit()):
        raise Refused("bad_framing")
    if len(declared) > 15 or int(declared) > limit:
        raise Refused("body_too_large")
    return int(declared)


def _ratchet_of(replay: Any) -> Ratchet:
    return replay if hasattr(replay, "is_set") and hasattr(replay, "set") else MemoryRatchet()


def refusal(refused: Refused) -> Response:
    """The answer to it, not signed."""
    return _failure(refused.status, refused.public_code, refused.message)


def _failure(status: int, reason: str, error: str) -> Response:
    body = json.dumps({"ok": False, "error": error, "reason": reason}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    return Response(status, headers, body)


def _guarded(step: Callable[[], T]) -> T:
    """What a fault in here becomes: a refusal that says nothing, never the handler."""
    try:
        return step()
    except Refused:
        raise
    except Exception:  # noqa: BLE001  logged, and answered as a 500 that tells nothing
        raise _fault() from None


def _fault() -> Refused:
    _log.exception("a federation request could not be checked")
    return Refused("internal_error")
