"""What the apps of one server process share with the test: the clock, what they saw, what was refused."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.attacks.servers.keys import KEYRING, MAX_ANSWER, NOW, POLICY, RESPONSE
from tests.unit.protocol.vector_files import keyring_of, load, policy_of

from provider_federation.adapters.gate import FailureCounter, Gate
from provider_federation.protocol import Keyring, MemoryRatchet, MemoryReplayStore, Policy

now = NOW
seen: list[dict[str, Any]] = []
refused: list[tuple[str, dict[str, Any]]] = []
_gates: list[Gate] = []


def gate(**options: Any) -> Gate:
    """A gate with memories of its own."""
    _gates.append(Gate(**{
        "keyring": KEYRING,
        "policy": POLICY,
        "replay": MemoryReplayStore(),
        "response_key": RESPONSE,
        "now": lambda: now,
        "on_refused": lambda code, facts: refused.append((code, dict(facts))),
        "failures": FailureCounter(limit=1_000_000),
        "max_answer": MAX_ANSWER,
    } | options))  # fmt: skip
    return _gates[-1]


def facts(principal: Any, **facts: Any) -> dict[str, Any]:
    """What an app saw, remembered and to be answered."""
    known = {
        "key": principal and principal.key_id,
        "scope": principal and principal.scope,
        "scheme": principal and principal.scheme,
    }
    seen.append(facts | known)
    return seen[-1]


def control(body: bytes) -> bytes:
    """A new test: nothing was used yet. `{"now": …, "file": …, "case": …}` sets the clock, and the keys and policy
    of that case in a file of vectors. Answers what was seen and refused so far.
    """
    global now  # noqa: PLW0603  it is the process's clock
    wanted = json.loads(body or b"{}")
    now = wanted.get("now", NOW)
    keyring, policy = _of_vector(wanted["file"], wanted["case"]) if "file" in wanted else (KEYRING, POLICY)
    for known in _gates:
        known.replay, known.ratchet = MemoryReplayStore(), MemoryRatchet()
        known.keyring, known.policy = keyring, policy
    told = json.dumps({"seen": seen, "refused": refused}).encode()
    seen.clear()
    refused.clear()
    return told


def _of_vector(name: str, number: int) -> tuple[Keyring, Policy]:
    content = _load(name)
    return keyring_of(content), policy_of(content["policy"], **content["cases"][number].get("policy", {}))


_load = cache(load)
