"""The gate of an instance: one for the portal's keys, and one for the enrolment route, where codes sign."""

from __future__ import annotations

import json
from collections.abc import Mapping

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.asgi_answer import send_response
from provider_federation.adapters.gate import FailureCounter
from provider_federation.instance.federation import services
from provider_federation.instance.federation.keyring import (
    InvitationKeyring,
    LiveKeyring,
    Snapshot,
    read_snapshot,
)
from provider_federation.instance.federation.replay import replay_store
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger
from provider_federation.kit.web.rim import App, Receive, Scope, Send
from provider_federation.protocol import MemoryRatchet, Policy, Response

ENROL_PATH = "/api/federation/enrol"
_log = get_logger("federation")
_NO_KEYS = {"ok": False, "error": "The keys cannot be read now; try again.", "reason": "database_unavailable"}
_UNAVAILABLE = Response(503, [("Content-Type", "application/json")], json.dumps(_NO_KEYS).encode())


class _FailuresByCode(FailureCounter):
    """Noise that names no code hides no guess at one, whoever shares an address with whom."""

    def count(self, name: str, now: float) -> int:
        return super().count(name, now) if name.startswith("key ") else 0


class FederationGate:
    """ASGI: reads who may sign now, then lets the right gate decide. A code opens its one route and no other."""

    def __init__(self, app: App) -> None:
        federation = settings.FEDERATION
        self._live = LiveKeyring()
        self._asked = self._shown = 0
        self._main = FederationMiddleware(
            app,
            keyring=self._live,
            policy=federation.policy,
            replay=replay_store(),
            now=clock.timestamp,
            enabled=federation.enabled,
            on_refused=_tell,
        )
        self._enrolment = FederationMiddleware(
            app,
            keyring=InvitationKeyring(self._live),
            policy=_enrolment_policy(federation.policy),
            replay=replay_store(),
            now=clock.timestamp,
            enabled=federation.enabled,
            on_refused=_tell_bad_try,
            ratchet=MemoryRatchet(),  # a code is nobody's key yet: the pair moves to v2 by the one that it brings
            failures=_FailuresByCode(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        names = (name.decode("latin-1") for name, _ in scope.get("headers", ()))
        if scope["type"] == "http" and self._main.gate.concerns(names):
            try:
                await self._look()
            except DatabaseError:
                _log.warning("keys cannot be read", exc_info=True)
                await send_response(scope, send, _UNAVAILABLE, last=True)
                return
            self._main.gate.response_key = self._live.snapshot.response_key
        gate = self._enrolment if scope.get("path") == ENROL_PATH else self._main
        await gate(scope, receive, send)

    async def _look(self) -> None:
        self._asked += 1
        mine = self._asked
        snapshot = await _fresh()
        # Others who began after us may have shown theirs: a key that we still read may have ended between.
        if mine > self._shown:
            self._shown, self._live.snapshot = mine, snapshot


def _enrolment_policy(policy: Policy) -> Policy:
    return Policy(
        instance=policy.instance,
        org=policy.org,
        authorities=policy.authorities,
        accept=("hmac-sha256",),
        skew=policy.skew,
        max_body=policy.max_body,
    )


def _read() -> Snapshot:
    try:
        return read_snapshot()
    finally:
        connection.close()


_fresh = sync_to_async(_read, thread_sensitive=False)


def _tell(code: str, facts: Mapping[str, str | None]) -> None:
    _log.warning("refused", code=code, **facts)


def _tell_bad_try(code: str, facts: Mapping[str, str | None]) -> None:
    """The gate calls it in a thread."""
    _tell(code, facts)
    try:
        services.note_bad_try(facts.get("key_id") or "")
    finally:
        connection.close()
