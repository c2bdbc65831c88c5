"""Area A: what happens when the verifier is switched off, fails by itself, or is asked a thousand times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.attacks.threats_a.world import (
    BODY,
    ED25519,
    HMAC,
    KEYS,
    LEGACY,
    NOW,
    POLICY,
    running,
    signed,
    with_header,
)

from provider_federation.adapters.gate import FailureCounter, Gate
from provider_federation.protocol import (
    Keyring,
    MemoryReplayStore,
    Refused,
    Request,
    core,
    fields,
    modern,
    profile,
    signing,
)

GOOD = signed(HMAC, "POST", "/a", BODY)


class _Untouched(Keyring):
    def get(self, _key_id):
        raise AssertionError("the verifier was called")


def test_threat_089_with_federation_off_a_signed_request_is_an_anonymous_one():
    with running(enabled=False, keyring=_Untouched()) as instance:
        for key in (HMAC, ED25519, LEGACY):
            assert instance.accepts(signed(key))["key"] is None


class _Faulty(Keyring):
    def get(self, _key_id):
        raise RuntimeError("the password of the database is hunter2")


def _faulty_clock() -> float:
    raise RuntimeError("the password of the database is hunter2")


def _faulty_log(_code, _facts):
    raise RuntimeError("the password of the database is hunter2")


@pytest.mark.parametrize("fault", [{"keyring": _Faulty()}, {"now": _faulty_clock}], ids=["keyring", "clock"])
def test_threat_095_a_fault_in_the_verifier_never_reaches_the_app(fault):
    with running(**fault) as instance:
        for request in (GOOD, signed(LEGACY)):
            answer = instance.refuses(request, "internal_error", 500)
            assert b"hunter2" not in answer.received


def test_threat_095_a_fault_in_the_audit_log():
    with running(on_refused=_faulty_log) as instance:
        answer = instance.call(with_header(GOOD, "X-Provider-Scope", "read"))
        assert answer.outcome == (500, "internal_error")
        assert b"hunter2" not in answer.received
        assert instance.app.seen == []


def _admitted(gate: Gate, request: Request) -> str:
    """How an adapter asks; "accepted", or the code."""
    try:
        head = replace(request, body=b"")
        gate.admit(gate.check_head(head), head, request.body)
    except Refused as refused:
        assert "hunter2" not in str(refused.body())  # noqa: PT017  the caller says which code it must be
        return refused.code
    return "accepted"


def test_threat_095_a_fault_at_every_step_of_the_verifier(monkeypatch):
    """Each function that `verify` goes through, made to fail in turn."""
    steps = [
        (module, name)
        for module in (core, fields, modern, profile, signing)
        for name, value in vars(module).items()
        if callable(value) and not isinstance(value, type) and str(getattr(value, "__module__", "")).startswith("provider_")
    ]  # fmt: skip
    gate = Gate(keyring=Keyring(KEYS), policy=POLICY, replay=MemoryReplayStore(), now=lambda: NOW)
    faults, request = [], GOOD

    def fails(*_args, **_kwargs):
        faults.append(1)
        raise RuntimeError("the password of the database is hunter2")

    reached = set()
    for module, name in steps:
        faults.clear()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            gate.replay = MemoryReplayStore()
            code = _admitted(gate, request)
        assert code == ("internal_error" if faults else "accepted"), f"{module.__name__}.{name}"
        reached |= {name} if faults else set()
    assert reached >= {"read_headers", "check_shape", "is_good"}
    assert len(reached) > 5


def test_threat_097_a_thousand_bad_signatures():
    with running(failures=FailureCounter(limit=100)) as instance:
        forged = with_header(signed(HMAC), "X-Provider-Scope", "read")
        codes = [instance.call(forged).outcome for _ in range(150)]
        assert codes == [(401, "bad_signature")] * 100 + [(429, "rate_limited")] * 50
        assert [code for code, _ in instance.audit].count("rate_limited") == 1
        instance.accepts(signed(HMAC))
        instance.accepts(signed(ED25519))
