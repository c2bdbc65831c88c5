"""What the gate decides, without a framework: faults, limits, ratchets, who signs, what an adapter may be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from provider_federation.adapters.environment import gate_from_environment
from provider_federation.adapters.gate import FailureCounter, Gate
from provider_federation.adapters.replay import PostgresReplayStore, SqliteReplayStore
from provider_federation.protocol import (
    Key,
    Keyring,
    MemoryReplayStore,
    Policy,
    Refused,
    Request,
    Response,
    sign,
    verify_response,
)
from provider_federation.protocol.config import ConfigurationError

NOW = 1_790_000_000.0
SECRET = "secret-of-the-house"
HMAC = Key("hmac", "hmac-sha256", b"a secret of 32 bytes for v2 ....")
LEGACY = Key("legacy", "sha256", b"a secret of thirty-two bytes ...")
POLICY = Policy(instance="acme", accept=("sha256", "hmac-sha256", "ed25519"))


def make(**options: Any) -> Gate:
    return Gate(**{
        "keyring": Keyring([HMAC, LEGACY]), "policy": POLICY, "replay": MemoryReplayStore(), "now": lambda: NOW,
    } | options)  # fmt: skip


def request(
    key: Key = HMAC, method: str = "POST", *, now: float = NOW, host: str = "acme.example"
) -> Request:
    bare = Request(method, "/a", host, [("Host", host)] if host else [], b"", "10.0.0.9")
    headers = [*bare.headers, *sign(bare, key, now=now, instance="acme")]
    return Request(method, "/a", host, headers, b"", "10.0.0.9")


def refusal_of(gate: Gate, head: Request, body: bytes = b"") -> Refused:
    with pytest.raises(Refused) as caught:
        gate.admit(gate.check_head(head), head, body)
    return caught.value


def run_asgi(gate: Gate, head: Request, app: Callable[..., Any] | None = None) -> tuple[int, bytes, int]:
    """Status, body, and how often the app ran."""
    import asyncio

    from provider_federation.adapters.asgi import FederationMiddleware

    ran, sent = [], []

    async def handler(_scope: Any, _receive: Any, send: Any) -> None:
        ran.append(1)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": b"done"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": head.method, "raw_path": b"/a", "path": "/a", "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in head.headers], "client": ("10.0.0.9", 1),
    }  # fmt: skip
    asyncio.run(FederationMiddleware(app or handler, gate=gate)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], len(ran)


def run_wsgi(gate: Gate, head: Request) -> tuple[int, bytes, int]:
    import io

    from provider_federation.adapters.wsgi import FederationMiddleware

    ran, started = [], []

    def handler(_environ: Any, start_response: Any) -> list[bytes]:
        ran.append(1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    environ = {"REQUEST_METHOD": head.method, "RAW_URI": "/a", "PATH_INFO": "/a", "REMOTE_ADDR": "10.0.0.9",
               "wsgi.input": io.BytesIO()}  # fmt: skip
    environ |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in head.headers}
    body = FederationMiddleware(handler, gate=gate)(environ, lambda *start: started.append(start))
    return int(started[0][0].split()[0]), b"".join(body), len(ran)


class Faulty:
    """Raises wherever it is touched."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(SECRET)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


class FaultyMemory:
    """A replay store and ratchet that is down."""

    remember = is_set = set = fail


class FailsAt:
    """A clock that fails at its n-th reading."""

    def __init__(self, turn: int) -> None:
        self.turn = turn

    def __call__(self) -> float:
        self.turn -= 1
        if self.turn == 0:
            raise RuntimeError(SECRET)
        return NOW


@pytest.mark.parametrize("run", [run_asgi, run_wsgi])
@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("keys", {"keyring": Faulty()}),
        ("policy", {"policy": Faulty()}),
        ("clock at the head", {"now": FailsAt(1)}),
        ("clock at admission", {"now": FailsAt(2)}),
    ],
)
def test_threat_095_a_fault_before_the_handler_never_reaches_it(run, step, options, caplog) -> None:
    options = {
        name: FailsAt(value.turn) if isinstance(value, FailsAt) else value for name, value in options.items()
    }
    asked = request()
    asked.headers.append(
        ("Expect", "100-continue")
    )  # so that the head is looked at before the body everywhere
    status, body, ran = run(make(**options), asked)
    assert (status, ran) == (500, 0)
    assert b"internal_error" in body
    assert SECRET.encode() not in body
    assert SECRET in caplog.text  # where the operator looks


@pytest.mark.parametrize("run", [run_asgi, run_wsgi])
@pytest.mark.parametrize(
    "options", [{"replay": FaultyMemory()}, {"ratchet": FaultyMemory()}], ids=["replay", "ratchet"]
)
def test_threats_005_095_a_fault_of_a_memory_is_a_503(run, options, caplog) -> None:
    status, body, ran = run(make(**options), request())
    assert SECRET in caplog.text  # why it was down, where the operator looks
    assert (status, ran) == (503, 0)
    assert b"replay_store_unavailable" in body
    assert SECRET.encode() not in body


@pytest.mark.parametrize("run", [run_asgi, run_wsgi])
@pytest.mark.parametrize("options", [{"on_refused": fail}, {"failures": Faulty()}], ids=["audit", "counter"])
def test_threat_095_a_fault_while_refusing(run, options) -> None:
    bad = Request(
        "POST",
        "/a",
        "acme.example",
        [("Host", "acme.example"), ("X-Provider-Scope", "read")],
        b"",
        "10.0.0.9",
    )
    status, body, ran = run(make(**options), bad)
    assert (status, ran) == (500, 0)
    assert b"internal_error" in body
    assert SECRET.encode() not in body


@pytest.mark.parametrize("run", [run_asgi, run_wsgi])
def test_threat_095_a_fault_while_signing_the_answer_gives_nothing_of_it_away(run, monkeypatch) -> None:
    monkeypatch.setattr("provider_federation.adapters.gate.sign_bytes", fail)
    status, body, ran = run(make(), request())
    assert (status, ran) == (500, 1)
    assert b"internal_error" in body
    assert b"done" not in body
    assert SECRET.encode() not in body


def test_threat_095_a_body_that_cannot_be_read() -> None:
    """The caller left: nobody is answered, nothing runs."""
    import asyncio

    from provider_federation.adapters.asgi import FederationMiddleware

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    head = request()
    scope = {"type": "http", "method": "POST", "raw_path": b"/a", "query_string": b"",
             "headers": [(name.lower().encode(), value.encode()) for name, value in head.headers]}  # fmt: skip
    asyncio.run(FederationMiddleware(fail, gate=make())(scope, receive, fail))


def test_an_app_that_leaves_its_answer_unfinished() -> None:
    async def nothing(_scope: Any, _receive: Any, _send: Any) -> None: ...

    async def half(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    for app in (nothing, half):
        status, body, _ = run_asgi(make(), request(), app)
        assert (status, b"handler_failed" in body, b"half" in body) == (500, True, False)


def test_threat_089_where_federation_is_off_nothing_is_looked_at() -> None:
    gate = make(enabled=False, keyring=Faulty())
    assert not gate.concerns(name for name, _ in request().headers)
    assert run_asgi(gate, request()) == (200, b"done", 1)
    assert run_wsgi(gate, request()) == (200, b"done", 1)


def test_threat_097_failures_are_limited_and_nobody_is_locked_out() -> None:
    told: list[Any] = []
    gate = make(
        failures=FailureCounter(limit=20), on_refused=lambda code, facts: told.append((code, dict(facts)))
    )
    late = request(now=NOW - 1000)
    outcomes = [gate.refuse(refusal_of(gate, late), late) for _ in range(40)]
    assert [answer.status for answer in outcomes] == [401] * 20 + [429] * 20
    assert [code for code, _ in told] == ["timestamp_out_of_window"] * 20 + ["rate_limited"]
    assert told[0][1] == {"method": "POST", "path": "/a", "peer": "10.0.0.9", "key_id": "hmac"}
    good = request()
    assert gate.admit(gate.check_head(good), good, b"")
    other = Request("GET", "/a", "a", [("X-Provider-Scope", "read")], b"", "10.0.0.8")
    assert gate.refuse(Refused("missing_headers"), other).status == 401


def test_a_rate_limited_refusal_is_signed_like_the_one_it_stands_for() -> None:
    gate = make(failures=FailureCounter(limit=0))
    late = request(now=NOW - 1000)
    answer = gate.refuse(refusal_of(gate, late), late)
    assert answer.status == 429
    assert verify_response(answer, late, Keyring([HMAC]), now=NOW).id == "hmac"


def test_threat_066_without_a_ratchet_given_there_is_one_all_the_same(tmp_path) -> None:
    store = SqliteReplayStore(tmp_path / "replay.sqlite3")
    for gate in (make(), make(replay=store)):
        legacy = request(LEGACY, "GET")
        assert gate.admit(gate.check_head(legacy), legacy, b"").scheme == "legacy"
        modern = request()
        assert gate.admit(gate.check_head(modern), modern, b"").scheme == "v2"
        assert refusal_of(gate, legacy).code == "downgrade_refused"
    assert store.ratchets() == {"": NOW}
    assert (
        refusal_of(make(replay=store), legacy).code == "downgrade_refused"
    )  # another process, after a restart
    store.reset("")
    assert make(replay=store).admit(gate.check_head(legacy), legacy, b"")
    store.close()


def test_who_signs_the_answer() -> None:
    ours = Key("ours", "hmac-sha256", b"another secret of 32 bytes .....")
    for gate, signer in ((make(), "hmac"), (make(response_key=ours), "ours")):
        head = request()
        key = gate.signer(gate.check_head(head))
        assert key is not None
        answer = gate.answer(Response(200, [("Content-Type", "text/plain")], b"x"), head, key)
        assert verify_response(answer, head, Keyring([HMAC, ours]), now=NOW).id == signer
    assert make().signer(make().check_head(request(LEGACY))) is None


def test_an_answer_is_completed_before_it_is_signed() -> None:
    """A type where the app gave none, one length, and no digest or signature but ours."""
    gate, head = make(), request()
    given = [
        ("Content-Digest", "sha-256=:AA==:"),
        ("Signature", "x"),
        ("content-length", "9"),
        ("Transfer-Encoding", "chunked"),
    ]
    answer = gate.answer(Response(200, given, b"abc"), head, HMAC)
    names = [name.lower() for name, _ in answer.headers]
    assert sorted(names) == [
        "content-digest",
        "content-length",
        "content-type",
        "signature",
        "signature-input",
    ]
    assert dict(answer.headers)["Content-Length"] == "3"
    assert dict(answer.headers)["Content-Type"] == "application/octet-stream"
    assert verify_response(answer, head, Keyring([HMAC]), now=NOW)


def test_a_request_without_a_host_is_unclear_framing() -> None:
    assert refusal_of(make(), request(LEGACY, host="")).code == "bad_framing"


@pytest.mark.parametrize("prefix", ["tenant", "/tenant/", "/", "/te nant", "/a?b", "/a#b"])
def test_a_prefix_that_is_none(prefix) -> None:
    with pytest.raises(ValueError, match="prefix"):
        make(prefix=prefix)


# From the environment

KEYS = '{"hmac": {"algorithm": "hmac-sha256", "secret": "Zc0yqvW2mT8uXf4hJ7kLr9sPd1aGb5nE"}}'


def test_a_gate_from_the_environment(tmp_path, caplog) -> None:
    path = tmp_path / "used.sqlite3"
    values = {"PROVIDER_FEDERATION_ENABLED": "1", "PROVIDER_KEYS_JSON": KEYS, "INSTANCE_NAME": "acme",
              "PROVIDER_REPLAY_STORE": str(path), "PROVIDER_PUBLIC_PREFIX": "/tenant"}  # fmt: skip
    gate = gate_from_environment(values, now=lambda: NOW)
    assert (gate.enabled, gate.policy.instance, gate.prefix, gate.blocking) == (True, "acme", "/tenant", True)
    assert isinstance(gate.replay, SqliteReplayStore)
    assert gate.ratchet is gate.replay
    assert not path.exists()  # until it is used
    database = gate_from_environment(values | {"PROVIDER_REPLAY_STORE": "postgresql://127.0.0.1/x"})
    assert isinstance(database.replay, PostgresReplayStore)
    assert caplog.text == ""
    assert gate_from_environment({}).enabled is False
    assert "PROVIDER_FEDERATION_ENABLED" in caplog.text


@pytest.mark.parametrize(
    "values",
    [{"PROVIDER_PUBLIC_PREFIX": "tenant"}, {"PROVIDER_KEYS_JSON": "[]"}, {"PROVIDER_CLOCK_SKEW_SEC": "x"}],
)
def test_an_environment_that_cannot_be_meant_stops_the_process(values) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        gate_from_environment(values)
